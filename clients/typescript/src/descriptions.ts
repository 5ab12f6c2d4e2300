import type { Session as PbSession } from "../gen/parley/v1/session_pb.js";
import type { Api } from "./api.js";
import type { Changes } from "./changes.js";
import { toMember, toMessage, toSeq, toSnapshot } from "./convert.js";
import type { EventBus } from "./events.js";
import type { Member } from "./model.js";
import type { SessionState } from "./session-state.js";

/** What the descriptions need from their owner. */
export interface DescriptionsOwner {
  readonly sessions: ReadonlyMap<string, SessionState>;
  /** The state of a session, made if it is new. */
  session(id: string): SessionState;
  /** A session was described: its log may begin, or go on. */
  described(s: SessionState): void;
  /** Others may have come into sight. */
  onPeople(): void;
}

/**
 * What the server says of sessions beside their logs: what each is, its members, the states of messages for the user. What is
 * stale is asked for anew.
 */
export class Descriptions {
  /** What is asked for by itself ends with this signal. */
  signal: AbortSignal = AbortSignal.abort();
  readonly #stale = new Set<string>();
  #refreshing = false;

  constructor(
    private readonly owner: DescriptionsOwner,
    private readonly api: Api,
    private readonly bus: EventBus,
    private readonly changes: Changes,
  ) {}

  /** Takes a description of a session. */
  take(session: PbSession): SessionState {
    const s = this.owner.session(session.sessionId);
    if (!s.snapshot) this.owner.onPeople();
    this.#learn(s, session, s.beginsAtHead);
    s.publish();
    if (s.info.value) this.bus.publish({ type: "session", session: s.info.value });
    return s;
  }

  #learn(s: SessionState, session: PbSession, atHead: boolean): void {
    const next = toSnapshot(session);
    s.describe(next, session.lastMessage && toMessage(session.lastMessage));
    if (!s.thread.isOpen) s.floor ??= atHead ? next.headSeq : next.joinedSeq - 1;
    this.owner.described(s);
  }

  /** Has a session described anew, soon. */
  stale(sessionId: string): void {
    this.#stale.add(sessionId);
    if (!this.#refreshing) void this.#refreshStale();
  }

  async #refreshStale(): Promise<void> {
    this.#refreshing = true;
    const { signal } = this;
    await new Promise((resolve) => setTimeout(resolve, 100)); // gathers
    try {
      if (this.#stale.size > 20) await this.refreshAll(signal, false);
      for (const id of [...this.#stale]) {
        if (signal.aborted) return;
        this.#stale.delete(id);
        await this.refresh(id, signal).catch(() => {}); // refused: it is gone; else the next stream lists all
      }
    } catch {
      // the next stream lists all
    } finally {
      this.#refreshing = false;
    }
  }

  /** Has a session described anew, now. */
  async refresh(sessionId: string, signal?: AbortSignal): Promise<SessionState> {
    const { session } = await this.api.call((a, o) => a.sessions.getSession({ sessionId }, o), signal);
    return session ? this.take(session) : this.owner.session(sessionId);
  }

  /** Has all sessions described anew, now. The first time those that begin now do so at their heads. */
  async refreshAll(signal: AbortSignal, first: boolean): Promise<void> {
    const { sessions } = this.owner;
    const before = new Set(sessions.keys());
    const all = await this.api.listSessions(signal);
    for (const session of all) {
      this.#stale.delete(session.sessionId);
      before.delete(session.sessionId);
      const s = this.owner.session(session.sessionId);
      this.#learn(s, session, first || s.beginsAtHead);
    }
    // What is not listed has been left; its last entries, if they are not here yet, come by the stream.
    for (const id of before) {
      const s = sessions.get(id);
      if (!s?.snapshot?.isMember) continue;
      s.snapshot = { ...s.snapshot, isMember: false };
      this.changes.touch(s);
    }
  }

  /** Loads the user's own states of a session's messages, all that the list may show. */
  async loadStates(s: SessionState): Promise<void> {
    const { life } = s;
    for (let after = s.base; ; ) {
      const page = await this.api.call((a, o) => a.states.listStates({ sessionId: s.id, afterSeq: BigInt(after), limit: 1000 }, o));
      if (s.life !== life) return;
      for (const state of page.states) {
        const seq = toSeq(state.seq);
        if (state.isRead) s.readSeqs.add(seq);
        if (state.isDeleted) s.deletedSeqs.add(seq);
        after = seq;
      }
      this.changes.touch(s);
      if (page.states.length < 1000) return;
    }
  }

  /** Loads a session's members, all of them; they are kept up to date from then on. */
  async loadMembers(s: SessionState): Promise<readonly Member[]> {
    s.membersLoaded = true;
    const { life } = s;
    const all: Member[] = [];
    for (let pageToken = ""; ; ) {
      const request = { sessionId: s.id, limit: 1000, pageToken };
      const page = await this.api.call((a, o) => a.sessions.listMembers(request, o));
      all.push(...page.members.map(toMember));
      pageToken = page.nextPageToken;
      if (pageToken === "") break;
    }
    if (s.life === life) s.listMembers(all);
    return s.members.value;
  }
}
