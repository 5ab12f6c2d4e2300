package im.parley.client

import im.parley.v1.Signal
import im.parley.v1.addMembersRequest
import im.parley.v1.deleteForMeRequest
import im.parley.v1.leaveSessionRequest
import im.parley.v1.listMessagesRequest
import im.parley.v1.listReadersRequest
import im.parley.v1.markUnreadRequest
import im.parley.v1.recallMessageRequest
import im.parley.v1.removeMemberRequest
import im.parley.v1.sendSignalRequest
import im.parley.v1.setMemberRoleRequest
import im.parley.v1.signal
import im.parley.v1.typing
import im.parley.v1.updateMembershipRequest
import im.parley.v1.updateSessionRequest
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Deferred
import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.launch
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import kotlinx.coroutines.withContext
import kotlin.coroutines.CoroutineContext
import kotlin.time.Instant

/** How often the others are told that somebody is typing. */
private const val TYPING_EVERY_MS = 4000L

/** What became of a message that was handed over. */
public sealed interface SendResult {
    /**
     * It is in the log.
     *
     * @property message as it stands there
     */
    public data class Sent(val message: Message) : SendResult

    /**
     * It was refused for good, and is in [Session.messages] with [MessageStatus.FAILED].
     *
     * @property error why
     */
    public data class Refused(val error: ParleyException) : SendResult
}

/**
 * A message that was handed over for sending.
 *
 * @property message the message as it stands now: pending. It is in [Session.messages] too
 */
public class Outgoing internal constructor(public val message: Message, private val sent: Deferred<Message>) {
    /**
     * Waits for what becomes of it: after reconnects, and if need be much later. It need not be awaited, since the
     * message's status says it too.
     *
     * @throws ParleyException STOPPED when the client was closed before; with a store the next one goes on sending it
     */
    public suspend fun result(): SendResult = try {
        SendResult.Sent(sent.await())
    } catch (e: CancellationException) {
        currentCoroutineContext().ensureActive() // else it is the client that ended
        throw ParleyException(ErrorReason.STOPPED, "the client was closed", cause = e)
    } catch (e: ParleyException) {
        SendResult.Refused(e)
    }
}

/** The parts of the client that a session uses. */
internal class Parts(
    val loop: CoroutineContext,
    val scope: CoroutineScope,
    val clock: Clock,
    val api: Api,
    val sync: Sync,
    val outbox: Outbox,
    val keeper: Keeper,
)

/**
 * One conversation. Get it from [ParleyClient.session] or [ParleyClient.direct]; it is good for as long as its client. All
 * of it may be used from any thread. What calls the server throws [ParleyException].
 */
public class Session internal constructor(
    private val parts: Parts,
    /** UUID. */
    public val sessionId: String,
    private val peer: String? = null,
) {
    private val state = parts.sync.session(sessionId)
    private val loading = Mutex()
    private var typingTold: Long? = null

    /** What is known of it; null while nothing is, or nothing may be. */
    public val info: StateFlow<SessionInfo?> get() = state.info

    /**
     * The stretch of its log that is in memory: ascending by seq, up to the newest, without holes; own messages that are on
     * their way, or failed, come last. [loadOlder] makes it longer.
     */
    public val messages: StateFlow<List<Message>> get() = state.messages

    /** Who is typing: user ids, in order, without one's own. */
    public val typing: StateFlow<List<String>> get() = state.typing.names

    /** Members, once [loadMembers] was called. */
    public val members: StateFlow<List<Member>> get() = state.members

    /** Hands a text over for sending; see the other [send]. */
    public suspend fun send(text: String, replyToSeq: Long? = null, mentions: List<String> = emptyList()): Outgoing =
        send(TextContent(text), replyToSeq, mentions)

    /**
     * Hands a message over for sending and does not wait for the server. It appears in [messages] at once, is sent when the
     * client is live, in the order of these calls, and is repeated under the same id until the server has said yes or no.
     * With a store it survives restarts.
     *
     * @param replyToSeq the seq in the same session that it answers
     * @param mentions users mentioned, at most 50
     * @throws ParleyException OVERLOADED when 1,000 messages wait already
     */
    public suspend fun send(content: OutgoingContent, replyToSeq: Long? = null, mentions: List<String> = emptyList()): Outgoing = onLoop {
        val me = parts.sync.me
        val nowMs = parts.clock.nowMs()
        val message = Message(
            sessionId = sessionId,
            seq = 0,
            messageId = uuidv7(nowMs),
            senderId = me?.userId.orEmpty(),
            senderDeviceId = me?.deviceId.orEmpty(),
            type = when (content) {
                is TextContent -> MessageType.TEXT
                is AttachmentContent -> MessageType.ATTACHMENT
                is CustomContent -> MessageType.CUSTOM
            },
            content = content,
            isDeleted = false,
            createdAt = Instant.fromEpochMilliseconds(nowMs),
            replyToSeq = replyToSeq,
            mentions = mentions.toList(),
            status = MessageStatus.PENDING,
        )
        typingTold = null
        val direct = peer ?: info.value?.takeIf { it.kind == SessionKind.DIRECT }?.peerUserId
        Outgoing(message, parts.outbox.add(message, direct))
    }

    /** Sends a failed message again, under the same id. Returns false if there is no such failed message. */
    public suspend fun retry(messageId: String): Boolean = onLoop { parts.outbox.retry(messageId) }

    /** Takes a failed message out of the list. Returns false if there is no such failed message. */
    public suspend fun discard(messageId: String): Boolean = onLoop { parts.outbox.discard(messageId) }

    /**
     * Makes [messages] longer at its old end: from the store, else from the server.
     *
     * @param limit at most this many, 1 to 500
     * @return whether there may be more
     */
    public suspend fun loadOlder(limit: Int = 50): Boolean = onLoop { loading.withLock { loadMore(limit) } }

    private suspend fun loadMore(atMost: Int): Boolean {
        val s = state
        if (s.atStart) return false
        val life = s.life
        val before = s.window.first?.seq ?: if (s.order.isOpen) s.base + 1 else s.floor?.plus(1)
        if (before != null && s.base > s.storedBase) {
            val kept = parts.keeper.messagesBefore(sessionId, before, atMost)
            if (!kept.isNullOrEmpty() && s.life == life) {
                prepend(kept)
                return true
            }
        }
        if (before == 1L) {
            s.atStart = true
            return false
        }
        val request = listMessagesRequest {
            sessionId = this@Session.sessionId
            if (before != null) beforeSeq = before
            limit = atMost
        }
        val page = parts.api.call { messages.listMessages(request, it) }
        if (s.life != life) return true // it began anew meanwhile
        for (m in page.messagesList) {
            if (m.state.isDeleted) s.deletedSeqs += m.seq
            if (m.state.isRead && m.senderId != parts.sync.me?.userId) s.readSeqs += m.seq
        }
        val older = page.messagesList.map { it.toMessage() }
        s.atStart = !page.hasMore
        if (s.storedBase == s.base) older.firstOrNull()?.let { s.storedBase = it.seq - 1 }
        s.dirt.put += older
        prepend(older)
        return page.hasMore
    }

    private fun prepend(older: List<Message>) {
        state.prepend(older)
        older.firstOrNull()?.let { state.base = minOf(if (state.order.isOpen) state.base else Long.MAX_VALUE, it.seq - 1) }
        parts.sync.changes.touch(state)
    }

    /**
     * Marks messages as read: everything up to a seq, all by default. Seen here at once, and told to the server, and so to
     * the user's other devices, as soon as it can be.
     */
    public suspend fun markRead(upToSeq: Long = Long.MAX_VALUE): Unit = onLoop { parts.sync.markRead(state, upToSeq) }

    /** Flags the session as unread. The flag goes with the next [markRead] or message sent. */
    public suspend fun markUnread(): Unit = onLoop {
        parts.api.call { states.markUnread(markUnreadRequest { sessionId = this@Session.sessionId }, it) }
        describeOwn { it.copy(markedUnread = true) }
    }

    /** Whether the user has read, or sent, a message. */
    public suspend fun isRead(message: Message): Boolean = onLoop { state.isRead(message) }

    /** Deletes messages for the user alone, on all devices; at most 500. */
    public suspend fun deleteForMe(which: List<Long>): Unit = onLoop {
        delete(which, upTo = 0)
        state.deletedSeqs += which
        parts.sync.changes.touch(state)
    }

    /** Deletes everything up to a seq for the user alone, on all devices. */
    public suspend fun deleteForMe(upToSeq: Long): Unit = onLoop { delete(emptyList(), upToSeq) }

    private suspend fun delete(which: List<Long>, upTo: Long) {
        val request = deleteForMeRequest {
            sessionId = this@Session.sessionId
            upToSeq = upTo
            seqs += which
        }
        val response = parts.api.call { states.deleteForMe(request, it) }
        describeOwn { it.copy(deletedToSeq = response.deletedToSeq, unread = response.unread) }
        if (!state.countsExactly) parts.sync.descriptions.stale(sessionId)
    }

    /** Takes a message back: its body is erased everywhere. */
    public suspend fun recall(seq: Long) {
        onLoop {
            val request = recallMessageRequest {
                sessionId = this@Session.sessionId
                this.seq = seq
            }
            parts.api.call { messages.recallMessage(request, it) }
        }
    }

    /** Who has read a message; its sender is not listed. */
    public suspend fun readers(seq: Long): List<String> = onLoop {
        buildList {
            var token = ""
            do {
                val request = listReadersRequest {
                    sessionId = this@Session.sessionId
                    this.seq = seq
                    limit = 1000
                    pageToken = token
                }
                val page = parts.api.call { states.listReaders(request, it) }
                page.readersList.mapTo(this) { it.userId }
                token = page.nextPageToken
            } while (token.isNotEmpty())
        }
    }

    /** Tells the others that the user types, or has stopped. Call it with every key: it is told every 4 s at most. */
    public suspend fun setTyping(isTyping: Boolean): Unit = onLoop {
        val now = parts.clock.elapsedMs()
        val told = typingTold
        if (if (isTyping) told != null && now - told < TYPING_EVERY_MS else told == null) return@onLoop
        typingTold = if (isTyping) now else null
        // Ephemeral: it may be lost, and nobody is to wait for it.
        parts.scope.launch { attempt { signal(signal { typing = typing { this.isTyping = isTyping } }) } }
    }

    /** Sends a signal of the app's own to the others who are online now. Not stored, may be lost. */
    public suspend fun sendSignal(content: CustomContent): Unit = onLoop { signal(signal { custom = content.toPb() }) }

    private suspend fun signal(what: Signal) {
        val request = sendSignalRequest {
            sessionId = this@Session.sessionId
            signal = what
        }
        parts.api.call { sync.sendSignal(request, it) }
    }

    /** Loads all members into [members], which is kept up to date from then on. */
    public suspend fun loadMembers(): List<Member> = onLoop { parts.sync.descriptions.loadMembers(state) }

    /** Adds users to the group. */
    public suspend fun addMembers(userIds: List<String>) {
        onLoop {
            val request = addMembersRequest {
                sessionId = this@Session.sessionId
                this.userIds += userIds
            }
            parts.api.call { sessions.addMembers(request, it) }
        }
    }

    /** Removes a member from the group. */
    public suspend fun removeMember(userId: String) {
        onLoop {
            val request = removeMemberRequest {
                sessionId = this@Session.sessionId
                this.userId = userId
            }
            parts.api.call { sessions.removeMember(request, it) }
        }
    }

    /** Gives a member a role, or forbids or allows it to send; null leaves as it is. */
    public suspend fun setMember(userId: String, role: MemberRole? = null, isMuted: Boolean? = null) {
        onLoop {
            val request = setMemberRoleRequest {
                sessionId = this@Session.sessionId
                this.userId = userId
                this.role = role.toPb()
                isMuted?.let { this.isMuted = it }
            }
            parts.api.call { sessions.setMemberRole(request, it) }
        }
    }

    /** Leaves the group. */
    public suspend fun leave() {
        onLoop {
            parts.api.call { sessions.leaveSession(leaveSessionRequest { sessionId = this@Session.sessionId }, it) }
        }
    }

    /** Changes the group's settings. */
    public suspend fun update(settings: SessionSettings) {
        onLoop {
            val request = updateSessionRequest {
                sessionId = this@Session.sessionId
                settings.title?.let { title = it }
                settings.avatarUrl?.let { avatarUrl = it }
                settings.historyVisible?.let { historyVisible = it }
                settings.sendRole?.let { sendRole = it.toPb() }
            }
            parts.api.call { sessions.updateSession(request, it) }
        }
    }

    /** Changes the user's own settings of the session, on all devices. */
    public suspend fun updateOwn(settings: OwnSettings): Unit = onLoop {
        val request = updateMembershipRequest {
            sessionId = this@Session.sessionId
            settings.isPinned?.let { isPinned = it }
            settings.isArchived?.let { isArchived = it }
            settings.notificationsMuted?.let { notificationsMuted = it }
        }
        val own = parts.api.call { sessions.updateMembership(request, it) }.membership
        describeOwn {
            it.copy(isPinned = own.isPinned, isArchived = own.isArchived, notificationsMuted = own.notificationsMuted)
        }
    }

    /** Has the session described anew by the server, for one that is not known yet. */
    public suspend fun refresh(): SessionInfo = onLoop {
        parts.sync.descriptions.refresh(sessionId)
        info.value ?: throw ParleyException(ErrorReason.SESSION_UNAVAILABLE, "there is no such session for this user")
    }

    private fun describeOwn(change: (SessionInfo) -> SessionInfo) {
        state.snapshot = state.snapshot?.let(change)
        parts.sync.changes.touch(state)
    }

    private suspend fun <T> onLoop(fn: suspend () -> T): T = withContext(parts.loop) { fn() }
}
