import { ParleyClient, type ClientEvent, type ClientOptions, type Observable } from "../src/index.js";
import { tokenFor, type FakeParley } from "./fake.js";

/** A client of the fake with pauses near zero. */
export function clientOf(fake: FakeParley, user: string, device: string, options: Partial<ClientOptions> = {}): ParleyClient {
  return new ParleyClient({
    baseUrl: "http://fake",
    transport: fake.transport(),
    token: () => tokenFor(user, device),
    reconnect: { delayMs: () => 1 },
    ...options,
  });
}

/** Resolves with the value once it fulfils the condition; fails after a while with what it was. */
export function until<T>(o: Observable<T>, holds: (value: T) => boolean, ms = 60_000): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      unsubscribe();
      reject(new Error(`still ${JSON.stringify(o.value)} after ${ms} ms`));
    }, ms);
    let done = false;
    let unsubscribe = (): void => {};
    unsubscribe = o.subscribe((value) => {
      if (done || !holds(value)) return;
      done = true;
      clearTimeout(timer);
      queueMicrotask(() => unsubscribe());
      resolve(value);
    });
  });
}

export async function waitFor(holds: () => boolean, ms = 60_000): Promise<void> {
  for (const end = Date.now() + ms; !holds(); ) {
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${holds.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Records events and judges the promise: of each session every seq once, in order, without a hole. */
export class Recorder {
  readonly events: ClientEvent[] = [];
  readonly bodies = new Map<string, string[]>();
  readonly problems: string[] = [];
  readonly resets: string[] = [];
  readonly #at = new Map<string, number>();

  constructor(client: ParleyClient, signal: AbortSignal) {
    const events = client.events(signal);
    void (async () => {
      for await (const event of events) this.take(event);
    })();
  }

  take(event: ClientEvent): void {
    this.events.push(event);
    if (event.type === "reset") {
      // Only a new life of the log is a reason to begin anew, unless a test makes another.
      if (event.reason !== "epochChanged") this.resets.push(event.reason);
      if (event.sessionId) this.#at.delete(event.sessionId);
      else this.#at.clear();
    }
    if (event.type === "skipped") this.#next(event.sessionId, event.fromSeq, event.toSeq);
    if (event.type !== "message") return;
    const m = event.message;
    this.#next(m.sessionId, m.seq, m.seq);
    const list = this.bodies.get(m.sessionId) ?? [];
    this.bodies.set(m.sessionId, list);
    list.push(m.content?.kind === "text" ? m.content.body : m.type);
  }

  at(sessionId: string): number {
    return this.#at.get(sessionId) ?? 0;
  }

  #next(sessionId: string, from: number, to: number): void {
    const at = this.#at.get(sessionId);
    if (at !== undefined && from !== at + 1) this.problems.push(`${sessionId}: ${from} after ${at}`);
    this.#at.set(sessionId, to);
  }
}
