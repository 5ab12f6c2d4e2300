/**
 * `fetch` whose answer ends with the signal that the call was given, whatever happens to what fetch itself made of that.
 * Node's (20, with undici 6.24) lets go of the signal once an answer has begun: after a garbage collection an abort ended
 * nothing any more, and a device whose client had been stopped stayed online.
 */
export const abortableFetch: typeof fetch = async (input, init) => {
  const response = await fetch(input, init);
  const signal = init?.signal;
  if (!signal || !response.body) return response;
  const reader = response.body.getReader();
  const cancel = (): Promise<void> => reader.cancel().catch(() => {});
  const body = new ReadableStream<Uint8Array>(
    {
      start(out) {
        const abort = (): void => {
          out.error(signal.reason);
          void cancel();
        };
        if (signal.aborted) abort();
        signal.addEventListener("abort", abort);
      },
      async pull(out) {
        const { done, value } = await reader.read();
        if (done) out.close();
        else out.enqueue(value);
      },
      cancel,
    },
    { highWaterMark: 0 }, // nothing is read ahead of who asks
  );
  return new Response(body, response);
};
