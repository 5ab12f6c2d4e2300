package refusal

import "slices"

// Reason names the rule that declined a call. Its text equals the name of the proto enum's value without the enum's
// prefix, which a test in server/rpc checks for every member of Reasons.
type Reason string

// Who is calling.
const (
	// TokenMissing: the call needs a bearer token and carried none. Sign in, then call again with the token.
	TokenMissing Reason = "TOKEN_MISSING"
	// TokenInvalid: the token cannot be accepted (form, key, signature, issuer, audience or claims). Get a new token;
	// the same one will never be accepted.
	TokenInvalid Reason = "TOKEN_INVALID"
	// TokenExpired: the token was good and its time is over. Get a new token and repeat the call.
	TokenExpired Reason = "TOKEN_EXPIRED"
	// APIKeyInvalid: the admin key is missing or wrong. Correct the server-side configuration; do not retry.
	APIKeyInvalid Reason = "API_KEY_INVALID"
	// UserDeactivated: the calling user was deactivated. Sign out; only an administrator can undo this.
	UserDeactivated Reason = "USER_DEACTIVATED"
	// DeviceRevoked: the calling device was revoked. Drop local data and sign in again as a new device.
	DeviceRevoked Reason = "DEVICE_REVOKED"
	// NotAllowed: this kind of caller may not call this rpc (a user an admin rpc, for example). Give up.
	NotAllowed Reason = "NOT_ALLOWED"
)

// What was asked for.
const (
	// InvalidField: a field breaks its documented rule; metadata "field" names it. Correct the request.
	InvalidField Reason = "INVALID_FIELD"
	// SessionUnavailable: there is no such session, or the caller is no member; the two look the same on purpose.
	// Remove the session from the list and stop asking.
	SessionUnavailable Reason = "SESSION_UNAVAILABLE"
	// MessageUnavailable: there is no such entry in what the caller can see of the session. Give up.
	MessageUnavailable Reason = "MESSAGE_UNAVAILABLE"
	// RecipientUnavailable: the peer is unknown, deactivated, or has blocked the caller; the three look the same on
	// purpose. Tell the user that the message cannot be delivered; do not retry.
	RecipientUnavailable Reason = "RECIPIENT_UNAVAILABLE"
	// RecipientBlockedByYou: the caller has blocked the peer. Offer to unblock, then send again.
	RecipientBlockedByYou Reason = "RECIPIENT_BLOCKED_BY_YOU"
	// UserUnavailable: a user named in the request is unknown or cannot take part. Correct the request.
	UserUnavailable Reason = "USER_UNAVAILABLE"
	// DeviceUnavailable: the user has no such device. Refresh the list of devices.
	DeviceUnavailable Reason = "DEVICE_UNAVAILABLE"
	// RelationUnavailable: there is no such friend or friend request. Refresh the list of relations.
	RelationUnavailable Reason = "RELATION_UNAVAILABLE"
	// SelfTarget: the call names the caller where another user is needed. Correct the request.
	SelfTarget Reason = "SELF_TARGET"
)

// What the session's rules say.
const (
	// RoleTooLow: the caller's role in the session does not permit this. Give up, or ask someone with a higher role.
	RoleTooLow Reason = "ROLE_TOO_LOW"
	// Muted: the caller may read but not write in this session. Give up until the mute ends.
	Muted Reason = "MUTED"
	// LastOwner: the group would be left without an owner. Make another member owner first.
	LastOwner Reason = "LAST_OWNER"
	// DirectSession: the operation exists for groups only. Give up.
	DirectSession Reason = "DIRECT_SESSION"
	// GroupFull: the group would exceed its member limit. Add fewer members or remove some first.
	GroupFull Reason = "GROUP_FULL"
	// MessageIDReused: this message id was already used in the session with another body or by another sender. The
	// first message stands; send the new one under a fresh id.
	MessageIDReused Reason = "MESSAGE_ID_REUSED"
	// MessageRecalled: the entry was recalled, its body is gone. Show it as recalled; do not retry.
	MessageRecalled Reason = "MESSAGE_RECALLED"
	// NotRecallable: the entry is of a kind that cannot be recalled, or its time for that is over. Give up.
	NotRecallable Reason = "NOT_RECALLABLE"
)

// Positions and pages.
const (
	// CursorBeyondHead: the position is past the session's last entry. Read the session's head and correct it.
	CursorBeyondHead Reason = "CURSOR_BEYOND_HEAD"
	// CursorInvisible: the position lies outside what the caller can see of the session. Correct it.
	CursorInvisible Reason = "CURSOR_INVISIBLE"
	// EpochChanged: the position belongs to an earlier life of the log. Drop local positions and resync.
	EpochChanged Reason = "EPOCH_CHANGED"
	// PageTokenInvalid: the page token is not one this server gave for this listing. Start at the first page.
	PageTokenInvalid Reason = "PAGE_TOKEN_INVALID"
)

// What the server can carry.
const (
	// RequestTooLarge: the request exceeds a documented size. Send less; do not retry unchanged.
	RequestTooLarge Reason = "REQUEST_TOO_LARGE"
	// RateLimited: the caller exceeds a documented rate. Retry after the stated time, with jitter.
	RateLimited Reason = "RATE_LIMITED"
	// Overloaded: a queue of this node is full. Retry with backoff and the same message id; any node will do.
	Overloaded Reason = "OVERLOADED"
	// Unavailable: something the server depends on is down. The outcome of a write is unknown: retry with backoff and
	// the same message id.
	Unavailable Reason = "UNAVAILABLE"
	// StreamDisplaced: a newer stream of the same device took over. Do not reconnect; the newer one delivers.
	StreamDisplaced Reason = "STREAM_DISPLACED"
	// ShuttingDown: this node is going away. Reconnect after the hinted, jittered delay and resume.
	ShuttingDown Reason = "SHUTTING_DOWN"
	// TooManyDevices: the user is at the device limit. Revoke a device first.
	TooManyDevices Reason = "TOO_MANY_DEVICES"
	// TooManySessions: the user is at the session limit: no group and no direct session more. Leave a group first.
	TooManySessions Reason = "TOO_MANY_SESSIONS"
	// TooManyRelations: the user is at the limit of friends and requests, or of blocks. End one first.
	TooManyRelations Reason = "TOO_MANY_RELATIONS"
)

// Webhooks.
const (
	// MessageRejected: the app's moderation declined the message; metadata "moderation_reason" may say why. Give up.
	MessageRejected Reason = "MESSAGE_REJECTED"
	// ModerationUnavailable: the app's moderation gave no answer and the message was not sent. Retry with backoff and the
	// same message id.
	ModerationUnavailable Reason = "MODERATION_UNAVAILABLE"
	// WebhookUnavailable: there is no such webhook. Correct the request.
	WebhookUnavailable Reason = "WEBHOOK_UNAVAILABLE"
	// WebhooksOff: the server has no key for the secrets of webhooks. Set one.
	WebhooksOff Reason = "WEBHOOKS_OFF"
	// ModerationTaken: another webhook moderates already. Change or delete that one.
	ModerationTaken Reason = "MODERATION_TAKEN"
	// TooManyWebhooks: there are as many webhooks as there may be. Delete one.
	TooManyWebhooks Reason = "TOO_MANY_WEBHOOKS"
)

var reasons = []Reason{
	TokenMissing, TokenInvalid, TokenExpired, APIKeyInvalid, UserDeactivated, DeviceRevoked, NotAllowed,
	InvalidField, SessionUnavailable, MessageUnavailable, RecipientUnavailable, RecipientBlockedByYou, UserUnavailable,
	DeviceUnavailable, RelationUnavailable, SelfTarget,
	RoleTooLow, Muted, LastOwner, DirectSession, GroupFull, MessageIDReused, MessageRecalled, NotRecallable,
	CursorBeyondHead, CursorInvisible, EpochChanged, PageTokenInvalid,
	RequestTooLarge, RateLimited, Overloaded, Unavailable, StreamDisplaced, ShuttingDown, TooManyDevices, TooManySessions,
	TooManyRelations,
	MessageRejected, ModerationUnavailable, WebhookUnavailable, WebhooksOff, ModerationTaken, TooManyWebhooks,
}

// Reasons returns every reason, each once, in declaration order. The slice is the caller's own.
func Reasons() []Reason { return slices.Clone(reasons) }
