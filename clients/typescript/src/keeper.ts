import { ParleyError } from "./errors.js";
import type { Message } from "./model.js";
import type { Store, StoreChange, StoredState } from "./store.js";

/**
 * Writes to the store, one change after the other. A store that fails is left alone until the next start: what it holds
 * then is older, and the server sends what came after again.
 */
export class Keeper {
  #tail: Promise<unknown> = Promise.resolve();
  #broken = false;

  constructor(
    private readonly store: Store | undefined,
    private readonly failed: (error: ParleyError) => void,
  ) {}

  /** Reads everything; undefined where there is no store, or none that works. */
  load(messages: number): Promise<StoredState | undefined> {
    this.#broken = false;
    return this.#run((store) => store.load(messages));
  }

  messagesBefore(sessionId: string, beforeSeq: number, limit: number): Promise<readonly Message[] | undefined> {
    return this.#run((store) => store.messagesBefore(sessionId, beforeSeq, limit));
  }

  /** Resolves when the change is kept, or cannot be. */
  async write(change: StoreChange): Promise<void> {
    if (Object.keys(change).length > 0) await this.#run((store) => store.write(change));
  }

  /** Resolves when all that was to be written so far is. */
  async idle(): Promise<void> {
    await this.#tail;
  }

  async close(): Promise<void> {
    await this.#run((store) => store.close());
  }

  #run<T>(fn: (store: Store) => Promise<T>): Promise<T | undefined> {
    const { store } = this;
    if (!store) return Promise.resolve(undefined);
    const next = this.#tail.then(async () => {
      if (this.#broken) return undefined;
      try {
        return await fn(store);
      } catch (err) {
        this.#broken = true;
        this.failed(new ParleyError("STORE", "the store failed; going on without it", { cause: err }));
        return undefined;
      }
    });
    this.#tail = next;
    return next;
  }
}
