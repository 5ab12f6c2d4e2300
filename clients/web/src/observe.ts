import type { Observable } from "@parley-im/client";
import { useEffect, useState } from "preact/hooks";

/** The value of an observable now; the component is rendered again when it changes. */
export function useObservable<T>(o: Observable<T>): T {
  const [, again] = useState(0);
  useEffect(() => o.subscribe(() => again((n) => n + 1)), [o]);
  return o.value;
}

/** What a promise gave, undefined until then. `deps` say when to ask again. */
export function usePromise<T>(ask: () => Promise<T>, deps: readonly unknown[]): { value?: T; error?: string } {
  const [state, set] = useState<{ value?: T; error?: string }>({});
  useEffect(() => {
    let current = true;
    ask().then(
      (value) => current && set({ value }),
      (err: unknown) => current && set({ error: err instanceof Error ? err.message : String(err) }),
    );
    return () => void (current = false);
  }, deps);
  return state;
}

/** Renders again each `ms`, for times like "5 min ago". */
export function useTick(ms: number): void {
  const [, again] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => again((n) => n + 1), ms);
    return () => clearInterval(timer);
  }, [ms]);
}
