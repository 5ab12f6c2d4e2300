import type { Api } from "./api.js";
import { toMessage, toOwn, toPbRole, toSeq } from "./convert.js";
import { ParleyError } from "./errors.js";
import type { Keeper } from "./keeper.js";
import type {
  CustomContent,
  Member,
  MemberRole,
  Message,
  OutgoingContent,
  OwnSettings,
  SessionInfo,
  SessionSettings,
} from "./model.js";
import type { Observable } from "./observable.js";
import type { Outbox } from "./outbox.js";
import type { SessionState } from "./session-state.js";
import type { Sync } from "./sync.js";
import { uuidv7 } from "./uuid.js";

/** How often the others are told that somebody is typing, in milliseconds. */
const typingEveryMs = 4000;

/** What a message can carry beside its content. */
export interface SendOptions {
  /** The seq in the same session that it answers. */
  readonly replyToSeq?: number;
  /** Users mentioned, at most 50. */
  readonly mentions?: readonly string[];
}

/** A message that was handed over for sending. */
export interface Outgoing {
  /** The message as it stands now: pending. It is in {@link Session.messages} too. */
  readonly message: Message;
  /**
   * The message as it stands in the log, once it does: after reconnects, and if need be much later. Fails with the
   * server's reason when it is refused for good; it need not be awaited, since the message's status says it too.
   */
  readonly sent: Promise<Message>;
}

/** The parts of the client that a session uses. */
export interface SessionParts {
  readonly api: Api;
  readonly sync: Sync;
  readonly outbox: Outbox;
  readonly keeper: Keeper;
}

/**
 * One conversation. Get it from {@link ParleyClient.session} or {@link ParleyClient.direct}; it is good for as long as
 * its client.
 */
export class Session {
  /** UUID. */
  readonly sessionId: string;
  /** What is known of it; undefined while nothing is, or nothing may be. */
  readonly info: Observable<SessionInfo | undefined>;
  /**
   * The stretch of its log that is in memory: ascending by seq, up to the newest, without holes; own messages that are on
   * their way, or failed, come last. {@link Session.loadOlder} makes it longer.
   */
  readonly messages: Observable<readonly Message[]>;
  /** Who is typing: user ids, in order, without one's own. */
  readonly typing: Observable<readonly string[]>;
  /** Members, once {@link Session.loadMembers} was called. */
  readonly members: Observable<readonly Member[]>;

  readonly #state: SessionState;
  readonly #peer: string | undefined;
  #typingTold = 0;
  #loading: Promise<boolean> | undefined;

  /** @internal */
  constructor(
    private readonly parts: SessionParts,
    sessionId: string,
    peerUserId?: string,
  ) {
    this.#state = parts.sync.session(sessionId);
    this.#peer = peerUserId;
    this.sessionId = sessionId;
    this.info = this.#state.info;
    this.messages = this.#state.messages;
    this.typing = this.#state.typing.names;
    this.members = this.#state.members;
  }

  /**
   * Hands a message over for sending. It appears in {@link Session.messages} at once, is sent when the client is live, in
   * the order of these calls, and is repeated under the same id until the server has said yes or no. With a store it
   * survives reloads.
   *
   * @param content - a string is a text
   * @throws ParleyError OVERLOADED when 1,000 messages wait already
   */
  send(content: string | OutgoingContent, options: SendOptions = {}): Outgoing {
    const body: OutgoingContent = typeof content === "string" ? { kind: "text", body: content } : content;
    const me = this.parts.sync.me;
    const message: Message = {
      sessionId: this.sessionId,
      seq: 0,
      messageId: uuidv7(),
      senderId: me?.userId ?? "",
      senderDeviceId: me?.deviceId ?? "",
      type: body.kind,
      content: body,
      isDeleted: false,
      createdAt: new Date(),
      ...(options.replyToSeq && { replyToSeq: options.replyToSeq }),
      mentions: [...(options.mentions ?? [])],
      status: "pending",
    };
    const peer = this.#peer ?? (this.info.value?.kind === "direct" ? this.info.value.peerUserId : undefined);
    this.#typingTold = 0;
    return { message, sent: this.parts.outbox.add(message, body, peer) };
  }

  /** Sends a failed message again, under the same id. Returns false if there is no such failed message. */
  retry(messageId: string): boolean {
    return this.parts.outbox.retry(messageId);
  }

  /** Takes a failed message out of the list. Returns false if there is no such failed message. */
  discard(messageId: string): boolean {
    return this.parts.outbox.discard(messageId);
  }

  /**
   * Makes {@link Session.messages} longer at its old end: from the store, else from the server.
   *
   * @param limit - at most this many, 1 to 500
   * @returns whether there may be more
   */
  loadOlder(limit = 50): Promise<boolean> {
    this.#loading ??= this.#loadOlder(limit).finally(() => (this.#loading = undefined));
    return this.#loading;
  }

  async #loadOlder(limit: number): Promise<boolean> {
    const s = this.#state;
    if (s.atStart) return false;
    const { life } = s;
    const before = s.window.first?.seq ?? (s.thread.isOpen ? s.base + 1 : s.floor === undefined ? undefined : s.floor + 1);
    if (before !== undefined && s.base > s.storedBase) {
      const kept = await this.parts.keeper.messagesBefore(this.sessionId, before, limit);
      if (kept && kept.length > 0 && s.life === life) {
        this.#prepend(kept);
        return true;
      }
    }
    if (before === 1) return !(s.atStart = true);
    const position = before === undefined ? { case: undefined } : ({ case: "beforeSeq", value: BigInt(before) } as const);
    const request = { sessionId: this.sessionId, position, limit };
    const page = await this.parts.api.call((a, o) => a.messages.listMessages(request, o));
    if (s.life !== life) return true; // it began anew meanwhile
    const messages = page.messages.map(toMessage);
    for (const m of page.messages) {
      if (m.state?.isDeleted) s.deletedSeqs.add(toSeq(m.seq));
      if (m.state?.isRead && m.senderId !== this.parts.sync.me?.userId) s.readSeqs.add(toSeq(m.seq));
    }
    s.atStart = !page.hasMore;
    if (s.storedBase === s.base && messages[0]) s.storedBase = messages[0].seq - 1;
    s.dirt.put.push(...messages);
    this.#prepend(messages);
    return page.hasMore;
  }

  #prepend(messages: readonly Message[]): void {
    const s = this.#state;
    s.prepend(messages);
    const [first] = messages;
    if (first) s.base = Math.min(s.thread.isOpen ? s.base : Infinity, first.seq - 1);
    this.parts.sync.changes.touch(s);
  }

  /**
   * Marks messages as read: everything up to a seq, all by default. Seen here at once, and told to the server, and so to
   * the user's other devices, as soon as it can be.
   */
  markRead(upToSeq: number = this.#state.thread.shown ?? 0): void {
    this.parts.sync.markRead(this.#state, upToSeq);
  }

  /** Flags the session as unread. The flag goes with the next {@link Session.markRead} or message sent. */
  async markUnread(): Promise<void> {
    await this.parts.api.call((a, o) => a.states.markUnread({ sessionId: this.sessionId }, o));
    this.#describeOwn({ markedUnread: true });
  }

  /** Whether the user has read, or sent, a message. */
  isRead(message: Message): boolean {
    return this.#state.isRead(message);
  }

  /** Deletes messages for the user alone, on all devices: some by seq (at most 500), or everything up to a seq. */
  async deleteForMe(which: readonly number[] | { readonly upToSeq: number }): Promise<void> {
    const some = "upToSeq" in which ? { upToSeq: BigInt(which.upToSeq) } : { seqs: which.map(BigInt) };
    const res = await this.parts.api.call((a, o) => a.states.deleteForMe({ sessionId: this.sessionId, ...some }, o));
    if (!("upToSeq" in which)) for (const seq of which) this.#state.deletedSeqs.add(seq);
    this.#describeOwn({ deletedToSeq: toSeq(res.deletedToSeq), unread: Number(res.unread) });
    if (!this.#state.countsExactly) this.parts.sync.descriptions.stale(this.sessionId);
  }

  /** Takes a message back: its body is erased everywhere. */
  async recall(seq: number): Promise<void> {
    await this.parts.api.call((a, o) => a.messages.recallMessage({ sessionId: this.sessionId, seq: BigInt(seq) }, o));
  }

  /** Who has read a message; its sender is not listed. */
  async readers(seq: number): Promise<string[]> {
    const out: string[] = [];
    for (let pageToken = ""; ; ) {
      const request = { sessionId: this.sessionId, seq: BigInt(seq), limit: 1000, pageToken };
      const page = await this.parts.api.call((a, o) => a.states.listReaders(request, o));
      out.push(...page.readers.map((r) => r.userId));
      pageToken = page.nextPageToken;
      if (pageToken === "") return out;
    }
  }

  /** Tells the others that the user types, or has stopped. Call it with every key: it is told every 4 s at most. */
  setTyping(isTyping: boolean): void {
    const now = Date.now();
    if (isTyping ? now - this.#typingTold < typingEveryMs : this.#typingTold === 0) return;
    this.#typingTold = isTyping ? now : 0;
    this.#signal({ case: "typing", value: { isTyping } }).catch(() => {}); // ephemeral: it may be lost
  }

  /** Sends a signal of the app's own to the others who are online now. Not stored, may be lost. */
  async sendSignal(custom: Omit<CustomContent, "kind">): Promise<void> {
    const { typeUrl, payload } = custom;
    await this.#signal({ case: "custom", value: { typeUrl, payload: new Uint8Array(payload) } });
  }

  async #signal(
    kind: { case: "typing"; value: { isTyping: boolean } } | { case: "custom"; value: { typeUrl: string; payload: Uint8Array<ArrayBuffer> } },
  ): Promise<void> {
    await this.parts.api.call((a, o) => a.sync.sendSignal({ sessionId: this.sessionId, signal: { kind } }, o));
  }

  /** Loads all members into {@link Session.members}, which is kept up to date from then on. */
  loadMembers(): Promise<readonly Member[]> {
    return this.parts.sync.descriptions.loadMembers(this.#state);
  }

  /** Adds users to the group. */
  async addMembers(userIds: readonly string[]): Promise<void> {
    await this.parts.api.call((a, o) => a.sessions.addMembers({ sessionId: this.sessionId, userIds: [...userIds] }, o));
  }

  /** Removes a member from the group. */
  async removeMember(userId: string): Promise<void> {
    await this.parts.api.call((a, o) => a.sessions.removeMember({ sessionId: this.sessionId, userId }, o));
  }

  /** Gives a member a role, or forbids or allows it to send. */
  async setMember(userId: string, change: { readonly role?: MemberRole; readonly isMuted?: boolean }): Promise<void> {
    const { role, isMuted } = change;
    const request = { sessionId: this.sessionId, userId, role: toPbRole(role), ...(isMuted !== undefined && { isMuted }) };
    await this.parts.api.call((a, o) => a.sessions.setMemberRole(request, o));
  }

  /** Leaves the group. */
  async leave(): Promise<void> {
    await this.parts.api.call((a, o) => a.sessions.leaveSession({ sessionId: this.sessionId }, o));
  }

  /** Changes the group's settings. */
  async update(settings: SessionSettings): Promise<void> {
    const { sendRole, ...rest } = settings;
    const request = { sessionId: this.sessionId, ...rest, ...(sendRole && { sendRole: toPbRole(sendRole) }) };
    await this.parts.api.call((a, o) => a.sessions.updateSession(request, o));
  }

  /** Changes the user's own settings of the session, on all devices. */
  async updateOwn(settings: OwnSettings): Promise<void> {
    const request = { sessionId: this.sessionId, ...settings };
    const { membership } = await this.parts.api.call((a, o) => a.sessions.updateMembership(request, o));
    if (!membership) return;
    const { isPinned, isArchived, notificationsMuted } = toOwn(membership);
    this.#describeOwn({ isPinned, isArchived, notificationsMuted });
  }

  /** Has the session described anew by the server, for one that is not known yet. */
  async refresh(): Promise<SessionInfo> {
    await this.parts.sync.descriptions.refresh(this.sessionId);
    const info = this.info.value;
    if (!info) throw new ParleyError("SESSION_UNAVAILABLE", "there is no such session for this user");
    return info;
  }


  #describeOwn(change: Partial<SessionInfo>): void {
    const s = this.#state;
    if (s.snapshot) s.snapshot = { ...s.snapshot, ...change };
    this.parts.sync.changes.touch(s);
  }
}
