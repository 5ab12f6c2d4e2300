import type { Keeper } from "./keeper.js";
import type { SessionInfo } from "./model.js";
import { Value } from "./observable.js";
import type { SessionState } from "./session-state.js";
import type { StoreChange, StoredDevice } from "./store.js";

/** Gathers what changed, and tells it together: to those who observe, and to the store. */
export class Changes {
  readonly list = new Value<readonly SessionInfo[]>([]);
  readonly unread = new Value(0);
  /** What is to be kept of the device. */
  device: StoredDevice | undefined;
  readonly #touched = new Set<SessionState>();
  readonly #dropped = new Set<string>();
  #clear = false;
  #scheduled = false;

  constructor(
    private readonly sessions: ReadonlyMap<string, SessionState>,
    private readonly keeper: Keeper,
    private readonly storeSize: number,
  ) {}

  /** Notes that a session's state changed; observers and the store learn of it soon. */
  touch(s: SessionState): void {
    this.#touched.add(s);
    this.#schedule();
  }

  /** Notes that a session is to be forgotten. */
  drop(s: SessionState): void {
    this.#touched.delete(s);
    this.#dropped.add(s.id);
    this.#schedule();
  }

  /** Notes that everything is to be forgotten. */
  clear(): void {
    this.#touched.clear();
    this.#clear = true;
  }

  /** Up to where the sessions that changed are shown. */
  positions(): Array<[string, number]> {
    return [...this.#touched].flatMap((s) => (s.thread.shown ? [[s.id, s.thread.shown] as [string, number]] : []));
  }

  /** Publishes what changed, and keeps it. Resolves when it is kept. */
  write(): Promise<void> {
    const touched = [...this.#touched];
    this.#touched.clear();
    for (const s of touched) {
      s.trim(this.storeSize);
      s.publish();
    }
    if (touched.length > 0 || this.#dropped.size > 0 || this.#clear) this.#publishList();
    return this.keeper.write(this.#change(touched));
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      void this.write();
    });
  }

  #publishList(): void {
    const list: SessionInfo[] = [];
    let unread = 0;
    for (const { info } of this.sessions.values()) {
      if (!info.value?.isMember) continue;
      list.push(info.value);
      unread += info.value.unread;
    }
    list.sort(byActivity);
    const was = this.list.value;
    if (list.length !== was.length || list.some((info, i) => info !== was[i])) this.list.set(list);
    this.unread.set(unread);
  }

  #change(touched: readonly SessionState[]): StoreChange {
    const change: { -readonly [K in keyof StoreChange]: StoreChange[K] } = {};
    if (this.#clear) change.clear = true;
    if (this.device) change.device = this.device;
    if (this.#dropped.size > 0) change.dropSessions = [...this.#dropped];
    if (touched.length > 0) {
      change.sessions = touched.map((s) => s.stored());
      change.dropMessages = touched.filter((s) => s.dirt.dropMessages).map((s) => s.id);
      change.messages = touched.flatMap((s) => s.dirt.put);
      change.erase = touched.flatMap((s) => s.dirt.erase.map((seq) => ({ sessionId: s.id, seq })));
      change.trim = touched.flatMap((s) => (s.dirt.trimUpTo ? [{ sessionId: s.id, upToSeq: s.dirt.trimUpTo }] : []));
      for (const s of touched) s.dirt = { put: [], erase: [] };
    }
    this.#clear = false;
    this.device = undefined;
    this.#dropped.clear();
    return change;
  }
}

// Pinned ones first, then by the newest entry.
function byActivity(a: SessionInfo, b: SessionInfo): number {
  if (a.isPinned !== b.isPinned) return a.isPinned ? -1 : 1;
  const at = (s: SessionInfo): number => (s.lastMessage?.createdAt ?? s.createdAt).getTime();
  return at(b) - at(a) || (a.sessionId < b.sessionId ? -1 : 1);
}
