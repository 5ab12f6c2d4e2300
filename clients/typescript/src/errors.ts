import type { DescEnumValue } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorDetailSchema, ErrorReasonSchema, type ErrorDetail, type ErrorReason as Reason } from "../gen/parley/v1/error_reason_pb.js";

/**
 * Why something failed. Most come from the server and mean what its API says; these are the SDK's own:
 *
 * - `UNREACHABLE`: no answer that Parley gave (no network, no server, a proxy in between). Passes by itself.
 * - `STREAM_SILENT`: the stream said nothing for twice its heartbeat and was given up. Passes by itself.
 * - `NO_TOKEN`: the app's token provider failed.
 * - `STORE`: the local store failed; the SDK goes on without it until the next start.
 * - `STOPPED`: the client was stopped before the call had its answer.
 */
export type ErrorReason =
  | "UNSPECIFIED"
  | "TOKEN_MISSING"
  | "TOKEN_INVALID"
  | "TOKEN_EXPIRED"
  | "API_KEY_INVALID"
  | "USER_DEACTIVATED"
  | "DEVICE_REVOKED"
  | "NOT_ALLOWED"
  | "INVALID_FIELD"
  | "SESSION_UNAVAILABLE"
  | "MESSAGE_UNAVAILABLE"
  | "RECIPIENT_UNAVAILABLE"
  | "RECIPIENT_BLOCKED_BY_YOU"
  | "USER_UNAVAILABLE"
  | "DEVICE_UNAVAILABLE"
  | "RELATION_UNAVAILABLE"
  | "SELF_TARGET"
  | "ROLE_TOO_LOW"
  | "MUTED"
  | "LAST_OWNER"
  | "DIRECT_SESSION"
  | "GROUP_FULL"
  | "MESSAGE_ID_REUSED"
  | "MESSAGE_RECALLED"
  | "NOT_RECALLABLE"
  | "CURSOR_BEYOND_HEAD"
  | "CURSOR_INVISIBLE"
  | "EPOCH_CHANGED"
  | "PAGE_TOKEN_INVALID"
  | "REQUEST_TOO_LARGE"
  | "RATE_LIMITED"
  | "OVERLOADED"
  | "UNAVAILABLE"
  | "STREAM_DISPLACED"
  | "SHUTTING_DOWN"
  | "TOO_MANY_DEVICES"
  | "TOO_MANY_SESSIONS"
  | "INTERNAL"
  | "CALL_ENDED"
  | "TOO_MANY_RELATIONS"
  | "MESSAGE_REJECTED"
  | "MODERATION_UNAVAILABLE"
  | "WEBHOOK_UNAVAILABLE"
  | "WEBHOOKS_OFF"
  | "MODERATION_TAKEN"
  | "TOO_MANY_WEBHOOKS"
  | "UNREACHABLE"
  | "STREAM_SILENT"
  | "NO_TOKEN"
  | "STORE"
  | "STOPPED";

/** Reasons after which the same call may work later. All others are final: repeating changes nothing. */
const passing: ReadonlySet<ErrorReason> = new Set<ErrorReason>([
  "TOKEN_EXPIRED",
  "RATE_LIMITED",
  "OVERLOADED",
  "UNAVAILABLE",
  "MODERATION_UNAVAILABLE",
  "SHUTTING_DOWN",
  "INTERNAL",
  "UNSPECIFIED",
  "CALL_ENDED",
  "UNREACHABLE",
  "STREAM_SILENT",
  "NO_TOKEN",
  "STORE",
]);

/** Codes that, without a reason of Parley's, say that this is not Parley or that a proxy wants something else. */
const misplaced: ReadonlySet<Code> = new Set([
  Code.Unauthenticated,
  Code.PermissionDenied,
  Code.Unimplemented,
  Code.NotFound,
]);

/** What {@link ParleyError} is made of. */
export interface ParleyErrorInit {
  /** Overrides what the reason says about repeating. */
  readonly retryable?: boolean | undefined;
  /** The server's hint how long to wait at least, in milliseconds. */
  readonly retryAfterMs?: number | undefined;
  /** Facts for programs, such as `field`. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  /** What it was made from. */
  readonly cause?: unknown;
}

/**
 * The one kind of error that the SDK throws and reports. Throw one with `retryable: false` from a token provider to say
 * that the user is signed out for good.
 */
export class ParleyError extends Error {
  /** Always "ParleyError". */
  override readonly name = "ParleyError";
  /** Why. */
  readonly reason: ErrorReason;
  /** Whether repeating may help. False is terminal. */
  readonly retryable: boolean;
  /** Wait at least this long before repeating, in milliseconds; 0 without a hint. */
  readonly retryAfterMs: number;
  /** Facts for programs, such as `field`; never message bodies. */
  readonly metadata: Readonly<Record<string, string>>;

  /** Makes an error; the reason decides whether it is retryable unless `init` does. */
  constructor(reason: ErrorReason, message: string, init: ParleyErrorInit = {}) {
    super(message, init.cause === undefined ? undefined : { cause: init.cause });
    this.reason = reason;
    this.retryable = init.retryable ?? passing.has(reason);
    this.retryAfterMs = init.retryAfterMs ?? 0;
    this.metadata = init.metadata ?? {};
  }
}

/** Turns whatever was thrown by a call into a {@link ParleyError}. */
export function toParleyError(err: unknown): ParleyError {
  if (err instanceof ParleyError) return err;
  const ce = ConnectError.from(err);
  const detail = ce.findDetails(ErrorDetailSchema)[0];
  if (detail) return fromDetail(detail, ce.rawMessage, ce);
  if (ce.code === Code.DeadlineExceeded || ce.code === Code.Canceled) {
    return new ParleyError("CALL_ENDED", ce.rawMessage, { cause: ce });
  }
  return new ParleyError("UNREACHABLE", ce.rawMessage, { retryable: !misplaced.has(ce.code), cause: ce });
}

/** Turns the detail that the server sends with every refusal into a {@link ParleyError}. */
export function fromDetail(detail: ErrorDetail | undefined, message: string, cause?: unknown): ParleyError {
  const metadata = detail?.metadata ?? {};
  const after = Number(metadata["retry_after_ms"]);
  return new ParleyError(reasonName(detail?.reason ?? 0), message, {
    retryAfterMs: after > 0 ? Math.min(after, maxHintMs) : 0,
    metadata,
    cause,
  });
}

/** No hint is followed for longer than this. */
const maxHintMs = 60_000;

// A reason that a newer server knows and this SDK does not comes as UNSPECIFIED. The names are the descriptor's: the
// generated enum has each of them again, and is left out of what a page downloads when nothing uses it.
function reasonName(reason: Reason): ErrorReason {
  return ((ErrorReasonSchema.value[reason] as DescEnumValue | undefined)?.localName as ErrorReason | undefined) ?? "UNSPECIFIED";
}
