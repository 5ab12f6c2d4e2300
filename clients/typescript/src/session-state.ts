import type { Snapshot } from "./convert.js";
import type { ClientEvent, Member, Message, SessionInfo } from "./model.js";
import { Value } from "./observable.js";
import type { StoredSession } from "./store.js";
import { Thread, type Piece } from "./thread.js";
import { TypingSigns } from "./typing.js";
import { Window } from "./window.js";

/** What a session's state has changed that a store must learn. */
export interface Dirt {
  put: Message[];
  erase: number[];
  trimUpTo?: number;
  dropMessages?: boolean;
}

/** Everything the client knows of one session. Not for users: they see {@link Session}. */
export class SessionState {
  readonly info = new Value<SessionInfo | undefined>(undefined);
  readonly messages = new Value<readonly Message[]>([]);
  readonly members = new Value<readonly Member[]>([]);
  readonly typing = new TypingSigns();
  readonly thread = new Thread();
  readonly window = new Window();

  /** What the server said last, kept up to date by what came since; undefined while it has said nothing. */
  snapshot: Snapshot | undefined;
  /** A seq from which on, at the latest, the stream began for this device; where to open when nothing says otherwise. */
  floor: number | undefined;
  /** In memory is what follows on this seq. */
  base = 0;
  /** In the store is what follows on this seq. */
  storedBase = 0;
  /** The head when snapshot.unread was counted. */
  counted = 0;
  /** How many messages stay in memory; loading older ones raises it. */
  limit: number;
  /** Nothing older can be had. */
  atStart = false;
  untoldRead: number | undefined;
  /** The newest entry as the server described it; counts while nothing newer is in memory. */
  lastKnown: Message | undefined;
  /** Own messages on their way, in order. */
  outgoing: readonly Message[] = [];
  readonly readSeqs = new Set<number>();
  readonly deletedSeqs = new Set<number>();
  dirt: Dirt = { put: [], erase: [] };
  /** How far others have read, as told since the members were loaded last; a list that is on its way may be older. */
  readonly readBy = new Map<string, number>();
  /** Members are wanted, and kept up to date. */
  membersLoaded = false;
  /** It was reset: what is in the log already is history. */
  beginsAtHead = false;
  /** How often it was reset; what was asked for before does not count after. */
  life = 0;

  constructor(
    readonly id: string,
    private readonly windowSize: number,
    private readonly me: () => string,
  ) {
    this.limit = windowSize;
  }

  /** Takes the next piece of the log and says what to tell the app. */
  take(piece: Piece): ClientEvent {
    const m = piece.message;
    if (!m) {
      // What lies before the left-out range is history now: loadOlder leads there, through the range.
      this.window.clear();
      this.base = this.storedBase = piece.to;
      this.limit = this.windowSize;
      this.atStart = false;
      this.dirt = { put: [], erase: [], dropMessages: true };
      return { type: "skipped", sessionId: this.id, fromSeq: piece.from, toSeq: piece.to };
    }
    this.window.put(m);
    this.dirt.put.push(m);
    this.#follow(m);
    if (isCountable(m)) this.readTo(m.senderId, m.seq); // who sends has read
    if (m.senderId !== this.me()) this.typing.stopped(m.senderId);
    return { type: "message", message: m };
  }

  /** Takes how far a member has read. Returns whether that is news. */
  readTo(userId: string, seq: number): boolean {
    if (!this.membersLoaded || (this.readBy.get(userId) ?? 0) >= seq) return false;
    this.readBy.set(userId, seq);
    const list = this.members.value;
    const known = list.find((m) => m.userId === userId);
    if (known && known.readSeq >= seq) return false;
    if (known) this.members.set(list.map((m) => (m === known ? { ...m, readSeq: seq } : m)));
    return true;
  }

  /** Takes the members as the server lists them; what was told of their reading meanwhile stays. */
  listMembers(all: readonly Member[]): void {
    const known = all.map((m) => ({ ...m, readSeq: Math.max(m.readSeq, this.readBy.get(m.userId) ?? 0) }));
    this.readBy.clear();
    for (const m of known) this.readBy.set(m.userId, m.readSeq);
    this.members.set(known);
  }

  /** Opens the log after a seq. */
  open(after: number): void {
    if (this.thread.isOpen) return;
    this.thread.open(after);
    if (!this.window.first) this.base = after;
    this.storedBase = after;
  }

  // What an entry changes in what is known of the session.
  #follow(m: Message): void {
    const s = this.snapshot;
    const c = m.content;
    if (c?.kind === "recall") {
      this.window.erase(c.seq);
      this.dirt.erase.push(c.seq);
    }
    if (!s) return;
    if (isCountable(m) && m.senderId === this.me()) {
      this.snapshot = { ...s, readSeq: Math.max(s.readSeq, m.seq), markedUnread: false };
    } else if (c?.kind === "sessionChange") {
      const { kind: _, ...changed } = c;
      this.snapshot = { ...s, ...changed };
    } else if (c?.kind === "memberChange" && c.userIds.includes(this.me())) {
      if (c.change === "removed" || c.change === "left") this.snapshot = { ...s, isMember: false };
      if (c.change === "added") this.snapshot = { ...s, isMember: true, joinedSeq: m.seq, role: c.role ?? "member" };
      if (c.change === "roleChanged" && c.role) this.snapshot = { ...s, role: c.role };
      if (c.change === "muted" || c.change === "unmuted") this.snapshot = { ...s, isMuted: c.change === "muted" };
    }
  }

  /** Takes what the server says of the session. Cursors never move back. */
  describe(next: Snapshot, last?: Message): void {
    const was = this.snapshot;
    if (last) this.lastKnown = last;
    this.snapshot = {
      ...next,
      readSeq: Math.max(next.readSeq, was?.readSeq ?? 0),
      deletedToSeq: Math.max(next.deletedToSeq, was?.deletedToSeq ?? 0),
    };
    this.counted = next.headSeq;
  }

  /** Adds messages of history; what they recall is applied. */
  prepend(messages: readonly Message[]): void {
    for (const m of messages) this.window.put(m);
    for (const m of this.window.list) if (m.content?.kind === "recall") this.window.erase(m.content.seq);
    this.limit = Math.max(this.limit, this.window.list.length + this.windowSize / 2);
  }

  /** Forgets the log: it begins anew. */
  reset(): void {
    const { outgoing, info, messages, members, membersLoaded, typing } = this;
    const life = this.life + 1;
    const kept = { outgoing, info, messages, members, membersLoaded, typing, life, beginsAtHead: true };
    Object.assign(this, new SessionState(this.id, this.windowSize, this.me), kept);
    this.dirt.dropMessages = true;
  }

  /** Keeps memory within its bound. */
  trim(storeLimit: number): void {
    if (this.window.trim(this.limit)) {
      this.base = (this.window.first as Message).seq - 1;
      this.atStart = false;
    }
    const shown = this.thread.shown ?? 0;
    if (shown - this.storedBase > storeLimit * 1.25) {
      this.storedBase = shown - storeLimit;
      this.dirt.trimUpTo = this.storedBase;
    }
    const read = this.snapshot?.readSeq ?? 0;
    for (const seq of this.readSeqs) if (seq <= read) this.readSeqs.delete(seq);
  }

  isRead(m: Message): boolean {
    return m.senderId === this.me() || m.seq <= (this.snapshot?.readSeq ?? 0) || this.readSeqs.has(m.seq);
  }

  /** Whether the messages in memory suffice to count what is not read. */
  get countsExactly(): boolean {
    const s = this.snapshot;
    return s !== undefined && this.thread.isOpen && this.base <= Math.max(s.readSeq, s.joinedSeq - 1, s.deletedToSeq);
  }

  get unread(): number {
    const s = this.snapshot;
    if (!s || !s.isMember) return 0;
    const exact = this.countsExactly;
    let n = exact ? 0 : s.unread;
    const after = exact ? Math.max(s.readSeq, s.joinedSeq - 1, s.deletedToSeq) : Math.max(this.counted, s.readSeq);
    const list = this.window.list;
    for (let i = list.length - 1; i >= 0; i--) {
      const m = list[i] as Message;
      if (m.seq <= after) break;
      if (isCountable(m) && !m.isDeleted && !this.isRead(m) && !this.deletedSeqs.has(m.seq)) n++;
    }
    return n;
  }

  /** Renews what observers see. */
  publish(): void {
    const s = this.snapshot;
    if (s) {
      const last = (this.lastKnown?.seq ?? 0) > (this.window.last?.seq ?? 0) ? this.lastKnown : this.window.last;
      const next: SessionInfo = {
        sessionId: this.id,
        ...s,
        headSeq: Math.max(s.headSeq, this.thread.shown ?? 0),
        unread: this.unread,
        ...(last && { lastMessage: last }),
      };
      if (!same(this.info.value, next)) this.info.set(next);
    }
    const list = this.#visible();
    const was = this.messages.value;
    if (list.length !== was.length || list.some((m, i) => m !== was[i])) this.messages.set(list);
  }

  #visible(): readonly Message[] {
    const to = this.snapshot?.deletedToSeq ?? 0;
    const list = this.window.list.filter((m) => m.seq > to && !this.deletedSeqs.has(m.seq));
    return this.outgoing.length > 0 ? [...list, ...this.outgoing] : list;
  }

  /** What a store keeps. */
  stored(): StoredSession {
    return {
      sessionId: this.id,
      ...(this.info.value && { info: this.info.value }),
      ...(this.thread.shown !== undefined && { shownSeq: this.thread.shown }),
      baseSeq: this.storedBase,
      countedSeq: this.counted,
      readSeqs: [...this.readSeqs],
      deletedSeqs: [...this.deletedSeqs],
      ...(this.untoldRead !== undefined && { untoldReadSeq: this.untoldRead }),
    };
  }

  /** Takes what a store kept. */
  restore(stored: StoredSession, messages: readonly Message[]): void {
    this.snapshot = stored.info;
    this.lastKnown = stored.info?.lastMessage;
    this.info.set(stored.info);
    this.counted = Math.max(stored.countedSeq, stored.shownSeq ?? 0); // info.unread counts up to there
    this.untoldRead = stored.untoldReadSeq;
    for (const seq of stored.readSeqs) this.readSeqs.add(seq);
    for (const seq of stored.deletedSeqs) this.deletedSeqs.add(seq);
    for (const m of messages) this.window.put(m);
    if (stored.shownSeq !== undefined) this.thread.open(stored.shownSeq);
    this.storedBase = stored.baseSeq;
    this.base = this.window.first ? this.window.first.seq - 1 : (stored.shownSeq ?? 0);
  }
}

/** Whether a message counts as unread for others. */
export function isCountable(m: Message): boolean {
  return m.type === "text" || m.type === "attachment" || m.type === "custom";
}

function same(a: SessionInfo | undefined, b: SessionInfo): boolean {
  if (!a) return false;
  for (const key of Object.keys(b) as Array<keyof SessionInfo>) {
    const [x, y] = [a[key], b[key]];
    if (x !== y && !(x instanceof Date && y instanceof Date && x.getTime() === y.getTime())) return false;
  }
  return true;
}
