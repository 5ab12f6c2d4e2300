import type { ParleyError } from "./errors.js";

/** Decides how long to wait before the next try. */
export interface ReconnectPolicy {
  /**
   * The pause in milliseconds before the next try. A longer hint of the server is followed instead.
   *
   * @param attempt - how many tries have failed since the last success, from 0
   * @param error - why the last one failed; always a retryable error
   */
  delayMs(attempt: number, error: ParleyError): number;
}

/** Bounds of {@link fullJitter}. */
export interface BackoffOptions {
  /** The bound of the first pause, in milliseconds; 200. */
  readonly baseMs?: number;
  /** The bound that no pause exceeds, in milliseconds; 10,000. */
  readonly maxMs?: number;
  /** Numbers from 0 to 1, for tests; `Math.random`. */
  readonly random?: () => number;
}

/**
 * The default policy: a random part of a bound that doubles with every failure ("full jitter", as in the article
 * "Exponential Backoff And Jitter" of the AWS architecture blog), so that many clients do not come back at once.
 *
 * @example
 * ```ts
 * new ParleyClient({ baseUrl, token, reconnect: fullJitter({ maxMs: 30_000 }) });
 * ```
 */
export function fullJitter(options: BackoffOptions = {}): ReconnectPolicy {
  const { baseMs = 200, maxMs = 10_000, random = Math.random } = options;
  return { delayMs: (attempt) => random() * Math.min(maxMs, baseMs * 2 ** Math.min(attempt, 30)) };
}

/** Resolves after a time, or when the signal aborts or `wake` says so, whichever is first. */
export function pause(ms: number, signal: AbortSignal, wake?: (resolve: () => void) => void): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
    wake?.(done);
  });
}
