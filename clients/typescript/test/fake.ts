// A Parley in memory, over an in-memory router transport: it keeps the server's rules that a client can feel (own live
// entries are left out for the sending device, cursors, acks, Skipped, Resync, displacement), and breaks on command.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, createRouterTransport, type HandlerContext, type Transport } from "@connectrpc/connect";
import { ErrorDetailSchema, ErrorReason } from "../gen/parley/v1/error_reason_pb.js";
import { EventSchema, ResyncReason, type Event } from "../gen/parley/v1/event_pb.js";
import { MessageSchema, MessageType, MemberRole, type Message } from "../gen/parley/v1/message_pb.js";
import { MessageService, type SendMessageRequest } from "../gen/parley/v1/message_service_pb.js";
import { DeviceService } from "../gen/parley/v1/device_service_pb.js";
import { PresenceService } from "../gen/parley/v1/presence_service_pb.js";
import { RelationKind } from "../gen/parley/v1/relation_pb.js";
import { RelationService } from "../gen/parley/v1/relation_service_pb.js";
import { SessionKind, SessionSchema, type Session } from "../gen/parley/v1/session_pb.js";
import { SessionService } from "../gen/parley/v1/session_service_pb.js";
import { StateService } from "../gen/parley/v1/state_service_pb.js";
import { SyncService, type SubscribeRequest } from "../gen/parley/v1/sync_service_pb.js";
import { directSessionId } from "../src/uuid.js";

type EventKind = NonNullable<MessageInitShape<typeof EventSchema>["kind"]>;

/** A token of the form that the SDK looks into. */
export function tokenFor(userId: string, deviceId: string, extra: object = {}): string {
  const part = (o: object): string => Buffer.from(JSON.stringify(o)).toString("base64url");
  return `${part({ alg: "none" })}.${part({ sub: userId, did: deviceId, ...extra })}.`;
}

export function refuse(code: Code, reason: ErrorReason, metadata: Record<string, string> = {}): ConnectError {
  return new ConnectError(ErrorReason[reason], code, undefined, [{ desc: ErrorDetailSchema, value: { reason, metadata } }]);
}

interface FakeSession {
  id: string;
  kind: SessionKind;
  members: Map<string, { joined: number; read: number; readSeqs: Set<number> }>;
  log: Message[];
}

interface Live {
  userId: string;
  deviceId: string;
  queue: Event[];
  wake: () => void;
  end?: ConnectError | "close" | "hang";
  budget: number; // events until the stream is cut
  served: Map<string, number>;
}

export class FakeParley {
  epoch = "e1";
  heartbeatMs = 20_000;
  readonly sessions = new Map<string, FakeSession>();
  readonly cursors = new Map<string, Map<string, number>>(); // device -> session -> acked
  readonly subscribes: SubscribeRequest[] = [];
  readonly acks: Array<Array<[string, number]>> = [];
  readonly sends: SendMessageRequest[] = [];
  readonly tokens: string[] = [];
  readonly reads: Array<[string, number]> = [];
  readonly signals: string[] = [];
  /** Whom each WatchPresence named. */
  readonly watches: string[][] = [];
  /** Who may be seen, and whether they are online. */
  readonly online = new Map<string, boolean>();
  /** The answer is all that tells presence: the stream has not taken the watch over. */
  deafToWatches = false;
  readonly blocked = new Set<string>();
  /** Events that each next stream may send before it is cut; empty: never cut. */
  cuts: number[] = [];
  /** What happens to each next send: "ok", "lost" (committed, answer lost), "away" (not committed, repeatable). */
  fates: Array<"ok" | "lost" | "away" | ConnectError> = [];
  /** Refuses calls when set. */
  gate: ((ctx: HandlerContext, token: string) => void) | undefined;
  /** Held back before a send is answered; lets the stream overtake. */
  answerDelay: (() => Promise<void>) | undefined;
  readonly #live = new Map<string, Live>();

  group(id: string, ...members: string[]): string {
    const s: FakeSession = { id, kind: SessionKind.GROUP, members: new Map(), log: [] };
    this.sessions.set(id, s);
    for (const m of members) s.members.set(m, { joined: 1, read: 0, readSeqs: new Set() });
    return id;
  }

  /** Commits a text and delivers it. */
  post(sessionId: string, sender: string, device: string, body: string, messageId: string = crypto.randomUUID()): number {
    return this.#append(this.#get(sessionId), sender, device, MessageType.TEXT, { case: "text", value: { body } }, messageId);
  }

  recall(sessionId: string, sender: string, seq: number): number {
    const target = this.#get(sessionId).log[seq - 1];
    if (target) {
      target.isDeleted = true;
      delete target.content;
    }
    return this.#append(this.#get(sessionId), sender, "", MessageType.RECALL, { case: "recall", value: { seq: BigInt(seq) } });
  }

  /** Sends any event to a device's stream. */
  tell(userId: string, kind: EventKind, device?: string): void {
    for (const live of this.#live.values()) {
      if (live.userId === userId && (!device || live.deviceId === device)) this.#put(live, kind);
    }
  }

  /** Ends streams: with an error, in good order, or by saying nothing more. */
  end(how: ConnectError | "close" | "hang" = new ConnectError("cut", Code.Unavailable)): void {
    for (const live of this.#live.values()) {
      live.end = how;
      live.wake();
    }
  }

  get streams(): number {
    return this.#live.size;
  }

  /** The log begins a new life: what is there stays, under another epoch. */
  newEpoch(epoch: string): void {
    this.epoch = epoch;
    this.cursors.clear();
    this.end("close");
  }

  transport(): Transport {
    return createRouterTransport((router) => {
      router.service(SyncService, {
        subscribe: (req, ctx) => this.#subscribe(req, ctx),
        ack: (req, ctx) => {
          const who = this.#who(ctx);
          if (req.epoch && req.epoch !== this.epoch) throw refuse(Code.Aborted, ErrorReason.EPOCH_CHANGED);
          const mine = this.#cursors(who);
          this.acks.push(req.acks.map((a) => [a.sessionId, Number(a.seq)]));
          for (const { sessionId, seq } of req.acks) {
            if (Number(seq) > this.#get(sessionId).log.length) throw refuse(Code.OutOfRange, ErrorReason.CURSOR_BEYOND_HEAD);
            mine.set(sessionId, Math.max(mine.get(sessionId) ?? 0, Number(seq)));
          }
          return {};
        },
        sendSignal: (req, ctx) => {
          this.#who(ctx);
          this.signals.push(req.signal?.kind.case ?? "");
          return {};
        },
      });
      router.service(MessageService, {
        sendMessage: async (req, ctx) => this.#send(req, ctx),
        sendMessages: async (req, ctx) => {
          const results = [];
          for (const m of req.messages) {
            try {
              results.push({ result: { case: "sent" as const, value: await this.#send(m, ctx) } });
            } catch (err) {
              const ce = ConnectError.from(err);
              const [detail] = ce.findDetails(ErrorDetailSchema);
              if (!detail) throw err;
              results.push({ result: { case: "error" as const, value: { code: ce.code, message: ce.rawMessage, detail } } });
            }
          }
          return { results };
        },
        listMessages: (req, ctx) => {
          const { userId } = this.#who(ctx);
          const s = this.#get(req.sessionId);
          const limit = req.limit || 50;
          const from = (s.members.get(userId)?.joined ?? 1) - 1;
          const visible = s.log.filter((m) => Number(m.seq) > from);
          const { position: p } = req;
          if (p.case === "afterSeq") {
            const after = visible.filter((m) => m.seq > p.value);
            return { messages: after.slice(0, limit), headSeq: BigInt(s.log.length), hasMore: after.length > limit };
          }
          const before = p.case === "beforeSeq" ? visible.filter((m) => m.seq < p.value) : visible;
          return { messages: before.slice(-limit), headSeq: BigInt(s.log.length), hasMore: before.length > limit };
        },
      });
      router.service(SessionService, {
        listSessions: (_req, ctx) => {
          const { userId } = this.#who(ctx);
          return { sessions: [...this.sessions.values()].filter((s) => s.members.has(userId)).map((s) => this.view(s.id, userId)) };
        },
        getSession: (req, ctx) => ({ session: this.view(req.sessionId, this.#who(ctx).userId) }),
        listMembers: (req) => ({ members: [...this.#get(req.sessionId).members.keys()].map((userId) => ({ userId })) }),
      });
      router.service(PresenceService, {
        watchPresence: (req, ctx) => {
          const who = this.#who(ctx);
          this.watches.push([...req.userIds]);
          const seen = req.userIds.filter((id) => this.online.has(id)).sort();
          const presences = seen.map((userId) => ({ userId, isOnline: this.online.get(userId) ?? false }));
          if (!this.deafToWatches) for (const presence of presences) this.tell(who.userId, { case: "presence", value: { presence } }, who.deviceId);
          return { presences };
        },
      });
      router.service(DeviceService, {
        listDevices: (_req, ctx) => {
          const { userId, deviceId } = this.#who(ctx);
          const all = new Set([...this.cursors.keys()].filter((key) => key.startsWith(`${userId}/`)).map((key) => key.split("/")[1] ?? ""));
          return { devices: [...all.add(deviceId)].sort().map((id) => ({ deviceId: id, isCurrent: id === deviceId })) };
        },
        revokeDevice: (req, ctx) => {
          this.cursors.delete(`${this.#who(ctx).userId}/${req.deviceId}`);
          return {};
        },
        registerDevice: ({ displayName, platform }, ctx) => ({
          device: { displayName, platform, deviceId: this.#who(ctx).deviceId, isCurrent: true },
        }),
      });
      router.service(RelationService, {
        blockUser: (req) => (this.blocked.add(req.userId), {}),
        unblockUser: (req) => (this.blocked.delete(req.userId), {}),
        listRelations: (req) => {
          // One a page, so that pages are followed.
          const all = req.kind === RelationKind.BLOCKED ? [...this.blocked].sort() : [];
          const at = Number(req.pageToken || 0);
          const relations = all.slice(at, at + 1).map((userId) => ({ userId, kind: RelationKind.BLOCKED }));
          return { relations, nextPageToken: at + 1 < all.length ? String(at + 1) : "" };
        },
      });
      router.service(StateService, {
        markRead: (req, ctx) => {
          const { userId } = this.#who(ctx);
          this.reads.push([req.sessionId, Number(req.upToSeq)]);
          const m = this.#get(req.sessionId).members.get(userId);
          if (m) m.read = Math.max(m.read, Number(req.upToSeq));
          return { readSeq: BigInt(m?.read ?? 0), unread: this.view(req.sessionId, userId).unread };
        },
      });
    });
  }

  /** A session as a user sees it. */
  view(sessionId: string, userId: string): Session {
    const s = this.#get(sessionId);
    const m = s.members.get(userId);
    if (!m) throw refuse(Code.PermissionDenied, ErrorReason.SESSION_UNAVAILABLE);
    const unread = s.log.filter(
      (e) => Number(e.seq) > Math.max(m.read, m.joined - 1) && e.type <= MessageType.CUSTOM && e.senderId !== userId && !e.isDeleted,
    ).length;
    return create(SessionSchema, {
      sessionId,
      kind: s.kind,
      title: s.kind === SessionKind.GROUP ? `group ${sessionId}` : "",
      peerUserId: s.kind === SessionKind.DIRECT ? ([...s.members.keys()].find((u) => u !== userId) ?? "") : "",
      headSeq: BigInt(s.log.length),
      epoch: this.epoch,
      memberCount: s.members.size,
      unread: BigInt(unread),
      createdAt: timestampNow(),
      membership: { role: MemberRole.MEMBER, joinedSeq: BigInt(m.joined), readSeq: BigInt(m.read) },
      ...(s.log.length > 0 && { lastMessage: s.log[s.log.length - 1] as Message }),
    });
  }

  #get(sessionId: string): FakeSession {
    const s = this.sessions.get(sessionId);
    if (!s) throw refuse(Code.PermissionDenied, ErrorReason.SESSION_UNAVAILABLE);
    return s;
  }

  #who(ctx: HandlerContext): { userId: string; deviceId: string } {
    const token = (ctx.requestHeader.get("Authorization") ?? "").replace("Bearer ", "");
    this.tokens.push(token);
    this.gate?.(ctx, token);
    if (token === "") throw refuse(Code.Unauthenticated, ErrorReason.TOKEN_MISSING);
    const claims = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString()) as { sub: string; did: string };
    return { userId: claims.sub, deviceId: claims.did };
  }

  #cursors(who: { userId: string; deviceId: string }): Map<string, number> {
    const key = `${who.userId}/${who.deviceId}`;
    let mine = this.cursors.get(key);
    if (!mine) this.cursors.set(key, (mine = new Map()));
    return mine;
  }

  async #send(req: SendMessageRequest, ctx: HandlerContext) {
    const { userId, deviceId } = this.#who(ctx);
    this.sends.push(req);
    const fate = this.fates.shift() ?? "ok";
    if (fate instanceof ConnectError) throw fate;
    if (fate === "away") throw refuse(Code.Unavailable, ErrorReason.UNAVAILABLE, { retry_after_ms: "1" });
    let s: FakeSession;
    if (req.target.case === "peerUserId") {
      const id = directSessionId(userId, req.target.value);
      if (!this.sessions.has(id)) {
        this.group(id, userId, req.target.value);
        this.#get(id).kind = SessionKind.DIRECT;
        for (const u of [userId, req.target.value]) this.tell(u, { case: "session", value: { session: this.view(id, u) } });
      }
      s = this.#get(id);
    } else s = this.#get(req.target.value ?? "");
    let seq = s.log.findIndex((m) => m.messageId === req.messageId) + 1;
    if (seq === 0) {
      const kind = req.content?.kind as NonNullable<Message["content"]>["kind"];
      seq = this.#append(s, userId, deviceId, MessageType.TEXT, kind as never, req.messageId);
    }
    await this.answerDelay?.();
    if (fate === "lost") throw new ConnectError("connection lost", Code.Unavailable);
    return { sessionId: s.id, messageId: req.messageId, seq: BigInt(seq), epoch: this.epoch, createdAt: timestampNow() };
  }

  #append(
    s: FakeSession,
    senderId: string,
    senderDeviceId: string,
    type: MessageType,
    kind: { case: "text"; value: { body: string } } | { case: "recall"; value: { seq: bigint } },
    messageId: string = crypto.randomUUID(),
  ): number {
    const seq = s.log.length + 1;
    const message = create(MessageSchema, {
      sessionId: s.id, seq: BigInt(seq), messageId, senderId, senderDeviceId, type, content: { kind }, createdAt: timestampNow(),
    });
    s.log.push(message);
    const me = s.members.get(senderId);
    if (me && type <= MessageType.CUSTOM) me.read = Math.max(me.read, seq);
    for (const live of this.#live.values()) {
      if (!s.members.has(live.userId)) continue;
      // The sending device had its answer, which takes the entry's place.
      if (live.userId === senderId && live.deviceId === senderDeviceId && type <= MessageType.CUSTOM) continue;
      this.#put(live, { case: "message", value: message });
    }
    return seq;
  }

  #put(live: Live, kind: EventKind): void {
    live.queue.push(create(EventSchema, { kind }));
    live.wake();
  }

  async *#subscribe(req: SubscribeRequest, ctx: HandlerContext) {
    const who = this.#who(ctx);
    this.subscribes.push(req);
    const key = `${who.userId}/${who.deviceId}`;
    const older = this.#live.get(key);
    if (older) {
      older.end = refuse(Code.FailedPrecondition, ErrorReason.STREAM_DISPLACED);
      older.wake();
    }
    const live: Live = { ...who, queue: [], wake: () => {}, budget: this.cuts.shift() ?? Infinity, served: new Map() };
    this.#live.set(key, live);
    ctx.signal.addEventListener("abort", () => live.wake());
    const nanos = (this.heartbeatMs % 1000) * 1e6;
    const heartbeatInterval = { seconds: BigInt(Math.floor(this.heartbeatMs / 1000)), nanos };
    this.#put(live, { case: "opened", value: { epoch: this.epoch, heartbeatInterval } });
    this.#backlog(live, req);
    this.#put(live, { case: "caughtUp", value: { unreadTotal: 0n } });
    try {
      while (!ctx.signal.aborted) {
        if (live.end === "close") return;
        if (live.end instanceof ConnectError) throw live.end;
        if (live.queue.length > 0 && live.end !== "hang") {
          const events = live.queue.splice(0, Math.max(1, Math.min(50, live.budget)));
          live.budget -= events.length;
          yield { events };
          if (live.budget <= 0) throw new ConnectError("cut", Code.Unavailable);
          continue;
        }
        await new Promise<void>((resolve) => (live.wake = resolve));
      }
    } finally {
      if (this.#live.get(key) === live) this.#live.delete(key);
    }
  }

  #backlog(live: Live, req: SubscribeRequest): void {
    let { fresh } = req;
    const named = new Map(req.cursors.map((c) => [c.sessionId, Number(c.seq)]));
    if (req.epoch !== "" && req.epoch !== this.epoch) {
      this.#put(live, { case: "resync", value: { reason: ResyncReason.EPOCH_CHANGED, epoch: this.epoch } });
      named.clear();
      fresh = true;
    }
    const acked = fresh ? new Map<string, number>() : this.#cursors(live);
    for (const s of this.sessions.values()) {
      const m = s.members.get(live.userId);
      if (!m) continue;
      const head = s.log.length;
      let at = named.get(s.id) ?? acked.get(s.id) ?? m.joined - 1;
      if (at > head) {
        this.#put(live, { case: "resync", value: { reason: ResyncReason.CURSOR_BEYOND_HEAD, sessionId: s.id, epoch: this.epoch } });
        at = m.joined - 1;
      }
      const limit = req.maxBacklog || (acked.size === 0 && !named.has(s.id) ? 200 : Infinity);
      if (head - at > limit) {
        this.#put(live, { case: "skipped", value: { sessionId: s.id, fromSeq: BigInt(at + 1), toSeq: BigInt(head - limit) } });
        at = head - limit;
      }
      for (const message of s.log.slice(at)) this.#put(live, { case: "message", value: message });
    }
  }
}
