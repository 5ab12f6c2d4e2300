import { toParleyError } from "./errors.js";

/** How many positions one call tells; as many as an Ack may carry. */
const maxTold = 1000;
/** The pause before the server is told again after it could not be. */
const againMs = 2000;

/** Tells the server positions of sessions, coalesced: of each session only the highest counts. */
export class Teller {
  readonly #due = new Map<string, number>();
  readonly #told = new Map<string, number>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #busy: Promise<void> | undefined;
  #open = false;
  #life = 0;

  /**
   * @param send - tells positions, by session id
   * @param delayMs - how long positions are gathered
   */
  constructor(
    private readonly send: (due: ReadonlyMap<string, number>) => Promise<void>,
    private readonly delayMs: number,
  ) {}

  /** Notes a position. */
  set(sessionId: string, seq: number): void {
    if (seq <= Math.max(this.#due.get(sessionId) ?? 0, this.#told.get(sessionId) ?? 0)) return;
    this.#due.set(sessionId, seq);
    this.#schedule(this.delayMs);
  }

  /** Forgets a session, or all. */
  forget(sessionId?: string): void {
    this.#life++;
    for (const map of [this.#due, this.#told]) {
      if (sessionId === undefined) map.clear();
      else map.delete(sessionId);
    }
  }

  /** Whether the server can be told now; until then positions wait. */
  set open(open: boolean) {
    this.#open = open;
    if (open) this.#schedule(this.delayMs);
    else clearTimeout(this.#timer);
    if (!open) this.#timer = undefined;
  }

  /** Tells all that waits, now, once. */
  async flush(): Promise<void> {
    await this.#busy;
    while (this.#due.size > 0 && (await this.#tell()));
  }

  #schedule(ms: number): void {
    if (!this.#open || this.#timer !== undefined || this.#busy || this.#due.size === 0) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#busy = this.#tell().then((ok) => {
        this.#busy = undefined;
        this.#schedule(ok ? this.delayMs : againMs);
      });
    }, ms);
  }

  // Returns whether it makes sense to go on.
  async #tell(): Promise<boolean> {
    const batch = new Map([...this.#due].slice(0, maxTold));
    const ok = await this.#try(batch);
    if (ok !== "refused") return ok === "told";
    // Refused as a whole: one of them is wrong. Each for itself, and those that are refused then are dropped: if it
    // matters, a Resync follows.
    for (const [id, seq] of batch) if ((await this.#try(new Map([[id, seq]]), true)) === "away") return false;
    return true;
  }

  async #try(batch: ReadonlyMap<string, number>, last = batch.size === 1): Promise<"told" | "refused" | "away"> {
    const life = this.#life;
    try {
      await this.send(batch);
    } catch (err) {
      if (toParleyError(err).retryable) return "away";
      if (!last) return "refused";
    }
    if (life !== this.#life) return "told";
    for (const [id, seq] of batch) {
      this.#told.set(id, seq);
      if (this.#due.get(id) === seq) this.#due.delete(id);
    }
    return "told";
  }
}
