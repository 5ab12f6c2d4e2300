import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Event } from "../gen/parley/v1/event_pb.js";
import type { SubscribeRequestSchema } from "../gen/parley/v1/sync_service_pb.js";
import { tokenReasons, type Api } from "./api.js";
import { ParleyError, toParleyError } from "./errors.js";
import { pause, type ReconnectPolicy } from "./reconnect.js";

/** How long a stream may take to open; then it says its heartbeat itself. */
const openMs = 15_000;
/** How much longer than two heartbeats a stream may be silent. */
const slackMs = 1000;

/** What the stream loop needs from its owner. */
export interface StreamOwner {
  /** Does what must come before a stream. */
  prepare(signal: AbortSignal): Promise<void>;
  /** Where to resume. */
  position(): MessageInitShape<typeof SubscribeRequestSchema>;
  /** Takes what came, in order. The stream waits for it. */
  take(events: readonly Event[], signal: AbortSignal): Promise<void>;
  /** A stream ended, or could not be opened; another is tried. */
  connecting(error: ParleyError): void;
}

/**
 * Keeps the device's one stream open: opens it, watches its heartbeat, and after an end reconnects and resumes, with a
 * pause as the policy says. `run` resolves with the error after which no new stream may be opened.
 */
export class Subscription {
  #wake: (() => void) | undefined;
  #cut: ((error: ParleyError) => void) | undefined;
  #failures = 0;
  #tokensRefused = 0;

  constructor(
    private readonly api: Api,
    private readonly policy: ReconnectPolicy,
    private readonly owner: StreamOwner,
  ) {}

  /** Tries again now instead of after the pause. */
  wake(): void {
    this.#wake?.();
  }

  /** Ends the present stream; the next one is opened as after any other end. */
  cut(error: ParleyError): void {
    this.#cut?.(error);
  }

  async run(signal: AbortSignal): Promise<ParleyError> {
    this.#failures = this.#tokensRefused = 0;
    for (;;) {
      const error = await this.#once(signal);
      if (signal.aborted) return new ParleyError("STOPPED", "the client was stopped");
      // A refused token is replaced by a new one; if that is refused too, the provider has none that is good.
      const another = tokenReasons.has(error.reason) && this.#tokensRefused++ < 1;
      if (!error.retryable && !another) return error;
      this.owner.connecting(error);
      const ms = Math.max(error.retryAfterMs, this.policy.delayMs(this.#failures++, error));
      await pause(ms, signal, (resolve) => (this.#wake = resolve));
      this.#wake = undefined;
    }
  }

  // Runs one stream to its end and says why it ended.
  async #once(signal: AbortSignal): Promise<ParleyError> {
    const own = new AbortController();
    let why: ParleyError | undefined;
    const end = (error: ParleyError): void => {
      why ??= error;
      own.abort(error);
    };
    const stop = (): void => end(new ParleyError("STOPPED", "the client was stopped"));
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop);
    this.#cut = end;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let silenceMs = openMs;
    const watch = (): void => {
      clearTimeout(timer);
      timer = setTimeout(() => end(new ParleyError("STREAM_SILENT", "the stream went silent")), silenceMs);
    };
    try {
      await this.owner.prepare(own.signal);
      watch();
      for await (const { events } of until(own.signal, this.api.subscribe(this.owner.position(), own.signal))) {
        if (own.signal.aborted) break;
        clearTimeout(timer); // what is here is worked on; the stream is not to blame if that takes long
        for (const { kind } of events) {
          if (kind.case === "opened" && kind.value.heartbeatInterval) silenceMs = silenceOf(kind.value.heartbeatInterval);
          if (kind.case === "caughtUp") this.#failures = this.#tokensRefused = 0; // not before: a node that only opens streams is backed off from
        }
        await this.owner.take(events, own.signal);
        watch();
      }
      return why ?? new ParleyError("UNAVAILABLE", "the server ended the stream");
    } catch (err) {
      return why ?? toParleyError(err);
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
      this.#cut = undefined;
      own.abort();
    }
  }
}

// Ends with the signal, also over a transport that lets a silent stream hang although it was aborted, as one over Node's
// own fetch does (fetch.ts).
async function* until<T>(signal: AbortSignal, from: AsyncIterable<T>): AsyncGenerator<T> {
  const it = from[Symbol.asyncIterator]();
  for (;;) {
    const next = await new Promise<IteratorResult<T>>((resolve, reject) => {
      signal.onabort = () => reject(signal.reason);
      if (signal.aborted) reject(signal.reason);
      it.next().then(resolve, reject);
    });
    if (next.done) return;
    yield next.value;
  }
}

function silenceOf(d: { seconds: bigint; nanos: number }): number {
  return 2 * (Number(d.seconds) * 1000 + d.nanos / 1e6) + slackMs;
}
