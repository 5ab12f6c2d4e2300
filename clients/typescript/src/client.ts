import type { Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { Api } from "./api.js";
import { DevicePlatform } from "../gen/parley/v1/device_service_pb.js";
import { toDevice, toPbRelationKind, toPbRole, toRelation } from "./convert.js";
import { ParleyError, toParleyError } from "./errors.js";
import { EventBus } from "./events.js";
import { abortableFetch } from "./fetch.js";
import { Keeper } from "./keeper.js";
import type {
  ClientEvent,
  Connection,
  Device,
  Identity,
  Presence,
  Relation,
  SessionInfo,
  SessionSettings,
} from "./model.js";
import { safely, Value, type Observable } from "./observable.js";
import { Outbox } from "./outbox.js";
import { PresenceWatch } from "./presence.js";
import { fullJitter, pause, type ReconnectPolicy } from "./reconnect.js";
import { Session, type SessionParts } from "./session.js";
import type { Store } from "./store.js";
import { Subscription } from "./stream.js";
import { Sync } from "./sync.js";
import { Credential, identityOf, type TokenProvider } from "./token.js";
import { directSessionId, uuidv7 } from "./uuid.js";

/** How many messages of a session come into memory from the store at the start. */
const restoredMessages = 50;
/** How long {@link ParleyClient.stop} tells the server what it does not know yet, in milliseconds. */
const goodbyeMs = 2000;

/** What a client is made of. */
export interface ClientOptions {
  /** Where the server is, for example "https://chat.example". */
  readonly baseUrl: string;
  /** Gives a token for this device; called again whenever a new one is needed. */
  readonly token: TokenProvider;
  /** Keeps everything over reloads; none: in memory only. */
  readonly store?: Store;
  /** How long to wait between tries; {@link fullJitter} from 200 ms to 10 s. */
  readonly reconnect?: ReconnectPolicy;
  /** How calls travel; Connect over fetch, which browsers and Node both have. */
  readonly transport?: Transport;
  /** How many messages of each session stay in memory, besides those that loadOlder brought; 1,000. */
  readonly windowSize?: number;
  /** How many messages of each session the store keeps, give or take a quarter; 5,000. */
  readonly storeSize?: number;
  /**
   * How many entries of backlog to take per session after a time away, 1 to 10,000; what is left out comes as a `skipped`
   * event and can be had by loadOlder. 0, the default, takes all.
   */
  readonly maxBacklog?: number;
  /**
   * Begin each session with its last messages, as on a new device, instead of where this device stood. For pages without
   * a store; with one it counts only while that is empty.
   */
  readonly fresh?: boolean;
  /** Called with errors that belong to no call, such as a store that failed; the client goes on. */
  readonly onError?: (error: ParleyError) => void;
}

/** What a new group begins with. */
export interface NewGroup extends SessionSettings {
  /** Members besides the user, at most 1,000. */
  readonly memberIds: readonly string[];
}

/**
 * A device of a user, in touch with Parley: one stream that reconnects and resumes, the state of all sessions, and an
 * outbox. What it shows of each session's log is gapless, in order, and once, whatever is cut.
 *
 * @example
 * ```ts
 * const client = new ParleyClient({ baseUrl: "https://chat.example", token: () => fetchToken() });
 * client.start();
 * const bob = await client.direct("bob");
 * bob.messages.subscribe((messages) => render(messages));
 * bob.send("hi");
 * ```
 */
export class ParleyClient {
  /** Whether the client is in touch. */
  readonly connection: Observable<Connection>;
  /** The sessions that the user is in: pinned ones first, then by the newest entry. */
  readonly sessions: Observable<readonly SessionInfo[]>;
  /** Messages not read, over all sessions. */
  readonly unread: Observable<number>;
  /** Whose client this is; undefined until the store or the first token has told. */
  readonly me: Observable<Identity | undefined>;

  readonly #connection = new Value<Connection>({ state: "offline" });
  readonly #me = new Value<Identity | undefined>(undefined);
  readonly #bus = new EventBus();
  readonly #keeper: Keeper;
  readonly #api: Api;
  readonly #sync: Sync;
  readonly #outbox: Outbox;
  readonly #stream: Subscription;
  readonly #presence: PresenceWatch;
  readonly #parts: SessionParts;
  readonly #sessions = new Map<string, Session>();
  readonly #options: ClientOptions;
  #running: AbortController | undefined;
  #done: Promise<void> = Promise.resolve();
  #loaded = false;
  #sending: AbortController | undefined;

  /** Makes a client; nothing happens until {@link ParleyClient.start}. */
  constructor(options: ClientOptions) {
    this.#options = options;
    const policy = options.reconnect ?? fullJitter();
    const transport = options.transport ?? createConnectTransport({ baseUrl: options.baseUrl, useBinaryFormat: true, fetch: abortableFetch });
    this.#api = new Api(transport, new Credential(options.token));
    this.#keeper = new Keeper(options.store, (error) => safely(() => options.onError?.(error)));
    this.#sync = new Sync(this.#api, this.#keeper, this.#bus, {
      windowSize: options.windowSize ?? 1000,
      storeSize: options.storeSize ?? 5000,
      maxBacklog: options.maxBacklog ?? 0,
    });
    this.#sync.fresh = options.fresh ?? false;
    this.#outbox = new Outbox(this.#api, policy, {
      changed: (sessionId) => this.#outgoing(sessionId),
      sent: (message, epoch) => this.#sync.answered(message, epoch),
      keep: (outbox, dropOutbox) => this.#keeper.write({ outbox, dropOutbox }),
    });
    this.#presence = new PresenceWatch(this.#api, this.#bus);
    this.#sync.onPresence = (presence) => this.#presence.take(presence);
    this.#sync.onPeople = () => this.#presence.peopleChanged();
    this.#sync.onReset = (sessionId) => this.#outbox.reopen(sessionId);
    this.#sync.onMessage = (message) => this.#outbox.seen(message);
    this.#stream = new Subscription(this.#api, policy, {
      prepare: (signal) => this.#prepare(signal),
      position: () => this.#sync.position(),
      take: async (events, signal) => {
        await this.#sync.take(events, signal);
        if (this.#sync.caughtUp) this.#setLive();
      },
      connecting: (error) => this.#setDown(error),
    });
    this.#parts = { api: this.#api, sync: this.#sync, outbox: this.#outbox, keeper: this.#keeper };
    this.connection = this.#connection;
    this.sessions = this.#sync.changes.list;
    this.unread = this.#sync.changes.unread;
    this.me = this.#me;
  }

  /** Connects, and stays connected until {@link ParleyClient.stop} or a terminal error. Does nothing while it runs. */
  start(): void {
    if (this.#running) return;
    const running = (this.#running = new AbortController());
    this.#done = this.#done.then(() => this.#run(running.signal)).then((error) => {
      if (this.#running === running) this.#running = undefined;
      running.abort();
      this.#connection.set(error.reason === "STOPPED" ? { state: "offline" } : { state: "offline", error });
    });
  }

  /**
   * Disconnects: tells the server what was seen (for at most 2 s), keeps everything, and resolves when nothing runs any
   * more. What was shown stays, and {@link ParleyClient.start} goes on from there.
   */
  async stop(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    if (running && this.#connection.value.state === "live") {
      const patience = new AbortController();
      await Promise.race([this.#sayGoodbye(), pause(goodbyeMs, patience.signal)]);
      patience.abort();
    }
    running?.abort();
    await this.#done;
  }

  /**
   * Resolves when everything that the client showed and took over so far is in the store, so that it outlives a reload from
   * now on: call it before a page goes on purpose. Without a store, and with one that failed (which
   * {@link ClientOptions.onError} was told), there is nothing to wait for. Before {@link ParleyClient.start} it waits for that.
   */
  async stored(): Promise<void> {
    await this.#outbox.kept();
    await this.#sync.changes.write();
    await this.#keeper.idle();
  }

  /** The session of an id: always the same object for the same id, whether or not anything is known of it yet. */
  session(sessionId: string): Session {
    let session = this.#sessions.get(sessionId);
    if (!session) this.#sessions.set(sessionId, (session = new Session(this.#parts, sessionId)));
    return session;
  }

  /** The direct session with a user; made by the first message. Waits for the first token, unless a store tells who this is. */
  async direct(userId: string): Promise<Session> {
    const me = this.#sync.me ?? (await this.#identify());
    const sessionId = directSessionId(me.userId, userId);
    const known = this.#sessions.get(sessionId);
    if (known) return known;
    const session = new Session(this.#parts, sessionId, userId);
    this.#sessions.set(sessionId, session);
    return session;
  }

  /** Makes a group owned by the user. A call whose answer was lost is repeated without making a second group. */
  async createGroup(group: NewGroup): Promise<Session> {
    const { title = "", avatarUrl = "", historyVisible = false, sendRole, memberIds } = group;
    const request = {
      group: { title, avatarUrl, historyVisible, sendRole: toPbRole(sendRole) },
      memberIds: [...memberIds],
      requestId: uuidv7(),
    };
    const create = () => this.#api.call((a, o) => a.sessions.createSession(request, o));
    const { session } = await create().catch((err: unknown) => {
      if (!toParleyError(err).retryable) throw err;
      return create();
    });
    if (!session) throw new ParleyError("INTERNAL", "the server returned no session");
    this.#sync.descriptions.take(session);
    return this.session(session.sessionId);
  }

  /**
   * Everything that happens from now on, in order, until the signal aborts (then the loop ends without an error). Nothing
   * is passed over: a reader that falls 1,024 events behind slows the stream down, so end the loop when it is not needed.
   *
   * @example
   * ```ts
   * for await (const event of client.events(signal)) {
   *   if (event.type === "message") console.log(event.message.senderId, event.message.content);
   * }
   * ```
   */
  events(signal?: AbortSignal): AsyncIterableIterator<ClientEvent> {
    return this.#bus.read(signal);
  }

  /**
   * Whether a user is online, for those named by {@link ParleyClient.watchPresence}; undefined while that is not known, and
   * for those who may not be seen. While the client is not live it is what was known last.
   */
  presence(userId: string): Observable<Presence | undefined> {
    return this.#presence.of(userId);
  }

  /** Sets whose presence is wanted, in place of whose was: at most 200 users; what is beyond is left out. */
  watchPresence(userIds: readonly string[]): void {
    this.#presence.watch(userIds);
  }

  /** The user's devices, this one among them. */
  async devices(): Promise<Device[]> {
    return (await this.#api.call((a, o) => a.devices.listDevices({}, o))).devices.map(toDevice);
  }

  /** Gives this device a name that the user's list of devices shows. */
  async nameDevice(displayName: string, platform: "web" | "desktop" | "bot" = "web"): Promise<Device> {
    const of = { web: DevicePlatform.WEB, desktop: DevicePlatform.DESKTOP, bot: DevicePlatform.BOT };
    const { device } = await this.#api.call((a, o) => a.devices.registerDevice({ displayName, platform: of[platform] }, o));
    if (!device) throw new ParleyError("INTERNAL", "the server returned no device");
    return toDevice(device);
  }

  /** Shuts a device of the user out for good: its stream ends and its tokens are refused. */
  async revokeDevice(deviceId: string): Promise<void> {
    await this.#api.call((a, o) => a.devices.revokeDevice({ deviceId }, o));
  }

  /** The user's relations of a kind; what changes later comes as `relation` events. */
  async relations(kind: Exclude<Relation["kind"], "none">): Promise<Relation[]> {
    return (await this.#api.listRelations(toPbRelationKind(kind))).map(toRelation);
  }

  /** Blocks a user: nobody of the two can send to the other directly any more. */
  async block(userId: string): Promise<void> {
    await this.#api.call((a, o) => a.relations.blockUser({ userId }, o));
  }

  /** Takes a block back. */
  async unblock(userId: string): Promise<void> {
    await this.#api.call((a, o) => a.relations.unblockUser({ userId }, o));
  }

  // What is being taken in counts as seen once it is kept.
  async #sayGoodbye(): Promise<void> {
    await this.#keeper.idle();
    await new Promise((resolve) => setTimeout(resolve));
    await Promise.all([this.#sync.acks.flush(), this.#sync.reads.flush()]);
  }

  async #run(signal: AbortSignal): Promise<ParleyError> {
    if (signal.aborted) return new ParleyError("STOPPED", "the client was stopped");
    this.#connection.set({ state: "connecting" });
    await this.#load();
    this.#sync.run(signal);
    const unwatch = this.#watchNetwork();
    try {
      return await this.#stream.run(signal);
    } catch (err) {
      return toParleyError(err);
    } finally {
      unwatch();
      this.#pauseSending();
      this.#sync.stop();
      await this.#sync.changes.write();
      await this.#keeper.close();
    }
  }

  // Reads the store, once: from then on memory is ahead of it.
  async #load(): Promise<void> {
    if (this.#loaded) return;
    this.#loaded = true;
    const state = await this.#keeper.load(restoredMessages);
    if (state?.device) {
      this.#sync.restore(state.device, state.sessions);
      this.#sync.fresh = false;
    }
    this.#outbox.restore(state?.outbox ?? []);
    this.#me.set(this.#sync.me);
    for (const sessionId of this.#outbox.sessions()) this.#outgoing(sessionId);
  }

  async #identify(): Promise<Identity> {
    const token = await this.#api.credential.get();
    const me = identityOf(token);
    if (me) return me;
    this.#api.credential.reject(token);
    throw new ParleyError("TOKEN_INVALID", "the token does not say whose it is");
  }

  async #prepare(signal: AbortSignal): Promise<void> {
    const me = await this.#identify();
    if (this.#sync.identify(me)) {
      this.#outbox.clear();
      this.#sessions.clear();
      this.#presence.clear();
      this.#sync.fresh = this.#options.fresh ?? false;
    }
    const was = this.#me.value;
    if (was?.userId !== me.userId || was.deviceId !== me.deviceId) this.#me.set(me);
    await this.#sync.prepare(signal);
  }

  #outgoing(sessionId: string): void {
    const s = this.#sync.session(sessionId);
    s.outgoing = this.#outbox.of(sessionId);
    s.publish();
  }

  #setLive(): void {
    if (this.#connection.value.state === "live") return;
    this.#connection.set({ state: "live" });
    this.#sync.acks.open = true;
    this.#sync.reads.open = true;
    this.#sending = new AbortController();
    void this.#outbox.run(this.#sending.signal);
    this.#presence.opened();
  }

  #setDown(error: ParleyError): void {
    this.#pauseSending();
    this.#connection.set({ state: hasNetwork() ? "connecting" : "offline", error });
  }

  #pauseSending(): void {
    this.#sending?.abort();
    this.#sending = undefined;
    this.#presence.closed();
    this.#sync.acks.open = false;
    this.#sync.reads.open = false;
  }

  // Browsers know when the network goes and comes; elsewhere the heartbeat tells.
  #watchNetwork(): () => void {
    if (typeof addEventListener !== "function" || typeof removeEventListener !== "function") return () => {};
    const online = (): void => this.#stream.wake();
    const offline = (): void => this.#stream.cut(new ParleyError("UNREACHABLE", "the network is gone"));
    addEventListener("online", online);
    addEventListener("offline", offline);
    return () => {
      removeEventListener("online", online);
      removeEventListener("offline", offline);
    };
  }
}

// Node's navigator has no onLine; there, as far as anyone knows, there is a network.
function hasNetwork(): boolean {
  return typeof navigator === "undefined" || navigator.onLine !== false;
}
