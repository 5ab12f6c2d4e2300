import type { Message } from "./model.js";

/** An entry, or (without one) a range of seqs that is left out with notice. */
export interface Piece {
  readonly from: number;
  readonly to: number;
  readonly message?: Message;
}

/**
 * Puts a session's entries in order: whichever way they come, `next` gives each once, in seq order. It is closed until
 * `open` says where it begins; what comes before that is held.
 */
export class Thread {
  /** Last seq given, or left out with notice; undefined until opened. */
  shown: number | undefined;
  readonly #held = new Map<number, Piece>();

  get isOpen(): boolean {
    return this.shown !== undefined;
  }

  /** How many pieces are held back. */
  get waiting(): number {
    return this.#held.size;
  }

  /** The lowest seq that is held back; Infinity when nothing is. */
  get firstWaiting(): number {
    return Math.min(...this.#held.keys());
  }

  /** Lets it begin after a seq. */
  open(after: number): void {
    if (this.shown === undefined) this.skip(after);
  }

  /** Takes an entry; one that was given before is passed over. The body of a held entry that it recalls is dropped. */
  add(message: Message): void {
    this.#hold({ from: message.seq, to: message.seq, message });
    if (message.content?.kind === "recall") {
      const target = this.#held.get(message.content.seq);
      if (target?.message) this.#held.set(target.from, { ...target, message: erased(target.message) });
    }
  }

  /** Takes the notice that a range of seqs will not come. */
  leaveOut(from: number, to: number): void {
    this.#hold({ from: this.shown === undefined ? from : Math.max(from, this.shown + 1), to });
  }

  /** Gives what follows on the last, if it is there. */
  next(): Piece | undefined {
    if (this.shown === undefined) return undefined;
    const piece = this.#held.get(this.shown + 1);
    if (piece) this.skip(piece.to);
    return piece;
  }

  /** Passes over everything up to and including seq. */
  skip(seq: number): void {
    this.shown = Math.max(this.shown ?? 0, seq);
    for (const [from, piece] of this.#held) {
      if (from > this.shown) continue;
      this.#held.delete(from);
      if (piece.to > this.shown) this.leaveOut(from, piece.to);
    }
  }

  #hold(piece: Piece): void {
    if (this.shown !== undefined && piece.to <= this.shown) return;
    const held = this.#held.get(piece.from);
    // An entry is worth more than the notice that it is left out; of two notices the longer one counts.
    if (held?.message && !piece.message) {
      if (piece.to > piece.from) this.#hold({ from: piece.from + 1, to: piece.to });
      return;
    }
    if (held && !held.message && !piece.message && held.to >= piece.to) return;
    this.#held.set(piece.from, piece);
    if (held && !held.message && piece.message && held.to > held.from) this.#hold({ from: held.from + 1, to: held.to });
  }
}

/** A message without its body, as a recall leaves it. */
export function erased(message: Message): Message {
  const { content: _, ...rest } = message;
  return { ...rest, isDeleted: true };
}
