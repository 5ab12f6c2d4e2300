/**
 * Parley for TypeScript: the client of a device, in browsers and in Node.
 *
 * @packageDocumentation
 */
export { ParleyClient, type ClientOptions, type NewGroup } from "./client.js";
export { ParleyError, type ErrorReason, type ParleyErrorInit } from "./errors.js";
export { IndexedDbStore } from "./indexeddb.js";
export type {
  AttachmentContent,
  ClientEvent,
  Connection,
  Content,
  CustomContent,
  Device,
  Identity,
  Member,
  MemberChangeContent,
  MemberRole,
  Message,
  MessageStatus,
  MessageType,
  OutgoingContent,
  OwnSettings,
  Presence,
  RecallContent,
  Relation,
  ResetReason,
  SessionChangeContent,
  SessionInfo,
  SessionSettings,
  TextContent,
} from "./model.js";
export type { Observable } from "./observable.js";
export { fullJitter, type BackoffOptions, type ReconnectPolicy } from "./reconnect.js";
export { Session, type Outgoing, type SendOptions } from "./session.js";
export type { Store, StoreChange, StoredDevice, StoredOutgoing, StoredSession, StoredState } from "./store.js";
export type { TokenProvider } from "./token.js";
