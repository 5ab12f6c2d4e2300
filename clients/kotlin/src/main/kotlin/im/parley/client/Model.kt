package im.parley.client

import kotlin.time.Instant

/**
 * Whose client this is, read from the token's claims. For telling what is one's own; the server decides by itself.
 *
 * @property userId the user
 * @property deviceId the device
 */
public data class Identity(val userId: String, val deviceId: String)

/** Whether the client is in touch with the server. */
public sealed interface Connection {
    /** Why it is not live; null when nothing went wrong. */
    public val error: ParleyException?

    /** No stream yet, or it is being caught up; the SDK is at it. */
    public data class Connecting(override val error: ParleyException? = null) : Connection

    /** Everything that was committed before has been shown, and what is new comes as it happens. */
    public data object Live : Connection {
        override val error: ParleyException? get() = null
    }

    /**
     * Not in touch. With a retryable error (the device has no network) the SDK comes back by itself; with a terminal one,
     * or none (stopped), only [ParleyClient.start] does.
     */
    public data class Offline(override val error: ParleyException? = null) : Connection
}

/** What a log entry can hold. */
public sealed interface Content

/** What can be sent. */
public sealed interface OutgoingContent : Content

/**
 * A text.
 *
 * @property body 1 byte to 16 KiB of UTF-8
 */
public data class TextContent(val body: String) : OutgoingContent

/**
 * A reference to something stored elsewhere. Null is unknown.
 *
 * @property url where it is, an absolute URI
 * @property mediaType media type, for example "image/png"
 * @property name file name to show
 * @property sizeBytes size in bytes
 * @property caption text beside it, at most 4 KiB
 * @property width width in pixels
 * @property height height in pixels
 * @property durationMs length of sound or film in milliseconds
 */
public data class AttachmentContent(
    val url: String,
    val mediaType: String,
    val name: String? = null,
    val sizeBytes: Long? = null,
    val caption: String? = null,
    val width: Int? = null,
    val height: Int? = null,
    val durationMs: Long? = null,
) : OutgoingContent

/**
 * A body of the app's own, opaque to Parley.
 *
 * @property typeUrl names the type, for example "shop.example/order"
 * @property payload at most 16 KiB; not to be changed
 */
public class CustomContent(public val typeUrl: String, public val payload: ByteArray) : OutgoingContent {
    override fun equals(other: Any?): Boolean = other is CustomContent && other.typeUrl == typeUrl && other.payload.contentEquals(payload)

    override fun hashCode(): Int = 31 * typeUrl.hashCode() + payload.contentHashCode()

    override fun toString(): String = "CustomContent(typeUrl=$typeUrl, ${payload.size} bytes)"
}

/**
 * Log event: an earlier message was recalled.
 *
 * @property seq the seq of the recalled message
 */
public data class RecallContent(val seq: Long) : Content

/** What a member may do. */
public enum class MemberRole { MEMBER, ADMIN, OWNER }

/** What happened to members. */
public enum class MemberChange { CREATED, ADDED, REMOVED, LEFT, ROLE_CHANGED, MUTED, UNMUTED, UNKNOWN }

/**
 * Log event: members came, went or changed.
 *
 * @property change what happened
 * @property userIds to whom
 * @property role the new role, for [MemberChange.ADDED] and [MemberChange.ROLE_CHANGED]
 */
public data class MemberChangeContent(val change: MemberChange, val userIds: List<String>, val role: MemberRole? = null) : Content

/**
 * Log event: settings of the session changed. Only what changed is set.
 *
 * @property title the new title
 * @property avatarUrl the new picture
 * @property historyVisible whether members added from now on see the past
 * @property sendRole the lowest role that may send
 */
public data class SessionChangeContent(
    val title: String? = null,
    val avatarUrl: String? = null,
    val historyVisible: Boolean? = null,
    val sendRole: MemberRole? = null,
) : Content

/** What kind of log entry it is; [UNKNOWN] for kinds that this SDK does not know yet. */
public enum class MessageType { TEXT, ATTACHMENT, CUSTOM, RECALL, MEMBER_CHANGE, SESSION_CHANGE, UNKNOWN }

/** Where a message stands on its way to the log. */
public enum class MessageStatus { PENDING, SENT, FAILED }

/**
 * Why a message was refused.
 *
 * @property reason for programs
 * @property message in words
 */
public data class Failure(val reason: ErrorReason, val message: String)

/**
 * An entry of a session's log, or one that is on its way there.
 *
 * @property sessionId the session
 * @property seq position in the log: 1, 2, 3 ... without holes; 0 until the server has given it one
 * @property messageId the sender's id of it, the same however often it is sent
 * @property senderId who wrote it or caused it
 * @property senderDeviceId from which device; may be empty
 * @property type what kind of entry; known for recalled messages too
 * @property content the body; null once it was recalled, and for unknown kinds
 * @property isDeleted true once it was recalled
 * @property createdAt when it was committed, by the server's clock (while pending: entered, by the device's); never order by it
 * @property replyToSeq the seq that it answers
 * @property mentions users mentioned in it
 * @property status [MessageStatus.SENT] for everything in the log
 * @property failure why it failed, with [MessageStatus.FAILED] only
 */
public data class Message(
    val sessionId: String,
    val seq: Long,
    val messageId: String,
    val senderId: String,
    val senderDeviceId: String,
    val type: MessageType,
    val content: Content?,
    val isDeleted: Boolean,
    val createdAt: Instant,
    val replyToSeq: Long? = null,
    val mentions: List<String> = emptyList(),
    val status: MessageStatus = MessageStatus.SENT,
    val failure: Failure? = null,
) {
    /** The body of a text; null for anything else. */
    public val text: String? get() = (content as? TextContent)?.body

    /** Whether it counts as unread for others. */
    internal val isCountable: Boolean
        get() = type == MessageType.TEXT || type == MessageType.ATTACHMENT || type == MessageType.CUSTOM

    /** It without its body, as a recall leaves it. */
    internal fun erased(): Message = copy(content = null, isDeleted = true)
}

/** Two users, or any number. */
public enum class SessionKind { DIRECT, GROUP }

/**
 * A session as the user sees it.
 *
 * @property sessionId UUID
 * @property kind two users, or any number
 * @property title title of a group
 * @property avatarUrl picture of a group; may be empty
 * @property peerUserId the other user of a direct session; empty for groups
 * @property memberCount how many members it has
 * @property historyVisible whether members added from now on see the past
 * @property sendRole the lowest role that may send
 * @property createdAt when it was made
 * @property isMember whether the user is in it now
 * @property role the user's role
 * @property joinedSeq the seq by which the user came in
 * @property isMuted an admin has muted the user: sending is refused
 * @property notificationsMuted the user wants no notifications
 * @property isPinned the user has pinned it
 * @property isArchived the user has archived it
 * @property markedUnread the user has flagged it as unread
 * @property readSeq everything up to here is read
 * @property deletedToSeq everything up to here was deleted by the user for themself
 * @property headSeq last seq that is known
 * @property unread messages of others that are not read
 * @property lastMessage the newest entry; null while none is known
 */
public data class SessionInfo(
    val sessionId: String,
    val kind: SessionKind,
    val title: String,
    val avatarUrl: String,
    val peerUserId: String,
    val memberCount: Int,
    val historyVisible: Boolean,
    val sendRole: MemberRole,
    val createdAt: Instant,
    val isMember: Boolean,
    val role: MemberRole,
    val joinedSeq: Long,
    val isMuted: Boolean,
    val notificationsMuted: Boolean,
    val isPinned: Boolean,
    val isArchived: Boolean,
    val markedUnread: Boolean,
    val readSeq: Long,
    val deletedToSeq: Long,
    val headSeq: Long,
    val unread: Long,
    val lastMessage: Message?,
)

/**
 * A member of a session as others see it.
 *
 * @property userId the user
 * @property displayName name to show; may be empty
 * @property role role
 * @property readSeq everything up to here is read by the member. In direct sessions and groups of at most 32 members it is
 *   kept up to date; in larger ones it is what it was when the list was loaded: ask [Session.readers]
 * @property isMuted an admin has muted the member
 */
public data class Member(val userId: String, val displayName: String, val role: MemberRole, val readSeq: Long, val isMuted: Boolean)

/** What another user is to this one. [NONE]: no relation any more. */
public enum class RelationKind { NONE, FRIEND, REQUESTED, REQUEST_RECEIVED, BLOCKED }

/**
 * What another user is to this one.
 *
 * @property userId the other user
 * @property kind what they are
 */
public data class Relation(val userId: String, val kind: RelationKind)

/**
 * Whether a user is online. A hint: right within seconds, and it orders nothing.
 *
 * @property userId the user
 * @property isOnline on at least one device
 * @property deviceIds devices that are online; only the user's own are told
 * @property lastSeenAt when the user was last online; null while online, and where it is not known
 */
public data class Presence(val userId: String, val isOnline: Boolean, val deviceIds: List<String> = emptyList(), val lastSeenAt: Instant? = null)

/** What a device runs on; [UNKNOWN] where it never said. */
public enum class DevicePlatform { WEB, ANDROID, IOS, DESKTOP, BOT, UNKNOWN }

/**
 * A device of the user.
 *
 * @property deviceId unique for the user
 * @property platform what it runs on
 * @property displayName name to show; may be empty
 * @property createdAt when it was first known
 * @property lastSeenAt when it was last in touch; null if it never was
 * @property isCurrent it is the device of this client
 */
public data class Device(
    val deviceId: String,
    val platform: DevicePlatform,
    val displayName: String,
    val createdAt: Instant,
    val lastSeenAt: Instant?,
    val isCurrent: Boolean,
)

/**
 * What a settings change of a group can hold; null leaves a setting as it is.
 *
 * @property title at most 255 bytes
 * @property avatarUrl an absolute URI, or empty to take it away
 * @property historyVisible whether members added from now on see the past
 * @property sendRole the lowest role that may send
 */
public data class SessionSettings(
    val title: String? = null,
    val avatarUrl: String? = null,
    val historyVisible: Boolean? = null,
    val sendRole: MemberRole? = null,
)

/**
 * The user's own settings of a session; null leaves a setting as it is.
 *
 * @property isPinned pin it
 * @property isArchived archive it
 * @property notificationsMuted no notifications
 */
public data class OwnSettings(val isPinned: Boolean? = null, val isArchived: Boolean? = null, val notificationsMuted: Boolean? = null)

/** Why a session begins anew. */
public enum class ResetReason { EPOCH_CHANGED, CURSOR_BEYOND_HEAD, SESSION_UNAVAILABLE, UNKNOWN }

/**
 * One thing that happened. [MessageEvent]s are the log: for each session every seq once, in order, without a hole but for
 * what a [SkippedEvent] names. After a [ResetEvent] a session (or, without a sessionId, every one) begins anew.
 */
public sealed interface ClientEvent

/**
 * The next entry of a session's log.
 *
 * @property message the entry
 */
public data class MessageEvent(val message: Message) : ClientEvent

/**
 * A range of seqs that is left out.
 *
 * @property sessionId the session
 * @property fromSeq first seq left out
 * @property toSeq last seq left out
 */
public data class SkippedEvent(val sessionId: String, val fromSeq: Long, val toSeq: Long) : ClientEvent

/**
 * What was shown of a session, or of all, no longer holds.
 *
 * @property sessionId the session; null means all
 * @property reason why
 */
public data class ResetEvent(val sessionId: String?, val reason: ResetReason) : ClientEvent

/**
 * The server has described a session.
 *
 * @property session as it is now
 */
public data class SessionEvent(val session: SessionInfo) : ClientEvent

/**
 * The user's own states in a session changed, here or on another device.
 *
 * @property sessionId the session
 * @property readSeq everything up to here is read
 * @property unread messages not read
 */
public data class StateEvent(val sessionId: String, val readSeq: Long, val unread: Long) : ClientEvent

/**
 * How far a member has read, in a direct session or a group of at most 32 members. Told live only: what was not told comes
 * with [Session.loadMembers]. Who sends has read, and that is told by the message.
 *
 * @property sessionId the session
 * @property userId who has read
 * @property readSeq everything up to here; of several the highest counts
 */
public data class ReadEvent(val sessionId: String, val userId: String, val readSeq: Long) : ClientEvent

/**
 * A relation of the user changed.
 *
 * @property relation as it is now
 */
public data class RelationEvent(val relation: Relation) : ClientEvent

/**
 * Somebody who is watched came online or went.
 *
 * @property presence as it is now
 */
public data class PresenceEvent(val presence: Presence) : ClientEvent

/**
 * Somebody began or stopped typing.
 *
 * @property sessionId where
 * @property userId who
 * @property deviceId on which device
 * @property isTyping true while typing
 */
public data class TypingEvent(val sessionId: String, val userId: String, val deviceId: String, val isTyping: Boolean) : ClientEvent

/**
 * A signal of the app's own, not stored.
 *
 * @property sessionId where
 * @property userId from whom
 * @property deviceId from which device
 * @property content what
 */
public data class SignalEvent(val sessionId: String, val userId: String, val deviceId: String, val content: CustomContent) : ClientEvent

/**
 * The backlog is over.
 *
 * @property unread messages not read, over all sessions, when the stream opened
 */
public data class CaughtUpEvent(val unread: Long) : ClientEvent
