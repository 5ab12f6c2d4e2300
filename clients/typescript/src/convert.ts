// The only place that knows both the generated types and the written ones.
import { create } from "@bufbuild/protobuf";
import { timestampDate, type Timestamp } from "@bufbuild/protobuf/wkt";
import { ResyncReason } from "../gen/parley/v1/event_pb.js";
import {
  ContentSchema,
  MemberChangeKind,
  MemberRole as PbRole,
  MessageType as PbType,
  type Content as PbContent,
  type Message as PbMessage,
} from "../gen/parley/v1/message_pb.js";
import { DevicePlatform, type Device as PbDevice } from "../gen/parley/v1/device_service_pb.js";
import type { Presence as PbPresence } from "../gen/parley/v1/presence_pb.js";
import { RelationKind, type Relation as PbRelation } from "../gen/parley/v1/relation_pb.js";
import { SessionKind, type Member as PbMember, type Membership, type Session as PbSession } from "../gen/parley/v1/session_pb.js";
import { ParleyError } from "./errors.js";
import type {
  AttachmentContent,
  Content,
  Member,
  MemberChangeContent,
  MemberRole,
  Device,
  Message,
  MessageType,
  OutgoingContent,
  Presence,
  Relation,
  ResetReason,
  SessionChangeContent,
} from "./model.js";

/** A seq as a number: exact up to 2^53, which a session reaches after 285 million years at one message a second. */
export function toSeq(n: bigint): number {
  const seq = Number(n);
  if (!Number.isSafeInteger(seq)) throw new ParleyError("INTERNAL", "a seq is past 2^53", { retryable: false });
  return seq;
}

const types: Readonly<Partial<Record<PbType, MessageType>>> = {
  [PbType.TEXT]: "text",
  [PbType.ATTACHMENT]: "attachment",
  [PbType.CUSTOM]: "custom",
  [PbType.RECALL]: "recall",
  [PbType.MEMBER_CHANGE]: "memberChange",
  [PbType.SESSION_CHANGE]: "sessionChange",
};

const changes: Readonly<Partial<Record<MemberChangeKind, MemberChangeContent["change"]>>> = {
  [MemberChangeKind.CREATED]: "created",
  [MemberChangeKind.ADDED]: "added",
  [MemberChangeKind.REMOVED]: "removed",
  [MemberChangeKind.LEFT]: "left",
  [MemberChangeKind.ROLE_CHANGED]: "roleChanged",
  [MemberChangeKind.MUTED]: "muted",
  [MemberChangeKind.UNMUTED]: "unmuted",
};

const roles: Readonly<Record<MemberRole, PbRole>> = {
  member: PbRole.MEMBER,
  admin: PbRole.ADMIN,
  owner: PbRole.OWNER,
};

export function toPbRole(role: MemberRole | undefined): PbRole {
  return role === undefined ? PbRole.UNSPECIFIED : roles[role];
}

export function toRole(role: PbRole): MemberRole {
  return role === PbRole.OWNER ? "owner" : role === PbRole.ADMIN ? "admin" : "member";
}

export function toDate(t: Timestamp | undefined): Date {
  return t ? timestampDate(t) : new Date(0);
}

export function toMessage(m: PbMessage): Message {
  const content = m.isDeleted ? undefined : toContent(m.content);
  return {
    sessionId: m.sessionId,
    seq: toSeq(m.seq),
    messageId: m.messageId,
    senderId: m.senderId,
    senderDeviceId: m.senderDeviceId,
    type: types[m.type] ?? "unknown",
    ...(content && { content }),
    isDeleted: m.isDeleted,
    createdAt: toDate(m.createdAt),
    ...(m.replyToSeq > 0n && { replyToSeq: toSeq(m.replyToSeq) }),
    mentions: m.mentions,
    status: "sent",
  };
}

function toContent(content: PbContent | undefined): Content | undefined {
  const kind = content?.kind;
  switch (kind?.case) {
    case "text":
      return { kind: "text", body: kind.value.body };
    case "custom":
      return { kind: "custom", typeUrl: kind.value.typeUrl, payload: kind.value.payload };
    case "recall":
      return { kind: "recall", seq: toSeq(kind.value.seq) };
    case "attachment": {
      const a = kind.value;
      return {
        kind: "attachment",
        url: a.url,
        mediaType: a.mediaType,
        ...(a.name && { name: a.name }),
        ...(a.sizeBytes && { sizeBytes: Number(a.sizeBytes) }),
        ...(a.caption && { caption: a.caption }),
        ...(a.width && { width: a.width }),
        ...(a.height && { height: a.height }),
        ...(a.durationMs && { durationMs: Number(a.durationMs) }),
      } as AttachmentContent;
    }
    case "memberChange":
      return {
        kind: "memberChange",
        change: changes[kind.value.kind] ?? "unknown",
        userIds: kind.value.userIds,
        ...(kind.value.role !== PbRole.UNSPECIFIED && { role: toRole(kind.value.role) }),
      };
    case "sessionChange": {
      const c = kind.value;
      return {
        kind: "sessionChange",
        ...(c.title !== undefined && { title: c.title }),
        ...(c.avatarUrl !== undefined && { avatarUrl: c.avatarUrl }),
        ...(c.historyVisible !== undefined && { historyVisible: c.historyVisible }),
        ...(c.sendRole !== undefined && { sendRole: toRole(c.sendRole) }),
      } as SessionChangeContent;
    }
    default:
      return undefined;
  }
}

export function fromContent(content: OutgoingContent): PbContent {
  switch (content.kind) {
    case "text":
      return create(ContentSchema, { kind: { case: "text", value: { body: content.body } } });
    case "custom":
      return create(ContentSchema, {
        kind: { case: "custom", value: { typeUrl: content.typeUrl, payload: new Uint8Array(content.payload) } },
      });
    case "attachment":
      return create(ContentSchema, {
        kind: {
          case: "attachment",
          value: {
            url: content.url,
            mediaType: content.mediaType,
            name: content.name ?? "",
            sizeBytes: BigInt(content.sizeBytes ?? 0),
            caption: content.caption ?? "",
            width: content.width ?? 0,
            height: content.height ?? 0,
            durationMs: BigInt(content.durationMs ?? 0),
          },
        },
      });
  }
}

/** What the server says of a session, as plain data that a store can keep. */
export interface Snapshot {
  readonly kind: "direct" | "group";
  readonly title: string;
  readonly avatarUrl: string;
  readonly peerUserId: string;
  readonly memberCount: number;
  readonly historyVisible: boolean;
  readonly sendRole: MemberRole;
  readonly createdAt: Date;
  readonly isMember: boolean;
  readonly role: MemberRole;
  readonly joinedSeq: number;
  readonly isMuted: boolean;
  readonly notificationsMuted: boolean;
  readonly isPinned: boolean;
  readonly isArchived: boolean;
  readonly markedUnread: boolean;
  readonly readSeq: number;
  readonly deletedToSeq: number;
  readonly headSeq: number;
  readonly unread: number;
}

export function toSnapshot(s: PbSession): Snapshot {
  const m = s.membership;
  return {
    kind: s.kind === SessionKind.DIRECT ? "direct" : "group",
    title: s.title,
    avatarUrl: s.avatarUrl,
    peerUserId: s.peerUserId,
    memberCount: s.memberCount,
    historyVisible: s.historyVisible,
    sendRole: toRole(s.sendRole),
    createdAt: toDate(s.createdAt),
    headSeq: toSeq(s.headSeq),
    unread: Number(s.unread),
    isMember: m !== undefined && m.leftSeq === 0n,
    ...toOwn(m),
  };
}

/** The user's own part of a snapshot. */
export function toOwn(m: Membership | undefined) {
  return {
    role: toRole(m?.role ?? PbRole.UNSPECIFIED),
    joinedSeq: toSeq(m?.joinedSeq ?? 0n),
    isMuted: m?.isMuted ?? false,
    notificationsMuted: m?.notificationsMuted ?? false,
    isPinned: m?.isPinned ?? false,
    isArchived: m?.isArchived ?? false,
    markedUnread: m?.markedUnread ?? false,
    readSeq: toSeq(m?.readSeq ?? 0n),
    deletedToSeq: toSeq(m?.deletedToSeq ?? 0n),
  };
}

export function toMember(m: PbMember): Member {
  return {
    userId: m.userId,
    displayName: m.displayName,
    role: toRole(m.role),
    readSeq: toSeq(m.readSeq),
    isMuted: m.isMuted,
  };
}

const relations: Readonly<Partial<Record<RelationKind, Relation["kind"]>>> = {
  [RelationKind.FRIEND]: "friend",
  [RelationKind.REQUESTED]: "requested",
  [RelationKind.REQUEST_RECEIVED]: "requestReceived",
  [RelationKind.BLOCKED]: "blocked",
};

export function toRelation(r: PbRelation): Relation {
  return { userId: r.userId, kind: relations[r.kind] ?? "none" };
}

/** The kind as the server has it; "none" is no kind that can be listed. */
export function toPbRelationKind(kind: Exclude<Relation["kind"], "none">): RelationKind {
  const [pb] = Object.entries(relations).find(([, name]) => name === kind) ?? [];
  return Number(pb ?? RelationKind.UNSPECIFIED);
}

const platforms: Readonly<Partial<Record<DevicePlatform, Device["platform"]>>> = {
  [DevicePlatform.WEB]: "web",
  [DevicePlatform.ANDROID]: "android",
  [DevicePlatform.IOS]: "ios",
  [DevicePlatform.DESKTOP]: "desktop",
  [DevicePlatform.BOT]: "bot",
};

export function toDevice(d: PbDevice): Device {
  return {
    deviceId: d.deviceId,
    platform: platforms[d.platform] ?? "unknown",
    displayName: d.displayName,
    createdAt: toDate(d.createdAt),
    ...(d.lastSeenAt && { lastSeenAt: timestampDate(d.lastSeenAt) }),
    isCurrent: d.isCurrent,
  };
}

export function toPresence(p: PbPresence): Presence {
  return {
    userId: p.userId,
    isOnline: p.isOnline,
    deviceIds: p.deviceIds,
    ...(p.lastSeenAt && { lastSeenAt: timestampDate(p.lastSeenAt) }),
  };
}

export function toResetReason(r: ResyncReason): ResetReason {
  switch (r) {
    case ResyncReason.EPOCH_CHANGED:
      return "epochChanged";
    case ResyncReason.CURSOR_BEYOND_HEAD:
      return "cursorBeyondHead";
    case ResyncReason.SESSION_UNAVAILABLE:
      return "sessionUnavailable";
    default:
      return "unknown";
  }
}
