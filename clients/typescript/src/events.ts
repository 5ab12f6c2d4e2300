import type { ClientEvent } from "./model.js";

/** How many events may wait for one reader of {@link EventBus.read}; then the stream waits, and so does the server. */
export const maxWaitingEvents = 1024;

/** Hands every event to every reader, each at its own pace. */
export class EventBus {
  readonly #readers = new Set<Reader>();

  publish(event: ClientEvent): void {
    for (const reader of this.#readers) reader.put(event);
  }

  /** Resolves when every reader has room again, or the signal aborts. */
  async room(signal: AbortSignal): Promise<void> {
    for (const reader of [...this.#readers]) await reader.room(signal);
  }

  /** All events from now on, until the signal aborts. */
  read(signal?: AbortSignal): AsyncIterableIterator<ClientEvent> {
    const reader = new Reader(() => this.#readers.delete(reader));
    this.#readers.add(reader);
    if (signal?.aborted) reader.end();
    signal?.addEventListener("abort", reader.end, { once: true });
    return reader;
  }
}

class Reader implements AsyncIterableIterator<ClientEvent> {
  #queue: ClientEvent[] = [];
  #head = 0;
  #done = false;
  readonly #takers: Array<(r: IteratorResult<ClientEvent>) => void> = [];
  #drained: Array<() => void> = [];

  constructor(private readonly ended: () => void) {}

  put(event: ClientEvent): void {
    if (this.#done) return;
    const taker = this.#takers.shift();
    if (taker) taker({ done: false, value: event });
    else this.#queue.push(event);
  }

  async room(signal: AbortSignal): Promise<void> {
    while (!this.#done && !signal.aborted && this.#queue.length - this.#head >= maxWaitingEvents) {
      await new Promise<void>((resolve) => {
        this.#drained.push(resolve);
        signal.addEventListener("abort", () => resolve(), { once: true });
      });
    }
  }

  next(): Promise<IteratorResult<ClientEvent>> {
    const event = this.#queue[this.#head];
    if (event !== undefined && !this.#done) {
      this.#head++;
      if (this.#head >= 512 || this.#head === this.#queue.length) {
        this.#queue = this.#queue.slice(this.#head);
        this.#head = 0;
        this.#release();
      }
      return Promise.resolve({ done: false, value: event });
    }
    if (this.#done) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => this.#takers.push(resolve));
  }

  return(): Promise<IteratorResult<ClientEvent>> {
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }

  readonly end = (): void => {
    if (this.#done) return;
    this.#done = true;
    this.#queue = [];
    this.#head = 0;
    this.ended();
    for (const taker of this.#takers.splice(0)) taker({ done: true, value: undefined });
    this.#release();
  };

  #release(): void {
    for (const resolve of this.#drained.splice(0)) resolve();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
