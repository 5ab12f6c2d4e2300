import type { Message } from "./model.js";
import { erased } from "./thread.js";

/** The stretch of a session's log that is in memory, ascending by seq. */
export class Window {
  #list: Message[] = [];

  /** Ascending; never to be changed from outside. */
  get list(): readonly Message[] {
    return this.#list;
  }

  get first(): Message | undefined {
    return this.#list[0];
  }

  get last(): Message | undefined {
    return this.#list[this.#list.length - 1];
  }

  get(seq: number): Message | undefined {
    const at = this.#at(seq);
    return this.#list[at]?.seq === seq ? this.#list[at] : undefined;
  }

  /** Puts a message in its place; one of the same seq is replaced, unless that was recalled meanwhile. */
  put(message: Message): void {
    const last = this.last;
    if (!last || message.seq > last.seq) {
      this.#list.push(message);
      return;
    }
    const at = this.#at(message.seq);
    const known = this.#list[at];
    if (known?.seq !== message.seq) this.#list.splice(at, 0, message);
    else if (!known.isDeleted) this.#list[at] = message;
  }

  /** Takes the body of a recalled message away. Returns the message as it is now, if it is here. */
  erase(seq: number): Message | undefined {
    const at = this.#at(seq);
    const known = this.#list[at];
    if (known?.seq !== seq) return undefined;
    return (this.#list[at] = erased(known));
  }

  /** Keeps at most the last `limit` messages. Returns whether some went. */
  trim(limit: number): boolean {
    if (this.#list.length <= limit) return false;
    this.#list = this.#list.slice(this.#list.length - limit);
    return true;
  }

  clear(): void {
    this.#list = [];
  }

  // The place of the first message with at least this seq.
  #at(seq: number): number {
    let lo = 0;
    let hi = this.#list.length;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if ((this.#list[mid] as Message).seq < seq) lo = mid + 1;
      else hi = mid;
    }
    return lo;
  }
}
