import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import {
  fullJitter,
  IndexedDbStore,
  ParleyClient,
  type MemberRole,
  type OwnSettings,
  type Relation,
  type Session,
  type SessionSettings,
} from "../../src/index.js";
import { Recorder } from "../util.js";
import { entry, look } from "./view.js";

/** What a call says beside its name. */
export interface Args extends OwnSettings, Pick<SessionSettings, "title" | "historyVisible"> {
  baseUrl?: string;
  tokens?: string[];
  store?: string;
  maxBacklog?: number;
  windowSize?: number;
  session?: string;
  user?: string;
  users?: string[];
  members?: string[];
  device?: string;
  kind?: string;
  bodies?: string[];
  replyToSeq?: number;
  seq?: number;
  seqs?: number[];
  upToSeq?: number;
  limit?: number;
  role?: MemberRole;
  sendRole?: MemberRole;
  isMuted?: boolean;
  isTyping?: boolean;
}

const factory = new IDBFactory();
Object.assign(globalThis, { IDBKeyRange });

function need<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("something is missing in the call");
  return value;
}

/** The settings of a group that a call names, and no others. */
function settings(w: Args): SessionSettings {
  return {
    ...(w.title !== undefined && { title: w.title }),
    ...(w.historyVisible !== undefined && { historyVisible: w.historyVisible }),
    ...(w.sendRole && { sendRole: w.sendRole }),
  };
}

/** A device that is worked by calls: each is one step of a scenario, and answers with plain values. */
export class Worked {
  #client: ParleyClient | undefined;
  #recorder: Recorder | undefined;
  #ends = new AbortController();
  #watched: readonly string[] = [];
  #store = "";

  /** Does what a call says. */
  async work(what: string, w: Args): Promise<unknown> {
    switch (what) {
      case "open":
        return this.#open(w);
      case "close":
        await this.#client?.stop();
        this.#ends.abort();
        this.#client = undefined;
        return null;
    }
    const client = this.#client;
    if (!client || !this.#recorder) throw new Error("the device is not open");
    switch (what) {
      case "start":
        return client.start();
      case "stop":
        return client.stop();
      case "direct":
        return (await client.direct(need(w.user))).sessionId;
      case "group":
        return (await client.createGroup({ ...settings(w), memberIds: w.members ?? [] })).sessionId;
      case "devices":
        return (await client.devices()).map((d) => d.deviceId).sort();
      case "revokeDevice":
        return client.revokeDevice(need(w.device));
      case "relations":
        return (await client.relations(need(w.kind) as Exclude<Relation["kind"], "none">)).map((r) => r.userId).sort();
      case "block":
        return client.block(need(w.user));
      case "unblock":
        return client.unblock(need(w.user));
      case "stored":
        return client.stored();
      case "watchPresence":
        this.#watched = w.users ?? [];
        return client.watchPresence(this.#watched);
      case "presence":
        return client.presence(need(w.user)).value?.isOnline ?? null;
    }
    const session = client.session(need(w.session));
    if (what === "look") return look(client, this.#recorder, session, this.#watched);
    if (what === "kept") return this.#kept(session);
    return this.#on(session, what, w);
  }

  async #on(session: Session, what: string, w: Args): Promise<unknown> {
    const failed = session.messages.value.filter((m) => m.status === "failed");
    switch (what) {
      case "send":
        for (const body of w.bodies ?? []) session.send(body);
        return null;
      case "sendAndWait": {
        const options = w.replyToSeq === undefined ? {} : { replyToSeq: w.replyToSeq };
        const sent = (w.bodies ?? []).map((body) => session.send(body, options).sent);
        return (await Promise.all(sent)).map((m) => m.seq);
      }
      case "retry":
        for (const m of failed) session.retry(m.messageId);
        return null;
      case "discard":
        for (const m of failed) session.discard(m.messageId);
        return null;
      case "recall":
        return session.recall(need(w.seq));
      case "markRead":
        return session.markRead(w.upToSeq);
      case "markUnread":
        return session.markUnread();
      case "deleteForMe":
        return session.deleteForMe(w.upToSeq === undefined ? (w.seqs ?? []) : { upToSeq: w.upToSeq });
      case "readers":
        return (await session.readers(need(w.seq))).sort();
      case "loadOlder":
        return session.loadOlder(w.limit);
      case "loadMembers":
        await session.loadMembers();
        return null;
      case "setTyping":
        return session.setTyping(w.isTyping ?? true);
      case "addMembers":
        return session.addMembers(w.users ?? []);
      case "removeMember":
        return session.removeMember(need(w.user));
      case "setMember":
        return session.setMember(need(w.user), { ...(w.role && { role: w.role }), ...(w.isMuted !== undefined && { isMuted: w.isMuted }) });
      case "leave":
        return session.leave();
      case "update":
        return session.update(settings(w));
      case "updateOwn": {
        const { isPinned, isArchived, notificationsMuted } = w;
        return session.updateOwn({
          ...(isPinned !== undefined && { isPinned }),
          ...(isArchived !== undefined && { isArchived }),
          ...(notificationsMuted !== undefined && { notificationsMuted }),
        });
      }
      default:
        throw new Error(`no such call: ${what}`);
    }
  }

  /** What the store has of a session, read as a new client would. */
  async #kept(session: Session): Promise<string[]> {
    const { sessions, outbox } = await new IndexedDbStore(this.#store, factory).load(100);
    const log = sessions.find((s) => s.session.sessionId === session.sessionId)?.messages ?? [];
    const waiting = outbox.map((o) => o.message).filter((m) => m.sessionId === session.sessionId);
    return [...log, ...waiting].map(entry);
  }

  #open(w: Args): null {
    const tokens = [...need(w.tokens)];
    this.#store = w.store ?? "";
    this.#watched = [];
    this.#ends = new AbortController();
    this.#client = new ParleyClient({
      baseUrl: need(w.baseUrl),
      token: () => need(tokens.length > 1 ? tokens.shift() : tokens[0]),
      reconnect: fullJitter({ baseMs: 20, maxMs: 400 }),
      ...(w.store && { store: new IndexedDbStore(w.store, factory) }),
      ...(w.maxBacklog && { maxBacklog: w.maxBacklog }),
      ...(w.windowSize && { windowSize: w.windowSize }),
    });
    this.#recorder = new Recorder(this.#client, this.#ends.signal);
    this.#client.start();
    return null;
  }
}
