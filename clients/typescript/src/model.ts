import type { ErrorReason, ParleyError } from "./errors.js";

/** Whose client this is, read from the token's claims. For telling what is one's own; the server decides by itself. */
export interface Identity {
  /** The user. */
  readonly userId: string;
  /** The device. */
  readonly deviceId: string;
}

/**
 * Whether the client is in touch with the server.
 *
 * - `connecting`: no stream yet, or it is being caught up; the SDK is at it.
 * - `live`: everything that was committed before has been shown, and what is new comes as it happens.
 * - `offline`: not in touch. With a retryable error (the browser has no network) the SDK comes back by itself; with a
 *   terminal one, or none (stopped), only {@link ParleyClient.start} does.
 */
export interface Connection {
  /** One of three. */
  readonly state: "connecting" | "live" | "offline";
  /** Why it is not live; absent when nothing went wrong. */
  readonly error?: ParleyError;
}

/** A text. */
export interface TextContent {
  /** Tells the kinds of content apart. */
  readonly kind: "text";
  /** 1 byte to 16 KiB of UTF-8. */
  readonly body: string;
}

/** A reference to something stored elsewhere. Absent numbers are unknown. */
export interface AttachmentContent {
  /** Tells the kinds of content apart. */
  readonly kind: "attachment";
  /** Where it is, an absolute URI. */
  readonly url: string;
  /** Media type, for example "image/png". */
  readonly mediaType: string;
  /** File name to show. */
  readonly name?: string;
  /** Size in bytes. */
  readonly sizeBytes?: number;
  /** Text beside it, at most 4 KiB. */
  readonly caption?: string;
  /** Width in pixels. */
  readonly width?: number;
  /** Height in pixels. */
  readonly height?: number;
  /** Length of sound or film in milliseconds. */
  readonly durationMs?: number;
}

/** A body of the app's own, opaque to Parley. */
export interface CustomContent {
  /** Tells the kinds of content apart. */
  readonly kind: "custom";
  /** Names the type, for example "shop.example/order". */
  readonly typeUrl: string;
  /** At most 16 KiB. */
  readonly payload: Uint8Array;
}

/** Log event: an earlier message was recalled. */
export interface RecallContent {
  /** Tells the kinds of content apart. */
  readonly kind: "recall";
  /** The seq of the recalled message. */
  readonly seq: number;
}

/** What a member may do. */
export type MemberRole = "member" | "admin" | "owner";

/** Log event: members came, went or changed. */
export interface MemberChangeContent {
  /** Tells the kinds of content apart. */
  readonly kind: "memberChange";
  /** What happened. */
  readonly change: "created" | "added" | "removed" | "left" | "roleChanged" | "muted" | "unmuted" | "unknown";
  /** To whom. */
  readonly userIds: readonly string[];
  /** The new role, for "added" and "roleChanged". */
  readonly role?: MemberRole;
}

/** Log event: settings of the session changed. Only what changed is set. */
export interface SessionChangeContent {
  /** Tells the kinds of content apart. */
  readonly kind: "sessionChange";
  /** The new title. */
  readonly title?: string;
  /** The new picture. */
  readonly avatarUrl?: string;
  /** Whether members added from now on see the past. */
  readonly historyVisible?: boolean;
  /** The lowest role that may send. */
  readonly sendRole?: MemberRole;
}

/** What can be sent. */
export type OutgoingContent = TextContent | AttachmentContent | CustomContent;

/** What a log entry can hold. */
export type Content = OutgoingContent | RecallContent | MemberChangeContent | SessionChangeContent;

/** What kind of log entry it is; "unknown" for kinds that this SDK does not know yet. */
export type MessageType = Content["kind"] | "unknown";

/** Where a message stands on its way to the log. */
export type MessageStatus = "pending" | "sent" | "failed";

/** An entry of a session's log, or one that is on its way there. Never changed in place. */
export interface Message {
  /** The session. */
  readonly sessionId: string;
  /** Position in the log: 1, 2, 3 ... without holes. 0 until the server has given it one. */
  readonly seq: number;
  /** The sender's id of it, the same however often it is sent. */
  readonly messageId: string;
  /** Who wrote it or caused it. */
  readonly senderId: string;
  /** From which device; may be empty. */
  readonly senderDeviceId: string;
  /** What kind of entry; known for recalled messages too. */
  readonly type: MessageType;
  /** The body; absent once it was recalled, and for unknown kinds. */
  readonly content?: Content;
  /** True once it was recalled. */
  readonly isDeleted: boolean;
  /** When it was committed, by the server's clock (while pending: entered, by the device's). Never order by it. */
  readonly createdAt: Date;
  /** The seq that it answers. */
  readonly replyToSeq?: number;
  /** Users mentioned in it. */
  readonly mentions: readonly string[];
  /** "sent" for everything in the log. */
  readonly status: MessageStatus;
  /** Why it failed, with status "failed" only. */
  readonly failure?: { readonly reason: ErrorReason; readonly message: string };
}

/** A session as the user sees it. Never changed in place. */
export interface SessionInfo {
  /** UUID. */
  readonly sessionId: string;
  /** Two users, or any number. */
  readonly kind: "direct" | "group";
  /** Title of a group. */
  readonly title: string;
  /** Picture of a group; may be empty. */
  readonly avatarUrl: string;
  /** The other user of a direct session; empty for groups. */
  readonly peerUserId: string;
  /** How many members it has. */
  readonly memberCount: number;
  /** Whether members added from now on see the past. */
  readonly historyVisible: boolean;
  /** The lowest role that may send. */
  readonly sendRole: MemberRole;
  /** When it was made. */
  readonly createdAt: Date;
  /** Whether the user is in it now. */
  readonly isMember: boolean;
  /** The user's role. */
  readonly role: MemberRole;
  /** The seq by which the user came in. */
  readonly joinedSeq: number;
  /** An admin has muted the user: sending is refused. */
  readonly isMuted: boolean;
  /** The user wants no notifications. */
  readonly notificationsMuted: boolean;
  /** The user has pinned it. */
  readonly isPinned: boolean;
  /** The user has archived it. */
  readonly isArchived: boolean;
  /** The user has flagged it as unread. */
  readonly markedUnread: boolean;
  /** Everything up to here is read. */
  readonly readSeq: number;
  /** Everything up to here was deleted by the user for themself. */
  readonly deletedToSeq: number;
  /** Last seq that is known. */
  readonly headSeq: number;
  /** Messages of others that are not read. */
  readonly unread: number;
  /** The newest entry; absent while none is known. */
  readonly lastMessage?: Message;
}

/** A member of a session as others see it. */
export interface Member {
  /** The user. */
  readonly userId: string;
  /** Name to show; may be empty. */
  readonly displayName: string;
  /** Role. */
  readonly role: MemberRole;
  /**
   * Everything up to here is read by the member. In direct sessions and groups of at most 32 members it is kept up to date;
   * in larger ones it is what it was when the list was loaded: ask {@link Session.readers}.
   */
  readonly readSeq: number;
  /** An admin has muted the member. */
  readonly isMuted: boolean;
}

/** What another user is to this one. */
export interface Relation {
  /** The other user. */
  readonly userId: string;
  /** "none": no relation any more. */
  readonly kind: "none" | "friend" | "requested" | "requestReceived" | "blocked";
}

/** Whether a user is online. A hint: right within seconds, and it orders nothing. */
export interface Presence {
  /** The user. */
  readonly userId: string;
  /** On at least one device. */
  readonly isOnline: boolean;
  /** Devices that are online; only the user's own are told. */
  readonly deviceIds: readonly string[];
  /** When the user was last online; absent while online, and where it is not known. */
  readonly lastSeenAt?: Date;
}

/** A device of the user. */
export interface Device {
  /** Unique for the user. */
  readonly deviceId: string;
  /** What it runs on. */
  readonly platform: "web" | "android" | "ios" | "desktop" | "bot" | "unknown";
  /** Name to show; may be empty. */
  readonly displayName: string;
  /** When it was first known. */
  readonly createdAt: Date;
  /** When it was last in touch; absent if it never was. */
  readonly lastSeenAt?: Date;
  /** It is the device of this client. */
  readonly isCurrent: boolean;
}

/** What a settings change of a group can hold; absent fields stay. */
export interface SessionSettings {
  /** At most 255 bytes. */
  readonly title?: string;
  /** An absolute URI, or empty to take it away. */
  readonly avatarUrl?: string;
  /** Whether members added from now on see the past. */
  readonly historyVisible?: boolean;
  /** The lowest role that may send. */
  readonly sendRole?: MemberRole;
}

/** The user's own settings of a session; absent fields stay. */
export interface OwnSettings {
  /** Pin it. */
  readonly isPinned?: boolean;
  /** Archive it. */
  readonly isArchived?: boolean;
  /** No notifications. */
  readonly notificationsMuted?: boolean;
}

/**
 * One thing that happened. `message` events are the log: for each session every seq once, in order, without a hole but
 * for what a `skipped` event names. After `reset` a session (or, without a sessionId, every one) begins anew.
 *
 * - `message`: an entry of a log.
 * - `skipped`: the seqs from `fromSeq` to `toSeq`, both included, are left out.
 * - `reset`: what was shown of the session is void, and why.
 * - `session`: a session is new to the user, or is not what it was.
 * - `state`: the user has read further, on whichever device, or marked it as unread.
 * - `read`: another member has read up to `readSeq`.
 * - `relation`: a friend, a request or a block changed.
 * - `presence`: somebody who is watched came or went.
 * - `typing`: somebody began or ended typing.
 * - `signal`: an app's own signal, which is stored nowhere.
 * - `caughtUp`: the backlog is through; `unread` is over all sessions.
 */
export type ClientEvent =
  | { readonly type: "message"; readonly message: Message }
  | { readonly type: "skipped"; readonly sessionId: string; readonly fromSeq: number; readonly toSeq: number }
  | { readonly type: "reset"; readonly sessionId?: string; readonly reason: ResetReason }
  | { readonly type: "session"; readonly session: SessionInfo }
  | { readonly type: "state"; readonly sessionId: string; readonly readSeq: number; readonly unread: number }
  | { readonly type: "read"; readonly sessionId: string; readonly userId: string; readonly readSeq: number }
  | { readonly type: "relation"; readonly relation: Relation }
  | { readonly type: "presence"; readonly presence: Presence }
  | {
      readonly type: "typing";
      readonly sessionId: string;
      readonly userId: string;
      readonly deviceId: string;
      readonly isTyping: boolean;
    }
  | {
      readonly type: "signal";
      readonly sessionId: string;
      readonly userId: string;
      readonly deviceId: string;
      readonly typeUrl: string;
      readonly payload: Uint8Array;
    }
  | { readonly type: "caughtUp"; readonly unread: number };

/** Why a session begins anew. */
export type ResetReason = "epochChanged" | "cursorBeyondHead" | "sessionUnavailable" | "unknown";
