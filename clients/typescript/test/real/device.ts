// A device for the scenarios, worked by plain calls with plain answers, so that it can live in Node or in a page.
import { fullJitter, ParleyClient, type Store } from "../../src/index.js";
import { Recorder, until, waitFor } from "../util.js";

export interface DeviceOptions {
  baseUrl: string;
  /** The first token that the provider gives is useless. */
  badToken?: boolean;
  /** Name of a store that outlives the device. */
  store?: string;
  maxBacklog?: number;
}

/** What a device has seen of a session. */
export interface Seen {
  problems: string[];
  seqs: number[];
  bodies: string[];
  /** What the list shows: seq and status. */
  listed: Array<[number, string]>;
  unread: number;
  skipped: number;
}

export class Device {
  #client: ParleyClient | undefined;
  #recorder: Recorder | undefined;
  #errors: string[] = [];
  readonly #ends = new AbortController();

  constructor(
    private readonly mint: () => Promise<string>,
    private readonly storeOf: (name: string) => Store,
  ) {}

  get #c(): ParleyClient {
    if (!this.#client) throw new Error("the device is not open");
    return this.#client;
  }

  get #r(): Recorder {
    if (!this.#recorder) throw new Error("the device is not open");
    return this.#recorder;
  }

  async open(options: DeviceOptions): Promise<void> {
    let bad = options.badToken ?? false;
    this.#client = new ParleyClient({
      baseUrl: options.baseUrl,
      token: () => {
        if (!bad) return this.mint();
        bad = false;
        return "not.a.token";
      },
      reconnect: fullJitter({ baseMs: 20, maxMs: 400 }),
      ...(options.store && { store: this.storeOf(options.store) }),
      ...(options.maxBacklog && { maxBacklog: options.maxBacklog }),
      onError: (error) => this.#errors.push(`${error.reason}: ${error.message} ${String(error.cause)}`),
    });
    this.#recorder = new Recorder(this.#client, this.#ends.signal);
    this.#client.start();
  }

  async state(want: string, ms = 60_000): Promise<string | undefined> {
    return (await until(this.#c.connection, (c) => c.state === want, ms)).error?.reason;
  }

  start(): void {
    this.#c.start();
  }

  async stop(): Promise<void> {
    await this.#client?.stop();
    this.#ends.abort();
  }

  async direct(peer: string): Promise<string> {
    return (await this.#c.direct(peer)).sessionId;
  }

  async group(title: string, memberIds: string[]): Promise<string> {
    return (await this.#c.createGroup({ title, memberIds })).sessionId;
  }

  /** Hands texts over and does not wait. */
  async send(sessionId: string, bodies: string[]): Promise<void> {
    for (const body of bodies) this.#c.session(sessionId).send(body);
  }

  /** Hands texts over and waits for all of them. */
  async sendAll(sessionId: string, bodies: string[]): Promise<number[]> {
    const sent = bodies.map((body) => this.#c.session(sessionId).send(body).sent);
    return (await Promise.all(sent)).map((m) => m.seq);
  }

  /** Why a text was refused. */
  async refused(sessionId: string, body: string): Promise<string> {
    const { sent } = this.#c.session(sessionId).send(body);
    return sent.then((m) => `sent ${m.seq}`, (err: { reason: string }) => err.reason);
  }

  async waitSeen(sessionId: string, seq: number, ms = 60_000): Promise<void> {
    await waitFor(() => this.#r.at(sessionId) >= seq, ms).catch((err: unknown) => {
      throw new Error(`at ${this.#r.at(sessionId)}, not ${seq}: ${JSON.stringify(this.#c.connection.value)} ${String(err)}`);
    });
  }

  async waitUnread(sessionId: string, n: number): Promise<void> {
    await until(this.#c.session(sessionId).info, (info) => info?.unread === n, 60_000);
  }

  async waitListed(sessionId: string, n: number): Promise<void> {
    await until(this.#c.session(sessionId).messages, (l) => l.length >= n, 60_000);
  }

  async waitTyping(sessionId: string, users: string[]): Promise<void> {
    await until(this.#c.session(sessionId).typing, (l) => l.join() === users.join(), 60_000);
  }

  setTyping(sessionId: string, isTyping: boolean): void {
    this.#c.session(sessionId).setTyping(isTyping);
  }

  markRead(sessionId: string): void {
    this.#c.session(sessionId).markRead();
  }

  /** Has the members of a session kept up to date. */
  async loadMembers(sessionId: string): Promise<void> {
    await this.#c.session(sessionId).loadMembers();
  }

  /** Waits until a member is known to have read up to a seq. */
  async waitReadBy(sessionId: string, userId: string, seq: number): Promise<void> {
    await until(this.#c.session(sessionId).members, (all) => all.some((m) => m.userId === userId && m.readSeq >= seq));
  }

  /** Waits until all that was shown and taken over is stored. */
  async stored(): Promise<void> {
    await this.#c.stored();
  }

  async recall(sessionId: string, seq: number): Promise<void> {
    await this.#c.session(sessionId).recall(seq);
  }

  async bodyOf(sessionId: string, seq: number): Promise<string | undefined> {
    const m = this.#c.session(sessionId).messages.value.find((m) => m.seq === seq);
    return m?.content?.kind === "text" ? m.content.body : m?.isDeleted ? "(recalled)" : undefined;
  }

  async loadOlder(sessionId: string, limit: number): Promise<boolean> {
    return this.#c.session(sessionId).loadOlder(limit);
  }

  async removeMember(sessionId: string, userId: string): Promise<void> {
    await this.#c.session(sessionId).removeMember(userId);
  }

  titles(): string[] {
    return this.#c.sessions.value.map((s) => s.title || s.peerUserId);
  }

  errors(): string[] {
    return this.#errors;
  }

  seen(sessionId: string): Seen {
    const messages = this.#r.events.flatMap((e) => (e.type === "message" && e.message.sessionId === sessionId ? [e.message] : []));
    const session = this.#c.session(sessionId);
    return {
      problems: this.#r.problems,
      seqs: messages.map((m) => m.seq),
      bodies: messages.flatMap((m) => (m.content?.kind === "text" ? [m.content.body] : [])),
      listed: session.messages.value.map((m) => [m.seq, m.status]),
      unread: session.info.value?.unread ?? 0,
      skipped: this.#r.events.filter((e) => e.type === "skipped" && e.sessionId === sessionId).length,
    };
  }
}
