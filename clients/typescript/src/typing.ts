import { Value } from "./observable.js";

/** How long somebody counts as typing without another sign, in milliseconds; the API says so. */
const lastsMs = 10_000;
/** How long after a message a sign of typing counts as one of that message, which overtook it. */
const lateMs = 500;
/** How many names are kept per session. */
const maxNames = 64;

/** Knows who is typing in a session. Signs lapse by themselves. */
export class TypingSigns {
  /** User ids, in order. */
  readonly names = new Value<readonly string[]>([]);
  readonly #signs = new Map<string, { typing: boolean; at: number }>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  started(userId: string): void {
    const last = this.#signs.get(userId);
    if (last && !last.typing && Date.now() - last.at < lateMs) return;
    this.#set(userId, true);
  }

  stopped(userId: string): void {
    this.#set(userId, false);
  }

  /** Forgets everything and stops the clock. */
  clear(): void {
    this.#signs.clear();
    this.#renew();
  }

  #set(userId: string, typing: boolean): void {
    if (!this.#signs.has(userId) && this.#signs.size >= maxNames) return;
    this.#signs.set(userId, { typing, at: Date.now() });
    this.#renew();
  }

  #renew(): void {
    const now = Date.now();
    const names: string[] = [];
    let next = Infinity;
    for (const [userId, sign] of this.#signs) {
      if (now - sign.at >= lastsMs) {
        this.#signs.delete(userId);
        continue;
      }
      if (!sign.typing) continue;
      names.push(userId);
      next = Math.min(next, sign.at + lastsMs);
    }
    clearTimeout(this.#timer);
    this.#timer = next === Infinity ? undefined : setTimeout(() => this.#renew(), next - now);
    names.sort();
    if (names.join("\0") !== this.names.value.join("\0")) this.names.set(names);
  }
}
