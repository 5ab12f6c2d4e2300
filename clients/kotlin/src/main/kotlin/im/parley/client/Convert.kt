// The only place that knows both the generated types and the written ones.
package im.parley.client

import com.google.protobuf.ByteString
import com.google.protobuf.Timestamp
import im.parley.v1.MemberChangeKind
import im.parley.v1.Membership
import im.parley.v1.ResyncReason
import im.parley.v1.attachment
import im.parley.v1.content
import im.parley.v1.custom
import im.parley.v1.memberChange
import im.parley.v1.membership
import im.parley.v1.message
import im.parley.v1.recall
import im.parley.v1.session
import im.parley.v1.sessionChange
import im.parley.v1.text
import kotlin.time.Instant
import im.parley.v1.Content as PbContent
import im.parley.v1.Device as PbDevice
import im.parley.v1.DevicePlatform as PbPlatform
import im.parley.v1.Member as PbMember
import im.parley.v1.MemberRole as PbRole
import im.parley.v1.Message as PbMessage
import im.parley.v1.MessageType as PbType
import im.parley.v1.Presence as PbPresence
import im.parley.v1.Relation as PbRelation
import im.parley.v1.RelationKind as PbRelationKind
import im.parley.v1.Session as PbSession
import im.parley.v1.SessionKind as PbKind

private val types = mapOf(
    PbType.MESSAGE_TYPE_TEXT to MessageType.TEXT,
    PbType.MESSAGE_TYPE_ATTACHMENT to MessageType.ATTACHMENT,
    PbType.MESSAGE_TYPE_CUSTOM to MessageType.CUSTOM,
    PbType.MESSAGE_TYPE_RECALL to MessageType.RECALL,
    PbType.MESSAGE_TYPE_MEMBER_CHANGE to MessageType.MEMBER_CHANGE,
    PbType.MESSAGE_TYPE_SESSION_CHANGE to MessageType.SESSION_CHANGE,
)
private val pbTypes = types.entries.associate { (pb, own) -> own to pb }

private val changes = mapOf(
    MemberChangeKind.MEMBER_CHANGE_KIND_CREATED to MemberChange.CREATED,
    MemberChangeKind.MEMBER_CHANGE_KIND_ADDED to MemberChange.ADDED,
    MemberChangeKind.MEMBER_CHANGE_KIND_REMOVED to MemberChange.REMOVED,
    MemberChangeKind.MEMBER_CHANGE_KIND_LEFT to MemberChange.LEFT,
    MemberChangeKind.MEMBER_CHANGE_KIND_ROLE_CHANGED to MemberChange.ROLE_CHANGED,
    MemberChangeKind.MEMBER_CHANGE_KIND_MUTED to MemberChange.MUTED,
    MemberChangeKind.MEMBER_CHANGE_KIND_UNMUTED to MemberChange.UNMUTED,
)
private val pbChanges = changes.entries.associate { (pb, own) -> own to pb }

private val relations = mapOf(
    PbRelationKind.RELATION_KIND_FRIEND to RelationKind.FRIEND,
    PbRelationKind.RELATION_KIND_REQUESTED to RelationKind.REQUESTED,
    PbRelationKind.RELATION_KIND_REQUEST_RECEIVED to RelationKind.REQUEST_RECEIVED,
    PbRelationKind.RELATION_KIND_BLOCKED to RelationKind.BLOCKED,
)

private val pbRelations = relations.entries.associate { (pb, own) -> own to pb }

private val platforms = mapOf(
    PbPlatform.DEVICE_PLATFORM_WEB to DevicePlatform.WEB,
    PbPlatform.DEVICE_PLATFORM_ANDROID to DevicePlatform.ANDROID,
    PbPlatform.DEVICE_PLATFORM_IOS to DevicePlatform.IOS,
    PbPlatform.DEVICE_PLATFORM_DESKTOP to DevicePlatform.DESKTOP,
    PbPlatform.DEVICE_PLATFORM_BOT to DevicePlatform.BOT,
)
private val pbPlatforms = platforms.entries.associate { (pb, own) -> own to pb }

internal fun MemberRole?.toPb(): PbRole = when (this) {
    MemberRole.OWNER -> PbRole.MEMBER_ROLE_OWNER
    MemberRole.ADMIN -> PbRole.MEMBER_ROLE_ADMIN
    MemberRole.MEMBER -> PbRole.MEMBER_ROLE_MEMBER
    null -> PbRole.MEMBER_ROLE_UNSPECIFIED
}

internal fun PbRole.toRole(): MemberRole = when (this) {
    PbRole.MEMBER_ROLE_OWNER -> MemberRole.OWNER
    PbRole.MEMBER_ROLE_ADMIN -> MemberRole.ADMIN
    else -> MemberRole.MEMBER
}

internal fun Timestamp.toInstant(): Instant = Instant.fromEpochSeconds(seconds, nanos)

internal fun Instant.toPb(): Timestamp = Timestamp.newBuilder().setSeconds(epochSeconds).setNanos(nanosecondsOfSecond).build()

internal fun PbMessage.toMessage(): Message = Message(
    sessionId = sessionId,
    seq = seq,
    messageId = messageId,
    senderId = senderId,
    senderDeviceId = senderDeviceId,
    type = types[type] ?: MessageType.UNKNOWN,
    content = if (isDeleted) null else content.toContent(),
    isDeleted = isDeleted,
    createdAt = createdAt.toInstant(),
    replyToSeq = replyToSeq.takeIf { it > 0 },
    mentions = mentionsList.toList(),
)

internal fun Message.toPb(): PbMessage {
    val m = this
    return message {
        sessionId = m.sessionId
        seq = m.seq
        messageId = m.messageId
        senderId = m.senderId
        senderDeviceId = m.senderDeviceId
        type = pbTypes[m.type] ?: PbType.MESSAGE_TYPE_UNSPECIFIED
        m.content?.let { content = it.toPb() }
        isDeleted = m.isDeleted
        createdAt = m.createdAt.toPb()
        replyToSeq = m.replyToSeq ?: 0
        mentions += m.mentions
    }
}

private fun PbContent.toContent(): Content? = when (kindCase) {
    PbContent.KindCase.TEXT -> TextContent(text.body)
    PbContent.KindCase.CUSTOM -> CustomContent(custom.typeUrl, custom.payload.toByteArray())
    PbContent.KindCase.RECALL -> RecallContent(recall.seq)
    PbContent.KindCase.ATTACHMENT -> AttachmentContent(
        url = attachment.url,
        mediaType = attachment.mediaType,
        name = attachment.name.ifEmpty { null },
        sizeBytes = attachment.sizeBytes.takeIf { it > 0 },
        caption = attachment.caption.ifEmpty { null },
        width = attachment.width.takeIf { it > 0 },
        height = attachment.height.takeIf { it > 0 },
        durationMs = attachment.durationMs.takeIf { it > 0 },
    )
    PbContent.KindCase.MEMBER_CHANGE -> MemberChangeContent(
        change = changes[memberChange.kind] ?: MemberChange.UNKNOWN,
        userIds = memberChange.userIdsList.toList(),
        role = memberChange.role.takeIf { it != PbRole.MEMBER_ROLE_UNSPECIFIED }?.toRole(),
    )
    PbContent.KindCase.SESSION_CHANGE -> SessionChangeContent(
        title = if (sessionChange.hasTitle()) sessionChange.title else null,
        avatarUrl = if (sessionChange.hasAvatarUrl()) sessionChange.avatarUrl else null,
        historyVisible = if (sessionChange.hasHistoryVisible()) sessionChange.historyVisible else null,
        sendRole = if (sessionChange.hasSendRole()) sessionChange.sendRole.toRole() else null,
    )
    else -> null
}

internal fun Content.toPb(): PbContent {
    val c = this
    return content {
        when (c) {
            is TextContent -> text = text { body = c.body }
            is CustomContent -> custom = c.toPb()
            is AttachmentContent -> attachment = attachment {
                url = c.url
                mediaType = c.mediaType
                name = c.name.orEmpty()
                sizeBytes = c.sizeBytes ?: 0
                caption = c.caption.orEmpty()
                width = c.width ?: 0
                height = c.height ?: 0
                durationMs = c.durationMs ?: 0
            }
            is RecallContent -> recall = recall { seq = c.seq }
            is MemberChangeContent -> memberChange = memberChange {
                kind = pbChanges[c.change] ?: MemberChangeKind.MEMBER_CHANGE_KIND_UNSPECIFIED
                userIds += c.userIds
                role = c.role.toPb()
            }
            is SessionChangeContent -> sessionChange = sessionChange {
                c.title?.let { title = it }
                c.avatarUrl?.let { avatarUrl = it }
                c.historyVisible?.let { historyVisible = it }
                c.sendRole?.let { sendRole = it.toPb() }
            }
        }
    }
}

internal fun CustomContent.toPb(): im.parley.v1.Custom {
    val c = this
    return custom {
        typeUrl = c.typeUrl
        payload = ByteString.copyFrom(c.payload)
    }
}

internal fun PbSession.toInfo(): SessionInfo = SessionInfo(
    sessionId = sessionId,
    kind = if (kind == PbKind.SESSION_KIND_DIRECT) SessionKind.DIRECT else SessionKind.GROUP,
    title = title,
    avatarUrl = avatarUrl,
    peerUserId = peerUserId,
    memberCount = memberCount,
    historyVisible = historyVisible,
    sendRole = sendRole.toRole(),
    createdAt = createdAt.toInstant(),
    isMember = hasMembership() && membership.leftSeq == 0L,
    role = membership.role.toRole(),
    joinedSeq = membership.joinedSeq,
    isMuted = membership.isMuted,
    notificationsMuted = membership.notificationsMuted,
    isPinned = membership.isPinned,
    isArchived = membership.isArchived,
    markedUnread = membership.markedUnread,
    readSeq = membership.readSeq,
    deletedToSeq = membership.deletedToSeq,
    headSeq = headSeq,
    unread = unread,
    lastMessage = if (hasLastMessage()) lastMessage.toMessage() else null,
)

internal fun SessionInfo.toPb(): PbSession {
    val s = this
    return session {
        sessionId = s.sessionId
        kind = if (s.kind == SessionKind.DIRECT) PbKind.SESSION_KIND_DIRECT else PbKind.SESSION_KIND_GROUP
        title = s.title
        avatarUrl = s.avatarUrl
        peerUserId = s.peerUserId
        memberCount = s.memberCount
        historyVisible = s.historyVisible
        sendRole = s.sendRole.toPb()
        createdAt = s.createdAt.toPb()
        headSeq = s.headSeq
        unread = s.unread
        s.lastMessage?.let { lastMessage = it.toPb() }
        membership = s.ownPart()
    }
}

private fun SessionInfo.ownPart(): Membership {
    val s = this
    return membership {
        role = s.role.toPb()
        joinedSeq = s.joinedSeq
        leftSeq = if (s.isMember) 0 else 1
        readSeq = s.readSeq
        deletedToSeq = s.deletedToSeq
        isMuted = s.isMuted
        notificationsMuted = s.notificationsMuted
        isPinned = s.isPinned
        isArchived = s.isArchived
        markedUnread = s.markedUnread
    }
}

internal fun PbMember.toMember(): Member = Member(userId, displayName, role.toRole(), readSeq, isMuted)

internal fun PbRelation.toRelation(): Relation = Relation(userId, relations[kind] ?: RelationKind.NONE)

/** The kind as the server has it; [RelationKind.NONE] is none that can be listed. */
internal fun RelationKind.toPb(): PbRelationKind = pbRelations[this] ?: PbRelationKind.RELATION_KIND_UNSPECIFIED

internal fun DevicePlatform.toPb(): PbPlatform = pbPlatforms[this] ?: PbPlatform.DEVICE_PLATFORM_UNSPECIFIED

internal fun PbDevice.toDevice(): Device = Device(
    deviceId = deviceId,
    platform = platforms[platform] ?: DevicePlatform.UNKNOWN,
    displayName = displayName,
    createdAt = createdAt.toInstant(),
    lastSeenAt = if (hasLastSeenAt()) lastSeenAt.toInstant() else null,
    isCurrent = isCurrent,
)

internal fun PbPresence.toPresence(): Presence =
    Presence(userId, isOnline, deviceIdsList.toList(), if (hasLastSeenAt()) lastSeenAt.toInstant() else null)

internal fun ResyncReason.toReset(): ResetReason = when (this) {
    ResyncReason.RESYNC_REASON_EPOCH_CHANGED -> ResetReason.EPOCH_CHANGED
    ResyncReason.RESYNC_REASON_CURSOR_BEYOND_HEAD -> ResetReason.CURSOR_BEYOND_HEAD
    ResyncReason.RESYNC_REASON_SESSION_UNAVAILABLE -> ResetReason.SESSION_UNAVAILABLE
    else -> ResetReason.UNKNOWN
}
