/**
 * A value that changes, and that can be watched. `value` is replaced, never changed in place, so that comparing with
 * `===` tells whether something happened (React: `useSyncExternalStore(o.subscribe, () => o.value)`; Svelte: a store).
 */
export interface Observable<T> {
  /** What it is now. */
  readonly value: T;
  /** Calls the listener with the value now and whenever it changes. Returns the function that ends this. */
  readonly subscribe: (listener: (value: T) => void) => () => void;
  /**
   * The value now, then each later one, until the signal aborts (then the loop ends without an error). A slow reader
   * passes over values between: it always gets the newest.
   */
  readonly values: (signal?: AbortSignal) => AsyncIterableIterator<T>;
}

/** An {@link Observable} that its owner can set. */
export class Value<T> implements Observable<T> {
  readonly #listeners = new Set<(value: T) => void>();
  #value: T;

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  /** Sets the value and tells the listeners, unless it is the same. A listener that throws does not stop the others. */
  set(value: T): void {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    for (const listener of [...this.#listeners]) safely(() => listener(value));
  }

  readonly subscribe = (listener: (value: T) => void): (() => void) => {
    const own = (value: T): void => listener(value); // the same function may listen twice
    this.#listeners.add(own);
    safely(() => own(this.#value));
    return () => this.#listeners.delete(own);
  };

  readonly values = (signal?: AbortSignal): AsyncIterableIterator<T> => {
    let fresh = false;
    let done = false;
    let wake: (() => void) | undefined;
    const stir = (): void => {
      wake?.();
      wake = undefined;
    };
    const unsubscribe = this.subscribe(() => {
      fresh = true;
      stir();
    });
    const end = (): void => {
      done = true;
      unsubscribe();
      signal?.removeEventListener("abort", end);
      stir();
    };
    if (signal?.aborted) end();
    signal?.addEventListener("abort", end);
    return {
      next: async () => {
        while (!fresh && !done) await new Promise<void>((resolve) => (wake = resolve));
        if (done) return { done: true, value: undefined };
        fresh = false;
        return { done: false, value: this.#value };
      },
      return: async () => {
        end();
        return { done: true, value: undefined };
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  };
}

/** Runs what the app gave; an error in it is the app's, and is reported as one that nobody caught. */
export function safely(fn: () => void): void {
  try {
    fn();
  } catch (err) {
    queueMicrotask(() => {
      throw err;
    });
  }
}
