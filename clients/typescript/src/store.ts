import type { Identity, Message, OutgoingContent, SessionInfo } from "./model.js";

/** What a store keeps of the device as a whole. */
export interface StoredDevice extends Identity {
  /** Identity of the log's life that all positions belong to; empty while none is known. */
  readonly epoch: string;
}

/** What a store keeps of one session. Its messages are kept beside it. */
export interface StoredSession {
  /** UUID. */
  readonly sessionId: string;
  /** As last known; absent while the server has not described the session. */
  readonly info?: SessionInfo;
  /** Everything up to and including this seq has been shown; absent while it is not known where the device stands. */
  readonly shownSeq?: number;
  /** Messages with a greater seq, up to shownSeq, are in the store. */
  readonly baseSeq: number;
  /** The head when `info.unread` was counted. */
  readonly countedSeq: number;
  /** Seqs above readSeq that are read out of order. */
  readonly readSeqs: readonly number[];
  /** Seqs that the user deleted for themself. */
  readonly deletedSeqs: readonly number[];
  /** A read position that the server has yet to be told. */
  readonly untoldReadSeq?: number;
}

/** A message on its way to the server, or refused by it. */
export interface StoredOutgoing {
  /** The pending or failed message. */
  readonly message: Message;
  /** The body that is sent. */
  readonly content: OutgoingContent;
  /** For direct sessions: the other user. */
  readonly peerUserId?: string;
  /** Ascending in the order of sending. */
  readonly order: number;
}

/** What a store holds, as the SDK reads it at the start. */
export interface StoredState {
  /** Absent when the store is empty. */
  readonly device?: StoredDevice;
  /** Each with its newest messages, ascending by seq, at most as many as asked for. */
  readonly sessions: ReadonlyArray<{ readonly session: StoredSession; readonly messages: readonly Message[] }>;
  /** Ascending by order. */
  readonly outbox: readonly StoredOutgoing[];
}

/** What changes together: all of it, or nothing. Carried out in the order of the fields. */
export interface StoreChange {
  /** True: everything goes first. */
  readonly clear?: boolean;
  /** Sessions whose messages go first, all of them. */
  readonly dropMessages?: readonly string[];
  /** Replaces the device. */
  readonly device?: StoredDevice;
  /** Replaces these sessions. */
  readonly sessions?: readonly StoredSession[];
  /** Sessions that go, with their messages. */
  readonly dropSessions?: readonly string[];
  /** Messages to put, by (sessionId, seq). */
  readonly messages?: readonly Message[];
  /** Recalled messages whose body must go, as far as the store has them. */
  readonly erase?: ReadonlyArray<{ readonly sessionId: string; readonly seq: number }>;
  /** Messages of a session with a seq up to and including this one go. */
  readonly trim?: ReadonlyArray<{ readonly sessionId: string; readonly upToSeq: number }>;
  /** Outgoing messages to put, by message id. */
  readonly outbox?: readonly StoredOutgoing[];
  /** Outgoing messages that go, by message id. */
  readonly dropOutbox?: readonly string[];
}

/**
 * Keeps what the device knows over reloads. With one, a client goes on after a reload exactly where it stood, and what
 * waits to be sent is sent. One store belongs to one device of one user: give each its own name. The SDK calls one method
 * at a time.
 *
 * {@link IndexedDbStore} is the one for browsers; implement this for others (a file, SQLite).
 */
export interface Store {
  /** Reads everything but old messages: of each session at most `messages` of the newest. */
  load(messages: number): Promise<StoredState>;
  /** The last `limit` messages with a seq less than `beforeSeq`, ascending. */
  messagesBefore(sessionId: string, beforeSeq: number, limit: number): Promise<readonly Message[]>;
  /** Carries out a change as one transaction: once it resolves it is kept. */
  write(change: StoreChange): Promise<void>;
  /** Lets go of resources. `load` opens it again. */
  close(): Promise<void>;
}
