import type { Presence as PbPresence } from "../gen/parley/v1/presence_pb.js";
import type { Api } from "./api.js";
import { toPresence } from "./convert.js";
import type { EventBus } from "./events.js";
import type { Presence } from "./model.js";
import { Value } from "./observable.js";

/** How many users a device may watch. */
export const maxWatched = 200;
/** How long changes of whom the app asks for are gathered, in milliseconds. */
const gatherMs = 50;
/** The pause before the server is asked again, when it could not be, or the stream did not take it over. */
const againMs = 5000;

/**
 * Knows who is online of those whom the app asks for. The server forgets whom a stream watches when the stream ends, so
 * each new stream is told again; until it has told, what was known last is shown.
 */
export class PresenceWatch {
  readonly #values = new Map<string, Value<Presence | undefined>>();
  #wanted: readonly string[] = [];
  #hidden = false; // of those who are wanted some were not told
  #open = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #round = 0;
  #seen = false;

  constructor(
    private readonly api: Api,
    private readonly bus: EventBus,
  ) {}

  /** What is known of a user; always the same object for the same user. */
  of(userId: string): Value<Presence | undefined> {
    let value = this.#values.get(userId);
    if (!value) this.#values.set(userId, (value = new Value<Presence | undefined>(undefined)));
    return value;
  }

  /** Sets who is watched, in place of who was. Those beyond the bound are left out. */
  watch(userIds: readonly string[]): void {
    const next = [...new Set(userIds)].slice(0, maxWatched);
    if (next.length === this.#wanted.length && next.every((id) => this.#wanted.includes(id))) return;
    for (const id of this.#wanted) {
      if (next.includes(id)) continue;
      this.#values.get(id)?.set(undefined); // nobody tells any more
    }
    this.#wanted = next;
    this.#ask(gatherMs);
  }

  /** A stream is live, so that it can be told. */
  opened(): void {
    this.#open = true;
    if (this.#wanted.length > 0) this.#ask(0);
  }

  /** Some who could not be seen may be visible now. */
  peopleChanged(): void {
    if (this.#hidden) this.#ask(gatherMs);
  }

  /** The stream has ended. */
  closed(): void {
    this.#open = false;
    this.#round++;
    clearTimeout(this.#timer);
  }

  /** Takes what the stream tells. */
  take(presence: PbPresence): void {
    this.#seen = true;
    this.#set(presence);
  }

  /** Another user than before shares nothing with it. */
  clear(): void {
    this.#wanted = [];
    for (const value of this.#values.values()) value.set(undefined);
  }

  #ask(afterMs: number): void {
    if (!this.#open) return;
    clearTimeout(this.#timer);
    const round = ++this.#round;
    this.#timer = setTimeout(() => void this.#tell(round), afterMs);
  }

  async #tell(round: number): Promise<void> {
    const userIds = [...this.#wanted];
    this.#seen = false;
    try {
      const { presences } = await this.api.call((a, o) => a.presence.watchPresence({ userIds }, o));
      if (round !== this.#round) return;
      const told = new Set(presences.map((p) => p.userId));
      this.#hidden = told.size < userIds.length;
      for (const p of presences) this.#set(p);
      for (const id of userIds) if (!told.has(id)) this.#values.get(id)?.set(undefined); // may not be seen
      if (told.size === 0) return;
    } catch {
      // asked again below
    }
    if (round !== this.#round) return;
    // Each state comes by the stream too, which shows that it was taken over.
    this.#timer = setTimeout(() => {
      if (round === this.#round && !this.#seen) this.#ask(0);
    }, againMs);
  }

  #set(p: PbPresence): void {
    if (!this.#wanted.includes(p.userId)) return;
    const next = toPresence(p);
    const value = this.of(p.userId);
    const was = value.value;
    if (was && same(was, next)) return;
    value.set(next);
    this.bus.publish({ type: "presence", presence: next });
  }
}

function same(a: Presence, b: Presence): boolean {
  return (
    a.isOnline === b.isOnline &&
    a.lastSeenAt?.getTime() === b.lastSeenAt?.getTime() &&
    a.deviceIds.join("\0") === b.deviceIds.join("\0")
  );
}
