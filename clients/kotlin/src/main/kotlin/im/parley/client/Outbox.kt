package im.parley.client

import im.parley.v1.SendMessageRequest
import im.parley.v1.SendMessageResponse
import im.parley.v1.SendMessageResult
import im.parley.v1.sendMessageRequest
import im.parley.v1.sendMessagesRequest
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Deferred
import kotlinx.coroutines.Job
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.delay
import kotlinx.coroutines.launch

/** How many messages may wait to be sent; entering more is refused. */
internal const val MAX_OUTBOX = 1000

/** How many messages one request carries at most, and how many bytes of content. */
private const val MAX_BATCH = 64
private const val MAX_BATCH_BYTES = 48 * 1024

/** Refusals of the device as a whole: the message waits until somebody has signed in again. */
private val ofDevice = setOf(
    ErrorReason.TOKEN_MISSING,
    ErrorReason.TOKEN_INVALID,
    ErrorReason.DEVICE_REVOKED,
    ErrorReason.USER_DEACTIVATED,
    ErrorReason.NO_TOKEN,
    ErrorReason.STOPPED,
)

/** What the outbox tells its owner. */
internal interface OutboxOwner {
    /** The session's outgoing messages have changed. */
    fun changed(sessionId: String)

    /** A message has its place in the log. False: of another life of the log than the one that is shown. */
    fun sent(message: Message, epoch: String): Boolean

    /** Keeps changes. */
    suspend fun keep(put: List<StoredOutgoing>, drop: List<String>)
}

/**
 * Sends what waits. Within a session one message after the other, in the order in which they were entered; a message keeps
 * its id however often it is repeated, so that a lost answer makes no second one. The first messages of several sessions
 * travel together. One that is refused for good is marked as failed and holds nobody up.
 */
internal class Outbox(private val scope: CoroutineScope, private val api: Api, private val policy: ReconnectPolicy, private val owner: OutboxOwner) {
    private var items = LinkedHashMap<String, Item>() // by message id, in the order of sending
    private var order = 0L
    private val ready = CompletableDeferred<Unit>()
    private val wake = Channel<Unit>(Channel.CONFLATED)

    private inner class Item(var stored: StoredOutgoing) {
        /** Ends with the client, so that nobody waits for one that is closed. */
        val sent = CompletableDeferred<Message>(scope.coroutineContext[Job])

        /** Set once it is in the store, or there is none. */
        var kept = false

        /** The server has said yes; it goes from here once its place in the log has been shown. */
        var answered = false

        /** Alone in its request: one that it shared was refused whole. */
        var alone = false
    }

    /** Takes what a store kept, once, before anything is sent: it goes before what was entered meanwhile. */
    fun restore(outbox: List<StoredOutgoing>) {
        val entered = items
        items = LinkedHashMap()
        for (stored in outbox) {
            items[stored.message.messageId] = Item(stored).apply { kept = true }
            order = maxOf(order, stored.order)
        }
        items.putAll(entered)
        ready.complete(Unit)
    }

    /** Forgets everything. */
    fun clear() {
        for (item in items.values) item.sent.completeExceptionally(ParleyException(ErrorReason.STOPPED, "the outbox was cleared"))
        items.clear()
    }

    /** The messages of a session that are on their way or failed, in order. */
    fun of(sessionId: String): List<Message> = items.values.map { it.stored.message }.filter { it.sessionId == sessionId }

    /** The sessions that have something here. */
    fun sessions(): Set<String> = items.values.mapTo(LinkedHashSet()) { it.stored.message.sessionId }

    /** Takes a message; what is returned gets it as it stands in the log, or why it will not. */
    fun add(message: Message, peerUserId: String?): Deferred<Message> {
        if (items.size >= MAX_OUTBOX) throw ParleyException(ErrorReason.OVERLOADED, "more than $MAX_OUTBOX messages wait to be sent")
        val item = Item(StoredOutgoing(message, peerUserId, 0))
        items[message.messageId] = item
        scope.launch { keep(item) }
        owner.changed(message.sessionId)
        return item.sent
    }

    // Its place is known once what a store kept has been read.
    private suspend fun keep(item: Item) {
        ready.await()
        item.stored = item.stored.copy(order = ++order)
        owner.keep(listOf(item.stored), emptyList())
        item.kept = true
        stir()
    }

    /** Sends a failed message again, after what waits already. */
    fun retry(messageId: String): Boolean {
        val item = items[messageId]?.takeIf { it.stored.message.status == MessageStatus.FAILED } ?: return false
        items.remove(messageId)
        val message = item.stored.message.copy(status = MessageStatus.PENDING, failure = null)
        val again = Item(item.stored.copy(message = message, order = ++order)).apply { kept = true }
        items[messageId] = again
        scope.launch { owner.keep(listOf(again.stored), emptyList()) }
        owner.changed(message.sessionId)
        stir()
        return true
    }

    /** Drops a failed message. */
    fun discard(messageId: String): Boolean {
        val item = items[messageId]?.takeIf { it.stored.message.status == MessageStatus.FAILED } ?: return false
        drop(item)
        return true
    }

    /** Notes that a message was seen in the log, whether or not its answer came. */
    fun seen(message: Message) {
        val item = items[message.messageId]?.takeIf { it.stored.message.sessionId == message.sessionId } ?: return
        drop(item)
        item.sent.complete(message)
    }

    /** Asks again for the place of what was answered: a session's log begins anew, and its answers are forgotten. */
    fun reopen(sessionId: String) {
        for (item in items.values) if (item.stored.message.sessionId == sessionId) item.answered = false
        stir()
    }

    /** Sends until cancelled. */
    suspend fun run(): Nothing {
        var failures = 0
        while (true) {
            val batch = next()
            if (batch.isEmpty()) {
                wake.receive()
                continue
            }
            val error = send(batch)
            if (error == null) {
                failures = 0
                continue
            }
            delay(maxOf(error.retryAfter, policy.delay(failures++, error)))
        }
    }

    private fun stir() {
        wake.trySend(Unit)
    }

    // The first waiting message of each session, as many as fit.
    private fun next(): List<Item> {
        val batch = ArrayList<Item>()
        val taken = HashSet<String>()
        var bytes = 0
        for (item in items.values) {
            val message = item.stored.message
            if (message.status == MessageStatus.FAILED || item.answered || !taken.add(message.sessionId)) continue
            if (!item.kept) continue // it holds back those behind it
            bytes += sizeOf(message)
            if (batch.isNotEmpty() && (item.alone || bytes > MAX_BATCH_BYTES)) break
            batch += item
            if (item.alone || batch.size == MAX_BATCH) break
        }
        return batch
    }

    // Returns why something must be repeated.
    private suspend fun send(batch: List<Item>): ParleyException? {
        val requests = batch.map { requestOf(it.stored) }
        try {
            if (batch.size == 1) return sent(batch[0], api.call { messages.sendMessage(requests[0], it) })
            val request = sendMessagesRequest { messages += requests }
            val results = api.call { messages.sendMessages(request, it) }.resultsList
            return batch.mapIndexedNotNull { i, item -> took(item, results.getOrNull(i)) }.lastOrNull()
        } catch (error: ParleyException) {
            // Only a reason of Parley's is its verdict on the message; anything else says nothing about it.
            if (error.retryable || error.reason == ErrorReason.UNREACHABLE || error.reason in ofDevice) return error
            if (batch.size > 1) for (item in batch) item.alone = true else refused(batch[0], error)
            return null
        }
    }

    private fun took(item: Item, result: SendMessageResult?): ParleyException? {
        if (result?.resultCase == SendMessageResult.ResultCase.SENT) return sent(item, result.sent)
        val error = if (result?.resultCase == SendMessageResult.ResultCase.ERROR) {
            fromDetail(result.error.detail, result.error.message)
        } else {
            ParleyException(ErrorReason.INTERNAL, "the server gave no answer for a message")
        }
        if (error.retryable) return error
        refused(item, error)
        return null
    }

    private fun sent(item: Item, response: SendMessageResponse): ParleyException? {
        val message = item.stored.message
        if (items[message.messageId] !== item) return null // seen in the log meanwhile
        val sent = message.copy(
            sessionId = response.sessionId,
            seq = response.seq,
            createdAt = response.createdAt.toInstant(),
            status = MessageStatus.SENT,
            failure = null,
        )
        item.answered = true
        if (!owner.sent(sent, response.epoch)) {
            item.answered = false
            return ParleyException(ErrorReason.UNAVAILABLE, "the log has begun anew; the stream is about to say so")
        }
        item.sent.complete(sent)
        return null
    }

    private fun refused(item: Item, error: ParleyException) {
        val message = item.stored.message
        if (items[message.messageId] !== item) return
        val failure = Failure(error.reason, error.message.orEmpty())
        val stored = item.stored.copy(message = message.copy(status = MessageStatus.FAILED, failure = failure))
        item.stored = stored
        scope.launch { owner.keep(listOf(stored), emptyList()) }
        owner.changed(message.sessionId)
        item.sent.completeExceptionally(error)
    }

    private fun drop(item: Item) {
        val message = item.stored.message
        items.remove(message.messageId)
        scope.launch { owner.keep(emptyList(), listOf(message.messageId)) }
        owner.changed(message.sessionId)
    }
}

private fun requestOf(stored: StoredOutgoing): SendMessageRequest {
    val m = stored.message
    return sendMessageRequest {
        if (stored.peerUserId != null) peerUserId = stored.peerUserId else sessionId = m.sessionId
        messageId = m.messageId
        m.content?.let { content = it.toPb() }
        replyToSeq = m.replyToSeq ?: 0
        mentions += m.mentions
    }
}

// An upper bound of the bytes on the wire: three for each UTF-16 unit.
private fun sizeOf(m: Message): Int = 300 + 3 * m.mentions.sumOf { it.length } + when (val c = m.content) {
    is TextContent -> 3 * c.body.length
    is CustomContent -> 3 * c.typeUrl.length + c.payload.size
    is AttachmentContent -> 3 * (c.url.length + c.name.orEmpty().length + c.caption.orEmpty().length)
    else -> 0
}
