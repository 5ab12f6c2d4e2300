package im.parley.contract

import im.parley.client.AttachmentContent
import im.parley.client.Connection
import im.parley.client.CustomContent
import im.parley.client.MemberChangeContent
import im.parley.client.Message
import im.parley.client.MessageStatus
import im.parley.client.ParleyClient
import im.parley.client.RecallContent
import im.parley.client.Recorder
import im.parley.client.ResetEvent
import im.parley.client.Session
import im.parley.client.SessionChangeContent
import im.parley.client.SkippedEvent
import im.parley.client.TextContent

/** All that a device shows of itself and of one session, in the words of the contract. */
internal fun look(client: ParleyClient, recorder: Recorder, session: Session, watched: List<String>): Map<String, Any?> {
    val id = session.sessionId
    val connection = client.connection.value
    return mapOf(
        "connection" to when (connection) {
            is Connection.Connecting -> "connecting"
            is Connection.Live -> "live"
            is Connection.Offline -> "offline"
        },
        "reason" to connection.error?.reason?.name.orEmpty(),
        "problems" to recorder.problems.toList(),
        "resets" to recorder.events.filterIsInstance<ResetEvent>().filter {
            it.sessionId == null || it.sessionId == id
        }.map { camel(it.reason.name) },
        "shown" to recorder.messages(id).map(::entry),
        "skipped" to recorder.events.filterIsInstance<SkippedEvent>().filter { it.sessionId == id }.map { "${it.fromSeq}-${it.toSeq}" },
        "listed" to session.messages.value.map(::entry),
        "info" to session.info.value?.let {
            mapOf(
                "title" to it.title,
                "isMember" to it.isMember,
                "role" to it.role.name.lowercase(),
                "memberCount" to it.memberCount,
                "isMuted" to it.isMuted,
                "isPinned" to it.isPinned,
                "markedUnread" to it.markedUnread,
                "unread" to it.unread,
                "readSeq" to it.readSeq,
                "headSeq" to it.headSeq,
            )
        },
        "typing" to session.typing.value,
        "members" to session.members.value.map { "${it.userId} ${it.role.name.lowercase()}" }.sorted(),
        "reading" to session.members.value.map { "${it.userId} ${it.readSeq}" }.sorted(),
        "online" to watched.filter { client.presence(it).value?.isOnline == true }.sorted(),
        "sessions" to client.sessions.value.map { it.sessionId },
        "unread" to client.unread.value,
    )
}

internal fun entry(m: Message): String {
    val seq = if (m.seq > 0) "${m.seq}" else "-"
    val reply = m.replyToSeq?.let { " (re $it)" }.orEmpty()
    val status = when (m.status) {
        MessageStatus.SENT -> ""
        MessageStatus.PENDING -> " pending"
        MessageStatus.FAILED -> " failed ${m.failure?.reason?.name}"
    }
    return "$seq ${m.senderId} ${what(m)}$reply$status"
}

private fun what(m: Message): String = if (m.isDeleted) {
    "(recalled)"
} else {
    when (val c = m.content) {
        is TextContent -> c.body
        is CustomContent -> "custom ${c.typeUrl}"
        is AttachmentContent -> "attachment ${c.url}"
        is RecallContent -> "recalls ${c.seq}"
        is MemberChangeContent -> {
            val role = if (c.change.name == "ROLE_CHANGED") " ${c.role?.name?.lowercase()}" else ""
            "${camel(c.change.name)} ${c.userIds.sorted().joinToString(" ")}$role"
        }
        is SessionChangeContent -> "settings" + listOfNotNull(
            c.title?.let { " title=$it" },
            c.avatarUrl?.let { " avatarUrl=$it" },
            c.historyVisible?.let { " historyVisible=$it" },
            c.sendRole?.let { " sendRole=${it.name.lowercase()}" },
        ).joinToString("")
        null -> "unknown"
    }
}

private fun camel(upper: String): String = upper.lowercase().replace(Regex("_[a-z]")) { it.value.drop(1).uppercase() }
