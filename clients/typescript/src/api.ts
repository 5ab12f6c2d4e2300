import { createClient, type CallOptions, type Client, type Transport } from "@connectrpc/connect";
import { MessageService } from "../gen/parley/v1/message_service_pb.js";
import { DeviceService } from "../gen/parley/v1/device_service_pb.js";
import { PresenceService } from "../gen/parley/v1/presence_service_pb.js";
import type { Relation as PbRelation, RelationKind } from "../gen/parley/v1/relation_pb.js";
import { RelationService } from "../gen/parley/v1/relation_service_pb.js";
import type { Session as PbSession } from "../gen/parley/v1/session_pb.js";
import { SessionService } from "../gen/parley/v1/session_service_pb.js";
import { StateService } from "../gen/parley/v1/state_service_pb.js";
import { SyncService, type SubscribeResponse } from "../gen/parley/v1/sync_service_pb.js";
import type { ErrorReason, ParleyError } from "./errors.js";
import { toParleyError } from "./errors.js";
import type { Credential } from "./token.js";

/** The bound on calls that are no streams. */
const callTimeoutMs = 15_000;

/** Reasons that ask for another token. */
export const tokenReasons: ReadonlySet<ErrorReason> = new Set(["TOKEN_MISSING", "TOKEN_INVALID", "TOKEN_EXPIRED"]);

/** The server as this device sees it: calls carry the token, are bounded, and throw ParleyErrors only. */
export class Api {
  readonly messages: Client<typeof MessageService>;
  readonly sessions: Client<typeof SessionService>;
  readonly states: Client<typeof StateService>;
  readonly sync: Client<typeof SyncService>;
  readonly presence: Client<typeof PresenceService>;
  readonly devices: Client<typeof DeviceService>;
  readonly relations: Client<typeof RelationService>;

  constructor(
    transport: Transport,
    readonly credential: Credential,
  ) {
    this.messages = createClient(MessageService, transport);
    this.sessions = createClient(SessionService, transport);
    this.states = createClient(StateService, transport);
    this.sync = createClient(SyncService, transport);
    this.presence = createClient(PresenceService, transport);
    this.devices = createClient(DeviceService, transport);
    this.relations = createClient(RelationService, transport);
  }

  /** Runs one unary call. A refused token is replaced and the call repeated, once. */
  async call<R>(fn: (api: this, options: CallOptions) => Promise<R>, signal?: AbortSignal): Promise<R> {
    for (let again = false; ; again = true) {
      const token = await this.credential.get();
      try {
        return await fn(this, { headers: bearer(token), timeoutMs: callTimeoutMs, ...(signal && { signal }) });
      } catch (err) {
        const error = this.#judge(err, token);
        if (again || !tokenReasons.has(error.reason)) throw error;
      }
    }
  }

  /** Opens the stream. */
  async *subscribe(
    request: Parameters<Client<typeof SyncService>["subscribe"]>[0],
    signal: AbortSignal,
  ): AsyncGenerator<SubscribeResponse> {
    const token = await this.credential.get();
    try {
      yield* this.sync.subscribe(request, { headers: bearer(token), signal });
    } catch (err) {
      throw this.#judge(err, token);
    }
  }

  /** All pages of the user's sessions. */
  async listSessions(signal?: AbortSignal): Promise<PbSession[]> {
    const all: PbSession[] = [];
    for (let pageToken = ""; ; ) {
      const page = await this.call((a, o) => a.sessions.listSessions({ limit: 200, pageToken }, o), signal);
      all.push(...page.sessions);
      pageToken = page.nextPageToken;
      if (pageToken === "") return all;
    }
  }

  /** All pages of the user's relations of a kind. */
  async listRelations(kind: RelationKind): Promise<PbRelation[]> {
    const all: PbRelation[] = [];
    for (let pageToken = ""; ; ) {
      const page = await this.call((a, o) => a.relations.listRelations({ kind, limit: 500, pageToken }, o));
      all.push(...page.relations);
      pageToken = page.nextPageToken;
      if (pageToken === "") return all;
    }
  }

  #judge(err: unknown, token: string): ParleyError {
    const error = toParleyError(err);
    if (tokenReasons.has(error.reason)) this.credential.reject(token);
    return error;
  }
}

function bearer(token: string): Record<string, string> {
  return { Authorization: `Bearer ${token}` };
}
