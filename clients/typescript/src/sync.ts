import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Event, ReadPositionEvent, Resync, SignalEvent, StateEvent } from "../gen/parley/v1/event_pb.js";
import type { Message as PbMessage } from "../gen/parley/v1/message_pb.js";
import type { Presence as PbPresence } from "../gen/parley/v1/presence_pb.js";
import type { SubscribeRequestSchema } from "../gen/parley/v1/sync_service_pb.js";
import type { Api } from "./api.js";
import { Changes } from "./changes.js";
import { toMessage, toRelation, toResetReason, toSeq } from "./convert.js";
import { Descriptions } from "./descriptions.js";
import type { EventBus } from "./events.js";
import type { Keeper } from "./keeper.js";
import type { Identity, Message } from "./model.js";
import { SessionState } from "./session-state.js";
import type { StoredDevice, StoredSession } from "./store.js";
import { Teller } from "./teller.js";

/** How many cursors one Subscribe may name. */
const maxCursors = 1000;
/** How long an entry may be held back by a missing one before that is fetched, in milliseconds. */
export const holePatienceMs = 2000;
/** How long acks and read positions are gathered, in milliseconds. */
const ackDelayMs = 500;
const readDelayMs = 250;

/** The bounds of what is kept. */
export interface SyncLimits {
  readonly windowSize: number;
  readonly storeSize: number;
  readonly maxBacklog: number;
}

/**
 * Turns what the stream says into the state of sessions. Everything that arrives goes through `#advance`, which is what
 * makes the app see each session's log without holes, in order, once: entries of the stream, answers to own messages, and
 * pages that fill a hole.
 */
export class Sync {
  readonly sessions = new Map<string, SessionState>();
  readonly changes: Changes;
  readonly descriptions: Descriptions;
  readonly acks: Teller;
  readonly reads: Teller;
  me: Identity | undefined;
  epoch = "";
  /** The next stream starts as a new device would. */
  fresh = false;
  caughtUp = false;
  /** Called for each message that was taken into a session's log, for those that wait for their own. */
  onMessage: (message: Message) => void = () => {};
  /** Called with what the stream tells of those who are watched. */
  onPresence: (presence: PbPresence) => void = () => {};
  /** Called when others may have come into sight: a new session, a member, a relation. */
  onPeople: () => void = () => {};
  /** Called when a session's log begins anew. */
  onReset: (sessionId: string) => void = () => {};

  #listed = false;
  #holeTimer: ReturnType<typeof setTimeout> | undefined;
  #signal: AbortSignal = AbortSignal.abort();

  constructor(
    private readonly api: Api,
    keeper: Keeper,
    private readonly bus: EventBus,
    private readonly limits: SyncLimits,
  ) {
    this.changes = new Changes(this.sessions, keeper, limits.storeSize);
    this.descriptions = new Descriptions(this, api, bus, this.changes);
    this.acks = new Teller(async (due) => {
      const acks = [...due].map(([sessionId, seq]) => ({ sessionId, seq: BigInt(seq) }));
      await this.api.call((a, o) => a.sync.ack({ acks, epoch: this.epoch }, o));
    }, ackDelayMs);
    this.reads = new Teller(async (due) => {
      for (const [sessionId, seq] of due) await this.#tellRead(sessionId, seq);
    }, readDelayMs);
  }

  /** The state of a session, made if it is new. */
  session(id: string): SessionState {
    let s = this.sessions.get(id);
    if (!s) {
      s = new SessionState(id, this.limits.windowSize, () => this.me?.userId ?? "");
      this.sessions.set(id, s);
    }
    return s;
  }

  // ---- Before and between streams

  /** Reads the store. Returns what it kept of outgoing messages' sessions, for the outbox. */
  restore(device: StoredDevice, sessions: ReadonlyArray<{ session: StoredSession; messages: readonly Message[] }>): void {
    this.me = { userId: device.userId, deviceId: device.deviceId };
    this.epoch = device.epoch;
    for (const { session, messages } of sessions) {
      const s = this.session(session.sessionId);
      s.restore(session, messages);
      if (s.untoldRead !== undefined) this.reads.set(s.id, s.untoldRead);
      s.dirt = { put: [], erase: [] };
      this.changes.touch(s);
    }
  }

  /** Takes who this is. Another user, or device, than before shares nothing with it. Returns whether that was so. */
  identify(me: Identity): boolean {
    const other = this.me !== undefined && (this.me.userId !== me.userId || this.me.deviceId !== me.deviceId);
    if (other) {
      for (const s of this.sessions.values()) this.#forget(s);
      for (const s of this.sessions.values()) s.info.set(undefined);
      this.sessions.clear();
      this.changes.clear();
      this.epoch = "";
      this.#listed = false;
    }
    const isNew = other || !this.me;
    this.me = me;
    if (isNew) this.#keepDevice();
    return other;
  }

  #keepDevice(): void {
    if (this.me) this.changes.device = { ...this.me, epoch: this.epoch };
  }

  /** Begins to run; what it starts ends with the signal. */
  run(signal: AbortSignal): void {
    this.#signal = this.descriptions.signal = signal;
  }

  /**
   * Learns the sessions before the first stream, so that each has a floor: a position which the stream begins at or
   * before, however early own answers come.
   */
  async prepare(signal: AbortSignal): Promise<void> {
    if (this.#listed) return;
    await this.descriptions.refreshAll(signal, true);
    this.#listed = true;
  }

  position(): MessageInitShape<typeof SubscribeRequestSchema> {
    this.caughtUp = false;
    const open = [...this.sessions.values()].filter((s) => s.thread.isOpen && s.snapshot?.isMember !== false);
    // Where more are known than may be named, the least active go by what was acknowledged.
    if (open.length > maxCursors) open.sort((a, b) => lastAt(b) - lastAt(a)).length = maxCursors;
    const cursors = open.map((s) => ({ sessionId: s.id, seq: BigInt(s.thread.shown ?? 0) }));
    const { fresh } = this;
    return { cursors, epoch: this.epoch, fresh, maxBacklog: this.limits.maxBacklog };
  }

  // ---- The stream

  /** Takes events, in order, and resolves when they are kept and there is room for more. */
  async take(events: readonly Event[], signal: AbortSignal): Promise<void> {
    for (const event of events) this.#take(event);
    const told = this.changes.positions();
    await this.changes.write();
    for (const [id, seq] of told) this.acks.set(id, seq);
    await this.bus.room(signal);
  }

  #take({ kind }: Event): void {
    switch (kind.case) {
      case "opened":
        if (this.epoch === "") {
          this.epoch = kind.value.epoch; // another than the one we sent is told by a Resync, which follows
          this.#keepDevice();
        }
        if (this.#listed) void this.descriptions.refreshAll(this.#signal, false).catch(() => {}); // the next stream does it again
        return;
      case "message":
        return this.#entry(kind.value);
      case "skipped": {
        const s = this.session(kind.value.sessionId);
        const [from, to] = [toSeq(kind.value.fromSeq), toSeq(kind.value.toSeq)];
        this.#openAt(s, from - 1);
        s.thread.leaveOut(from, to);
        return this.#advance(s);
      }
      case "state":
        return this.#state(kind.value);
      case "session":
        if (kind.value.session) this.descriptions.take(kind.value.session);
        return;
      case "relation":
        if (kind.value.relation) this.bus.publish({ type: "relation", relation: toRelation(kind.value.relation) });
        this.onPeople();
        return;
      case "presence":
        if (kind.value.presence) this.onPresence(kind.value.presence);
        return;
      case "readPosition":
        return this.#readBy(kind.value);
      case "signal":
        return this.#signalled(kind.value);
      case "resync":
        return this.#resync(kind.value);
      case "caughtUp":
        this.#caughtUp();
        this.bus.publish({ type: "caughtUp", unread: Number(kind.value.unreadTotal) });
        return;
      default: // a heartbeat, or something newer than this SDK
    }
  }

  #entry(m: PbMessage): void {
    const s = this.session(m.sessionId);
    const seq = toSeq(m.seq);
    if (m.state?.isRead && m.senderId !== this.me?.userId) s.readSeqs.add(seq);
    if (m.state?.isDeleted) s.deletedSeqs.add(seq);
    this.#openAt(s, seq - 1);
    s.thread.add(toMessage(m));
    this.#advance(s);
  }

  // The stream's first word on a session says where it begins, unless own messages, whose answers take their place, come
  // before it.
  #openAt(s: SessionState, after: number): void {
    s.open(Math.min(after, s.floor ?? after));
  }

  #caughtUp(): void {
    this.caughtUp = true;
    this.fresh = false;
    for (const s of this.sessions.values()) {
      // How far others have read is told live only.
      if (s.membersLoaded && s.snapshot?.isMember) void this.descriptions.loadMembers(s).catch(() => {});
      if (s.thread.isOpen || s.snapshot?.isMember === false) continue;
      if (s.floor === undefined) this.descriptions.stale(s.id);
      this.#openAtFloor(s);
      this.#advance(s);
    }
  }

  // After the backlog only what is new can come: a session without a backlog begins at its floor, one that is unknown
  // until now where the user came in. A floor that was learnt late may lie past own messages that were answered before.
  #openAtFloor(s: SessionState): void {
    if (this.caughtUp && s.floor !== undefined) s.open(Math.min(s.floor, s.thread.firstWaiting - 1));
  }

  /** A session was described: its log may begin, or go on. */
  described(s: SessionState): void {
    this.#openAtFloor(s);
    this.#advance(s);
  }

  /** Takes the answer to an own message, which takes its place in the live stream. */
  answered(message: Message, epoch: string): boolean {
    if (this.epoch !== "" && epoch !== this.epoch) return false;
    const s = this.session(message.sessionId);
    // Entered before it was known who this is, it says so now.
    s.thread.add(this.me ? { ...message, senderId: this.me.userId, senderDeviceId: this.me.deviceId } : message);
    if (!s.snapshot) this.descriptions.stale(s.id);
    this.#openAtFloor(s);
    this.#advance(s);
    const shown = s.thread.shown;
    if (shown !== undefined && message.seq <= shown) this.onMessage(message); // also where it lies before what is shown
    void this.changes.write().then(() => shown && this.acks.set(s.id, shown));
    return true;
  }

  #advance(s: SessionState): void {
    for (let piece = s.thread.next(); piece; piece = s.thread.next()) {
      this.bus.publish(s.take(piece));
      const m = piece.message;
      if (!m) continue;
      this.onMessage(m);
      const c = m.content?.kind;
      if (c === "memberChange") this.onPeople();
      if (c === "memberChange" && s.membersLoaded) void this.descriptions.loadMembers(s).catch(() => {});
      if (c === "memberChange" || c === "sessionChange" || (c === "recall" && !s.countsExactly)) this.descriptions.stale(s.id);
    }
    if (s.thread.waiting > 0) this.#watchHoles();
    this.changes.touch(s);
  }

  #state(e: StateEvent): void {
    const s = this.session(e.sessionId);
    for (const seq of e.readSeqs) s.readSeqs.add(toSeq(seq));
    for (const seq of e.deletedSeqs) s.deletedSeqs.add(toSeq(seq));
    if (s.snapshot) {
      s.snapshot = {
        ...s.snapshot,
        readSeq: Math.max(s.snapshot.readSeq, toSeq(e.readSeq)),
        deletedToSeq: Math.max(s.snapshot.deletedToSeq, toSeq(e.deletedToSeq)),
        markedUnread: e.markedUnread,
        unread: Number(e.unread),
      };
    }
    if (!s.countsExactly) this.descriptions.stale(s.id);
    if (e.reload) void this.descriptions.loadStates(s).catch(() => this.descriptions.stale(s.id));
    this.changes.touch(s);
    this.bus.publish({ type: "state", sessionId: s.id, readSeq: toSeq(e.readSeq), unread: Number(e.unread) });
  }

  #readBy(e: ReadPositionEvent): void {
    const seq = toSeq(e.readSeq);
    this.session(e.sessionId).readTo(e.userId, seq);
    this.bus.publish({ type: "read", sessionId: e.sessionId, userId: e.userId, readSeq: seq });
  }

  #signalled(e: SignalEvent): void {
    const from = { sessionId: e.sessionId, userId: e.senderId, deviceId: e.senderDeviceId };
    const kind = e.signal?.kind;
    if (kind?.case === "custom") {
      const { typeUrl, payload } = kind.value;
      this.bus.publish({ type: "signal", ...from, typeUrl, payload });
    }
    if (kind?.case !== "typing") return;
    const { isTyping } = kind.value;
    if (e.senderId !== this.me?.userId) {
      const { typing } = this.session(e.sessionId);
      if (isTyping) typing.started(e.senderId);
      else typing.stopped(e.senderId);
    }
    this.bus.publish({ type: "typing", ...from, isTyping });
  }

  // Drops what is held of a session, or of all; what follows is taken as a fresh start.
  #resync(r: Resync): void {
    const reason = toResetReason(r.reason);
    if (r.sessionId !== "") {
      const s = this.session(r.sessionId);
      this.#forget(s);
      if (reason === "sessionUnavailable") this.#lose(s);
      else this.descriptions.stale(s.id);
      this.bus.publish({ type: "reset", sessionId: s.id, reason });
      return;
    }
    for (const s of this.sessions.values()) {
      this.#forget(s);
      this.descriptions.stale(s.id);
    }
    this.epoch = r.epoch;
    this.#keepDevice();
    this.fresh = true;
    this.bus.publish({ type: "reset", reason });
  }

  #forget(s: SessionState): void {
    s.reset();
    this.onReset(s.id);
    s.typing.clear();
    this.acks.forget(s.id);
    this.reads.forget(s.id);
    this.changes.touch(s);
  }

  // The user cannot see the session any more.
  #lose(s: SessionState): void {
    s.info.set(undefined);
    this.changes.drop(s);
  }

  // ---- Reading

  /** Marks everything up to a seq as read, here at once, and tells the server when it can be told. */
  markRead(s: SessionState, upTo: number): void {
    const seq = Math.min(upTo, s.thread.shown ?? 0);
    if (!s.snapshot || (seq <= s.snapshot.readSeq && !s.snapshot.markedUnread) || seq < 1) return;
    s.snapshot = { ...s.snapshot, readSeq: Math.max(seq, s.snapshot.readSeq), markedUnread: false };
    s.untoldRead = s.snapshot.readSeq;
    this.reads.set(s.id, s.untoldRead);
    this.changes.touch(s);
  }

  async #tellRead(sessionId: string, seq: number): Promise<void> {
    const res = await this.api.call((a, o) => a.states.markRead({ sessionId, upToSeq: BigInt(seq) }, o));
    const s = this.sessions.get(sessionId);
    if (!s) return;
    if (s.untoldRead !== undefined && s.untoldRead <= seq) s.untoldRead = undefined;
    if (s.snapshot && !s.countsExactly) {
      s.snapshot = { ...s.snapshot, unread: Number(res.unread) };
      this.descriptions.stale(sessionId);
    }
    this.changes.touch(s);
  }

  // ---- Holes

  // An own message whose answer is late explains a hole, for a while; then the log itself is asked.
  #watchHoles(): void {
    this.#holeTimer ??= setTimeout(() => {
      this.#holeTimer = undefined;
      const signal = this.#signal;
      const waiting = [...this.sessions.values()].filter((s) => s.thread.isOpen && s.thread.waiting > 0);
      void Promise.all(waiting.map((s) => this.#fill(s, signal))).catch(() => {}).finally(() => {
        if (!signal.aborted && waiting.some((s) => s.thread.waiting > 0)) this.#watchHoles();
      });
    }, holePatienceMs);
  }

  async #fill(s: SessionState, signal: AbortSignal): Promise<void> {
    const { life } = s;
    const after = s.thread.shown ?? 0;
    const position = { case: "afterSeq", value: BigInt(after) } as const;
    const page = await this.api.call((a, o) => a.messages.listMessages({ sessionId: s.id, position, limit: 200 }, o), signal);
    if (s.life !== life || s.thread.shown !== after) return; // things have moved on
    const [first] = page.messages;
    if (!first) return;
    if (toSeq(first.seq) > after + 1) s.thread.leaveOut(after + 1, toSeq(first.seq) - 1); // cannot be seen by the user
    for (const m of page.messages) this.#entry(m);
    void this.changes.write();
  }

  /** Stops the clocks. */
  stop(): void {
    clearTimeout(this.#holeTimer);
    this.#holeTimer = undefined;
    for (const s of this.sessions.values()) s.typing.clear();
  }
}

function lastAt(s: SessionState): number {
  return s.info.value?.lastMessage?.createdAt.getTime() ?? 0;
}
