import { create } from "@bufbuild/protobuf";
import {
  SendMessageRequestSchema,
  type SendMessageRequest,
  type SendMessageResponse,
} from "../gen/parley/v1/message_service_pb.js";
import type { Api } from "./api.js";
import { fromContent, toDate, toSeq } from "./convert.js";
import { ParleyError, fromDetail, toParleyError } from "./errors.js";
import type { Message } from "./model.js";
import { pause, type ReconnectPolicy } from "./reconnect.js";
import type { StoredOutgoing } from "./store.js";

/** How many messages may wait to be sent; entering more is refused. */
export const maxOutbox = 1000;
/** How many messages one request carries at most, and how many bytes of content. */
const maxBatch = 64;
const maxBatchBytes = 48 * 1024;

interface Item {
  stored: StoredOutgoing;
  settle: (message: Message) => void;
  refuse: (error: ParleyError) => void;
  /** Set once it is in the store, or there is none. */
  kept: boolean;
  /** The server has said yes; it goes from here once its place in the log has been shown. */
  answered: boolean;
  /** Alone in its request: one that it shared was refused whole. */
  alone: boolean;
}

/** What the outbox tells its owner. */
export interface OutboxEvents {
  /** The session's outgoing messages have changed. */
  changed(sessionId: string): void;
  /** A message has its place in the log. False: of another life of the log than the one that is shown. */
  sent(message: Message, epoch: string): boolean;
  /** Keeps changes; rejects never. */
  keep(put: readonly StoredOutgoing[], drop: readonly string[]): Promise<void>;
}

/**
 * Sends what waits. Within a session one message after the other, in the order in which they were entered; a message keeps
 * its id however often it is repeated, so that a lost answer makes no second one. The first messages of several sessions
 * travel together. One that is refused for good is marked as failed and holds nobody up.
 */
export class Outbox {
  #items = new Map<string, Item>(); // by message id, in the order of sending
  #order = 0;
  readonly #keeping = new Set<Promise<void>>();
  #opened!: () => void;
  readonly #ready = new Promise<void>((resolve) => (this.#opened = resolve));
  #wake: (() => void) | undefined;

  constructor(
    private readonly api: Api,
    private readonly policy: ReconnectPolicy,
    private readonly events: OutboxEvents,
  ) {}

  /** Takes what a store kept, once, before anything is sent: it goes before what was entered meanwhile. */
  restore(outbox: readonly StoredOutgoing[]): void {
    const entered = this.#items;
    this.#items = new Map();
    for (const stored of outbox) {
      const item = { stored, settle: () => {}, refuse: () => {}, kept: true, answered: false, alone: false };
      this.#items.set(stored.message.messageId, item);
      this.#order = Math.max(this.#order, stored.order);
    }
    for (const [id, item] of entered) this.#items.set(id, item);
    this.#opened();
  }

  /** Forgets everything. */
  clear(): void {
    for (const item of this.#items.values()) item.refuse(new ParleyError("STOPPED", "the outbox was cleared"));
    this.#items.clear();
  }

  /** The messages of a session that are on their way or failed, in order. */
  of(sessionId: string): Message[] {
    const out: Message[] = [];
    for (const { stored } of this.#items.values()) if (stored.message.sessionId === sessionId) out.push(stored.message);
    return out;
  }

  /** The sessions that have something here. */
  sessions(): Set<string> {
    return new Set([...this.#items.values()].map((item) => item.stored.message.sessionId));
  }

  /** Takes a message; the promise gets it as it stands in the log, or why it will not. */
  add(message: Message, content: StoredOutgoing["content"], peerUserId: string | undefined): Promise<Message> {
    if (this.#items.size >= maxOutbox) {
      throw new ParleyError("OVERLOADED", `more than ${maxOutbox} messages wait to be sent`);
    }
    const stored: StoredOutgoing = { message, content, order: 0, ...(peerUserId && { peerUserId }) };
    const sent = new Promise<Message>((settle, refuse) => {
      const item: Item = { stored, settle, refuse, kept: false, answered: false, alone: false };
      this.#items.set(message.messageId, item);
      const keeping = this.#keep(item).finally(() => this.#keeping.delete(keeping));
      this.#keeping.add(keeping);
    });
    sent.catch(() => {}); // the state of the message says it too
    this.events.changed(message.sessionId);
    return sent;
  }

  /** Resolves when all that was entered so far is in the store, or cannot be. Before the store was read it waits for that. */
  async kept(): Promise<void> {
    await Promise.all(this.#keeping);
  }

  // Its place is known once what a store kept has been read.
  async #keep(item: Item): Promise<void> {
    await this.#ready;
    item.stored = { ...item.stored, order: ++this.#order };
    await this.events.keep([item.stored], []);
    item.kept = true;
    this.#stir();
  }

  /** Sends a failed message again, after what waits already. */
  retry(messageId: string): boolean {
    const item = this.#items.get(messageId);
    if (item?.stored.message.status !== "failed") return false;
    this.#items.delete(messageId);
    const { failure: _, ...message } = item.stored.message;
    item.stored = { ...item.stored, message: { ...message, status: "pending" }, order: ++this.#order };
    this.#items.set(messageId, item);
    void this.events.keep([item.stored], []);
    this.events.changed(message.sessionId);
    this.#stir();
    return true;
  }

  /** Drops a failed message. */
  discard(messageId: string): boolean {
    const item = this.#items.get(messageId);
    if (item?.stored.message.status !== "failed") return false;
    this.#drop(item);
    return true;
  }

  /** Notes that a message was seen in the log, whether or not its answer came. */
  seen(message: Message): void {
    const item = this.#items.get(message.messageId);
    if (!item || item.stored.message.sessionId !== message.sessionId) return;
    this.#drop(item);
    item.settle(message);
  }

  /** Asks again for the place of what was answered: a session's log begins anew, and its answers are forgotten. */
  reopen(sessionId: string): void {
    for (const item of this.#items.values()) if (item.stored.message.sessionId === sessionId) item.answered = false;
    this.#stir();
  }

  /** Sends until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      const batch = this.#next();
      if (batch.length === 0) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
          signal.addEventListener("abort", () => resolve(), { once: true });
        });
        continue;
      }
      const error = await this.#send(batch, signal);
      if (!error) {
        failures = 0;
        continue;
      }
      await pause(Math.max(error.retryAfterMs, this.policy.delayMs(failures++, error)), signal);
    }
  }

  #stir(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  // The first waiting message of each session, as many as fit.
  #next(): Item[] {
    const batch: Item[] = [];
    const taken = new Set<string>();
    let bytes = 0;
    for (const item of this.#items.values()) {
      const { message } = item.stored;
      if (message.status === "failed" || item.answered || taken.has(message.sessionId)) continue;
      taken.add(message.sessionId); // one that is not kept yet holds back those behind it
      if (!item.kept) continue;
      bytes += sizeOf(item.stored);
      if (batch.length > 0 && (item.alone || bytes > maxBatchBytes)) break;
      batch.push(item);
      if (item.alone || batch.length === maxBatch) break;
    }
    return batch;
  }

  // Returns why something must be repeated.
  async #send(batch: Item[], signal: AbortSignal): Promise<ParleyError | undefined> {
    const requests = batch.map((item) => requestOf(item.stored));
    try {
      const [first] = requests as [SendMessageRequest];
      if (batch.length === 1) {
        return this.#sent(batch[0] as Item, await this.api.call((a, o) => a.messages.sendMessage(first, o), signal));
      }
      const { results } = await this.api.call((a, o) => a.messages.sendMessages({ messages: requests }, o), signal);
      let again: ParleyError | undefined;
      batch.forEach((item, i) => {
        const result = results[i]?.result;
        if (result?.case === "sent") {
          again = this.#sent(item, result.value) ?? again;
          return;
        }
        const error = result?.case === "error" ? fromDetail(result.value.detail, result.value.message) : unanswered;
        if (error.retryable) again = error;
        else this.#refused(item, error);
      });
      return again;
    } catch (err) {
      const error = toParleyError(err);
      // Only a reason of Parley's is its verdict on the message; anything else says nothing about it.
      if (error.retryable || error.reason === "UNREACHABLE" || isOfDevice(error)) return error;
      if (batch.length > 1) for (const item of batch) item.alone = true;
      else this.#refused(batch[0] as Item, error);
      return undefined;
    }
  }

  #sent(item: Item, res: SendMessageResponse): ParleyError | undefined {
    const { message } = item.stored;
    if (this.#items.get(message.messageId) !== item) return undefined; // seen in the log meanwhile
    const { failure: _, ...rest } = message;
    const sent: Message = { ...rest, sessionId: res.sessionId, seq: toSeq(res.seq), createdAt: toDate(res.createdAt), status: "sent" };
    item.answered = true;
    if (!this.events.sent(sent, res.epoch)) {
      item.answered = false;
      return new ParleyError("UNAVAILABLE", "the log has begun anew; the stream is about to say so");
    }
    item.settle(sent);
    return undefined;
  }

  #refused(item: Item, error: ParleyError): void {
    const { message } = item.stored;
    if (this.#items.get(message.messageId) !== item) return;
    const failure = { reason: error.reason, message: error.message };
    item.stored = { ...item.stored, message: { ...message, status: "failed", failure } };
    void this.events.keep([item.stored], []);
    this.events.changed(message.sessionId);
    item.refuse(error);
  }

  #drop(item: Item): void {
    const { messageId, sessionId } = item.stored.message;
    this.#items.delete(messageId);
    void this.events.keep([], [messageId]);
    this.events.changed(sessionId);
  }
}

const unanswered = new ParleyError("INTERNAL", "the server gave no answer for a message");

// Refusals of the device as a whole: the message waits until somebody has signed in again.
function isOfDevice(error: ParleyError): boolean {
  return ["TOKEN_MISSING", "TOKEN_INVALID", "DEVICE_REVOKED", "USER_DEACTIVATED", "NO_TOKEN"].includes(error.reason);
}

function requestOf({ message, content, peerUserId }: StoredOutgoing): SendMessageRequest {
  return create(SendMessageRequestSchema, {
    target: peerUserId ? { case: "peerUserId", value: peerUserId } : { case: "sessionId", value: message.sessionId },
    messageId: message.messageId,
    content: fromContent(content),
    replyToSeq: BigInt(message.replyToSeq ?? 0),
    mentions: [...message.mentions],
  });
}

// An upper bound of the bytes on the wire: three for each UTF-16 unit.
function sizeOf({ message, content }: StoredOutgoing): number {
  const mentions = message.mentions.reduce((n, user) => n + user.length * 3, 0);
  switch (content.kind) {
    case "text":
      return 200 + mentions + content.body.length * 3;
    case "custom":
      return 200 + mentions + content.typeUrl.length * 3 + content.payload.length;
    case "attachment":
      return 300 + mentions + 3 * (content.url.length + (content.name ?? "").length + (content.caption ?? "").length);
  }
}
