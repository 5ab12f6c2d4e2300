package im.parley.client

/**
 * What a store keeps of the device as a whole.
 *
 * @property identity whose it is
 * @property epoch identity of the log's life that all positions belong to; empty while none is known
 */
public data class StoredDevice(val identity: Identity, val epoch: String)

/**
 * What a store keeps of one session. Its messages are kept beside it.
 *
 * @property sessionId UUID
 * @property info as last known; null while the server has not described the session
 * @property shownSeq everything up to here has been shown; null while it is not known where the device stands
 * @property baseSeq messages with a greater seq, up to shownSeq, are in the store
 * @property countedSeq the head when `info.unread` was counted
 * @property readSeqs seqs above readSeq that are read out of order
 * @property deletedSeqs seqs that the user deleted for themself
 * @property untoldReadSeq a read position that the server has yet to be told
 */
public data class StoredSession(
    val sessionId: String,
    val info: SessionInfo?,
    val shownSeq: Long?,
    val baseSeq: Long,
    val countedSeq: Long,
    val readSeqs: List<Long>,
    val deletedSeqs: List<Long>,
    val untoldReadSeq: Long?,
)

/**
 * A message on its way to the server, or refused by it.
 *
 * @property message the pending or failed message, with its body
 * @property peerUserId for direct sessions: the other user
 * @property order ascending in the order of sending
 */
public data class StoredOutgoing(val message: Message, val peerUserId: String?, val order: Long)

/**
 * A place in a session's log.
 *
 * @property sessionId the session
 * @property seq the seq
 */
public data class StoredPosition(val sessionId: String, val seq: Long)

/**
 * A session with its newest messages.
 *
 * @property session what is known of it
 * @property messages ascending by seq, at most as many as asked for
 */
public data class StoredLog(val session: StoredSession, val messages: List<Message>)

/**
 * What a store holds, as the SDK reads it at the start.
 *
 * @property device null when the store is empty
 * @property sessions each with its newest messages
 * @property outbox ascending by order
 */
public data class StoredState(val device: StoredDevice?, val sessions: List<StoredLog>, val outbox: List<StoredOutgoing>)

/**
 * What changes together: all of it, or nothing. Carried out in the order of the properties.
 *
 * @property clear everything goes first
 * @property dropMessages sessions whose messages go first, all of them
 * @property device replaces the device, unless null
 * @property sessions replaces these sessions
 * @property dropSessions sessions that go, with their messages
 * @property messages messages to put, by (sessionId, seq)
 * @property erase recalled messages whose body must go, as far as the store has them
 * @property trim messages of a session with a seq up to and including this one go
 * @property outbox outgoing messages to put, by message id
 * @property dropOutbox outgoing messages that go, by message id
 */
public data class StoreChange(
    val clear: Boolean = false,
    val dropMessages: List<String> = emptyList(),
    val device: StoredDevice? = null,
    val sessions: List<StoredSession> = emptyList(),
    val dropSessions: List<String> = emptyList(),
    val messages: List<Message> = emptyList(),
    val erase: List<StoredPosition> = emptyList(),
    val trim: List<StoredPosition> = emptyList(),
    val outbox: List<StoredOutgoing> = emptyList(),
    val dropOutbox: List<String> = emptyList(),
)

/**
 * Keeps what the device knows over restarts. With one, a client goes on after a restart exactly where it stood, and what
 * waits to be sent is sent. One store belongs to one device of one user. The SDK calls one method at a time.
 *
 * [FileStore] keeps a file, [InMemoryStore] keeps nothing beyond the process; implement this for others (SQLite, Room).
 */
public interface Store {
    /** Reads everything but old messages: of each session at most [messages] of the newest. */
    public suspend fun load(messages: Int): StoredState

    /** The last [limit] messages with a seq less than [beforeSeq], ascending. */
    public suspend fun messagesBefore(sessionId: String, beforeSeq: Long, limit: Int): List<Message>

    /** Carries out a change as one transaction: once it returns it is kept. */
    public suspend fun write(change: StoreChange)

    /** Lets go of resources. Any other call opens it again. */
    public suspend fun close()
}

/** A [Store] that lives as long as the process: for tests, and for a client that is made anew within one process. */
public class InMemoryStore : Store {
    private val state = StoreState()

    override suspend fun load(messages: Int): StoredState = synchronized(state) { state.load(messages) }

    override suspend fun messagesBefore(sessionId: String, beforeSeq: Long, limit: Int): List<Message> =
        synchronized(state) { state.messagesBefore(sessionId, beforeSeq, limit) }

    override suspend fun write(change: StoreChange): Unit = synchronized(state) { state.apply(change) }

    override suspend fun close() {}
}

/** What a store holds, in memory. */
internal class StoreState {
    private var device: StoredDevice? = null
    private val sessions = LinkedHashMap<String, StoredSession>()
    private val logs = HashMap<String, java.util.TreeMap<Long, Message>>()
    private val outbox = LinkedHashMap<String, StoredOutgoing>()

    fun load(messages: Int): StoredState = StoredState(
        device,
        sessions.values.map { s ->
            StoredLog(s, logs[s.sessionId].orEmpty().let { (it as? java.util.TreeMap)?.descendingMap()?.values.orEmpty() }.take(messages).reversed())
        },
        outbox.values.sortedBy { it.order },
    )

    fun messagesBefore(sessionId: String, beforeSeq: Long, limit: Int): List<Message> =
        logs[sessionId]?.headMap(beforeSeq, false)?.descendingMap()?.values?.take(limit)?.reversed().orEmpty()

    fun apply(c: StoreChange) {
        if (c.clear) {
            device = null
            sessions.clear()
            logs.clear()
            outbox.clear()
        }
        c.dropMessages.forEach(logs::remove)
        c.device?.let { device = it }
        for (s in c.sessions) sessions[s.sessionId] = s
        for (id in c.dropSessions) {
            sessions.remove(id)
            logs.remove(id)
        }
        for (m in c.messages) logs.getOrPut(m.sessionId) { java.util.TreeMap() }[m.seq] = m
        for ((id, seq) in c.erase) logs[id]?.computeIfPresent(seq) { _, m -> m.erased() }
        for ((id, seq) in c.trim) logs[id]?.headMap(seq, true)?.clear()
        for (o in c.outbox) outbox[o.message.messageId] = o
        c.dropOutbox.forEach(outbox::remove)
    }

    /** Everything, as changes that make an empty state into this one; each of bounded size. */
    fun changes(): Sequence<StoreChange> = sequence {
        yield(StoreChange(clear = true, device = device, sessions = sessions.values.toList(), outbox = outbox.values.toList()))
        for (log in logs.values) for (part in log.values.chunked(500)) yield(StoreChange(messages = part))
    }
}
