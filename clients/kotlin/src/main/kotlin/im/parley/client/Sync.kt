package im.parley.client

import im.parley.v1.Event
import im.parley.v1.ListMessagesRequest
import im.parley.v1.Resync
import im.parley.v1.Signal
import im.parley.v1.SubscribeRequest
import im.parley.v1.ackRequest
import im.parley.v1.cursor
import im.parley.v1.listMessagesRequest
import im.parley.v1.markReadRequest
import im.parley.v1.subscribeRequest
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.delay
import kotlinx.coroutines.launch
import java.util.concurrent.ConcurrentHashMap
import im.parley.v1.Message as PbMessage
import im.parley.v1.Presence as PbPresence
import im.parley.v1.ReadPositionEvent as PbReadPositionEvent
import im.parley.v1.SignalEvent as PbSignalEvent
import im.parley.v1.StateEvent as PbStateEvent

/** How many cursors one Subscribe may name. */
private const val MAX_CURSORS = 1000

/** How long an entry may be held back by a missing one before that is fetched. */
internal const val HOLE_PATIENCE_MS = 2000L

/** How long acks and read positions are gathered. */
private const val ACK_DELAY_MS = 500L
private const val READ_DELAY_MS = 250L

/** The bounds of what is kept. */
internal class Limits(val windowSize: Int, val storeSize: Int, val maxBacklog: Int)

/**
 * Turns what the stream says into the state of sessions. Everything that arrives goes through [advance], which is what
 * makes the app see each session's log without holes, in order, once: entries of the stream, answers to own messages, and
 * pages that fill a hole.
 *
 * Lives on the client's dispatcher, which runs one thing at a time; so do all its parts.
 */
internal class Sync(
    private val scope: CoroutineScope,
    private val clock: Clock,
    private val api: Api,
    keeper: Keeper,
    private val bus: EventBus,
    private val limits: Limits,
) {
    val sessions = ConcurrentHashMap<String, SessionState>()
    val changes = Changes(scope, sessions, keeper, limits.storeSize)
    val descriptions = Descriptions(api, bus, changes, DescriptionsEnd())
    val acks = Teller(scope, ACK_DELAY_MS, ::tellAcks)
    val reads = Teller(scope, READ_DELAY_MS) { due -> for ((id, seq) in due) tellRead(id, seq) }

    @Volatile
    var me: Identity? = null
        private set
    private var epoch = ""

    /** The next stream starts as a new device would. */
    var fresh = false
    var caughtUp = false
        private set

    /** Called for each message that was taken into a session's log, for those that wait for their own. */
    var onMessage: (Message) -> Unit = {}

    /** Called with what the stream tells of those who are watched. */
    var onPresence: (PbPresence) -> Unit = {}

    /** Called when others may have come into sight: a new session, a member, a relation. */
    var onPeople: () -> Unit = {}

    /** Called when a session's log begins anew. */
    var onReset: (String) -> Unit = {}

    private var listed = false
    private var watching = false
    private var running: CoroutineScope? = null

    /** The state of a session, made if it is new. May be called from anywhere. */
    fun session(id: String): SessionState = sessions.getOrPut(id) { SessionState(id, limits.windowSize, scope, clock) { me?.userId.orEmpty() } }

    // ---- Before and between streams

    /** Takes what a store kept. */
    fun restore(device: StoredDevice, logs: List<StoredLog>) {
        me = device.identity
        epoch = device.epoch
        for ((stored, messages) in logs) {
            val s = session(stored.sessionId)
            s.restore(stored, messages)
            s.untoldRead?.let { reads.set(s.id, it) }
            changes.touch(s)
        }
    }

    /** Takes who this is. Another user, or device, than before shares nothing with it. Returns whether that was so. */
    fun identify(now: Identity): Boolean {
        val before = me
        val other = before != null && before != now
        if (other) {
            for (s in sessions.values) {
                forget(s)
                s.info.value = null
            }
            sessions.clear()
            changes.clear()
            epoch = ""
            listed = false
        }
        me = now
        if (other || before == null) keepDevice()
        return other
    }

    private fun keepDevice() {
        changes.device = me?.let { StoredDevice(it, epoch) }
    }

    /** Begins to run; what it starts ends with the scope. */
    fun run(scope: CoroutineScope) {
        running = scope
        descriptions.run(scope)
        watching = false
    }

    /**
     * Learns the sessions before the first stream, so that each has a floor: a position which the stream begins at or
     * before, however early own answers come.
     */
    suspend fun prepare() {
        if (listed) return
        descriptions.refreshAll(first = true)
        listed = true
    }

    /** Where to resume. */
    fun position(): SubscribeRequest {
        caughtUp = false
        val open = sessions.values.filter { it.order.isOpen && it.snapshot?.isMember != false }
        // Where more are known than may be named, the least active go by what was acknowledged.
        val named = if (open.size > MAX_CURSORS) open.sortedByDescending(::lastAt).take(MAX_CURSORS) else open
        return subscribeRequest {
            cursors += named.map { s ->
                cursor {
                    sessionId = s.id
                    seq = s.order.shown ?: 0
                }
            }
            epoch = this@Sync.epoch
            fresh = this@Sync.fresh
            maxBacklog = limits.maxBacklog
        }
    }

    // ---- The stream

    /** Takes events, in order, and returns when they are kept and there is room for more. */
    suspend fun take(events: List<Event>) {
        for (event in events) take(event)
        val told = changes.positions()
        changes.write()
        for ((id, seq) in told) acks.set(id, seq)
        bus.room()
    }

    private fun take(event: Event) {
        when (event.kindCase) {
            Event.KindCase.OPENED -> opened(event.opened.epoch)
            Event.KindCase.MESSAGE -> entry(event.message)
            Event.KindCase.SKIPPED -> {
                val s = session(event.skipped.sessionId)
                openAt(s, event.skipped.fromSeq - 1)
                s.order.leaveOut(event.skipped.fromSeq, event.skipped.toSeq)
                advance(s)
            }
            Event.KindCase.STATE -> state(event.state)
            Event.KindCase.SESSION -> if (event.session.hasSession()) descriptions.take(event.session.session)
            Event.KindCase.RELATION -> {
                bus.publish(RelationEvent(event.relation.relation.toRelation()))
                onPeople()
            }
            Event.KindCase.PRESENCE -> onPresence(event.presence.presence)
            Event.KindCase.READ_POSITION -> readBy(event.readPosition)
            Event.KindCase.SIGNAL -> signalled(event.signal)
            Event.KindCase.RESYNC -> resync(event.resync)
            Event.KindCase.CAUGHT_UP -> {
                backlogIsOver()
                bus.publish(CaughtUpEvent(event.caughtUp.unreadTotal))
            }
            else -> Unit // a heartbeat, or something newer than this SDK
        }
    }

    private fun opened(now: String) {
        if (epoch.isEmpty()) {
            epoch = now // another than the one we sent is told by a Resync, which follows
            keepDevice()
        }
        if (listed) running?.launch { attempt { descriptions.refreshAll(first = false) } } // the next stream does it again
    }

    private fun entry(m: PbMessage) {
        val s = session(m.sessionId)
        if (m.state.isRead && m.senderId != me?.userId) s.readSeqs += m.seq
        if (m.state.isDeleted) s.deletedSeqs += m.seq
        openAt(s, m.seq - 1)
        s.order.add(m.toMessage())
        advance(s)
    }

    // The stream's first word on a session says where it begins, unless own messages, whose answers take their place, come
    // before it.
    private fun openAt(s: SessionState, after: Long) = s.open(minOf(after, s.floor ?: after))

    private fun backlogIsOver() {
        caughtUp = true
        fresh = false
        for (s in sessions.values) {
            // How far others have read is told live only.
            if (s.membersLoaded && s.snapshot?.isMember == true) running?.launch { attempt { descriptions.loadMembers(s) } }
            if (s.order.isOpen || s.snapshot?.isMember == false) continue
            if (s.floor == null) descriptions.stale(s.id)
            openAtFloor(s)
            advance(s)
        }
    }

    // After the backlog only what is new can come: a session without a backlog begins at its floor, one that is unknown
    // until now where the user came in. A floor that was learnt late may lie past own messages that were answered before.
    private fun openAtFloor(s: SessionState) {
        val floor = s.floor ?: return
        if (caughtUp) s.open(minOf(floor, s.order.firstWaiting - 1))
    }

    /** Takes the answer to an own message, which takes its place in the live stream. */
    fun answered(message: Message, ofEpoch: String): Boolean {
        if (epoch.isNotEmpty() && ofEpoch != epoch) return false
        val s = session(message.sessionId)
        // Entered before it was known who this is, it says so now.
        s.order.add(me?.let { message.copy(senderId = it.userId, senderDeviceId = it.deviceId) } ?: message)
        if (s.snapshot == null) descriptions.stale(s.id)
        openAtFloor(s)
        advance(s)
        val shown = s.order.shown
        if (shown != null && message.seq <= shown) onMessage(message) // also where it lies before what is shown
        scope.launch {
            changes.write()
            if (shown != null) acks.set(s.id, shown)
        }
        return true
    }

    private fun advance(s: SessionState) {
        while (true) {
            val piece = s.order.next() ?: break
            bus.publish(s.take(piece))
            val m = piece.message ?: continue
            onMessage(m)
            val c = m.content
            if (c is MemberChangeContent) onPeople()
            if (c is MemberChangeContent && s.membersLoaded) running?.launch { attempt { descriptions.loadMembers(s) } }
            if (c is MemberChangeContent || c is SessionChangeContent || (c is RecallContent && !s.countsExactly)) descriptions.stale(s.id)
        }
        if (s.order.waiting > 0) watchHoles()
        changes.touch(s)
    }

    private fun state(e: PbStateEvent) {
        val s = session(e.sessionId)
        s.readSeqs += e.readSeqsList
        s.deletedSeqs += e.deletedSeqsList
        s.snapshot = s.snapshot?.let {
            it.copy(
                readSeq = maxOf(it.readSeq, e.readSeq),
                deletedToSeq = maxOf(it.deletedToSeq, e.deletedToSeq),
                markedUnread = e.markedUnread,
                unread = e.unread,
            )
        }
        if (!s.countsExactly) descriptions.stale(s.id)
        if (e.reload) running?.launch { if (!attempt { descriptions.loadStates(s) }) descriptions.stale(s.id) }
        changes.touch(s)
        bus.publish(StateEvent(s.id, e.readSeq, e.unread))
    }

    private fun readBy(e: PbReadPositionEvent) {
        session(e.sessionId).readTo(e.userId, e.readSeq)
        bus.publish(ReadEvent(e.sessionId, e.userId, e.readSeq))
    }

    private fun signalled(e: PbSignalEvent) {
        when (e.signal.kindCase) {
            Signal.KindCase.CUSTOM -> {
                val custom = CustomContent(e.signal.custom.typeUrl, e.signal.custom.payload.toByteArray())
                bus.publish(SignalEvent(e.sessionId, e.senderId, e.senderDeviceId, custom))
            }
            Signal.KindCase.TYPING -> {
                val isTyping = e.signal.typing.isTyping
                val signs = session(e.sessionId).typing
                if (e.senderId != me?.userId) if (isTyping) signs.started(e.senderId) else signs.stopped(e.senderId)
                bus.publish(TypingEvent(e.sessionId, e.senderId, e.senderDeviceId, isTyping))
            }
            else -> Unit
        }
    }

    // Drops what is held of a session, or of all; what follows is taken as a fresh start.
    private fun resync(r: Resync) {
        val reason = r.reason.toReset()
        if (r.sessionId.isNotEmpty()) {
            val s = session(r.sessionId)
            forget(s)
            if (reason == ResetReason.SESSION_UNAVAILABLE) lose(s) else descriptions.stale(s.id)
            bus.publish(ResetEvent(s.id, reason))
            return
        }
        for (s in sessions.values) {
            forget(s)
            descriptions.stale(s.id)
        }
        epoch = r.epoch
        keepDevice()
        fresh = true
        bus.publish(ResetEvent(null, reason))
    }

    private fun forget(s: SessionState) {
        s.reset()
        onReset(s.id)
        s.typing.clear()
        acks.forget(s.id)
        reads.forget(s.id)
        changes.touch(s)
    }

    // The user cannot see the session any more.
    private fun lose(s: SessionState) {
        s.info.value = null
        changes.drop(s)
    }

    // ---- Telling the server

    private suspend fun tellAcks(due: Map<String, Long>) {
        val request = ackRequest {
            acks += due.map { (id, at) ->
                cursor {
                    sessionId = id
                    seq = at
                }
            }
            epoch = this@Sync.epoch
        }
        api.call { sync.ack(request, it) }
    }

    /** Marks everything up to a seq as read, here at once, and tells the server when it can be told. */
    fun markRead(s: SessionState, upTo: Long) {
        val seq = minOf(upTo, s.order.shown ?: 0)
        val snapshot = s.snapshot ?: return
        if (seq < 1 || (seq <= snapshot.readSeq && !snapshot.markedUnread)) return
        val read = maxOf(seq, snapshot.readSeq)
        s.snapshot = snapshot.copy(readSeq = read, markedUnread = false)
        s.untoldRead = read
        reads.set(s.id, read)
        changes.touch(s)
    }

    private suspend fun tellRead(id: String, seq: Long) {
        val request = markReadRequest {
            sessionId = id
            upToSeq = seq
        }
        val response = api.call { states.markRead(request, it) }
        val s = sessions[id] ?: return
        s.untoldRead?.let { if (it <= seq) s.untoldRead = null }
        s.snapshot?.let {
            if (!s.countsExactly) {
                s.snapshot = it.copy(unread = response.unread)
                descriptions.stale(id)
            }
        }
        changes.touch(s)
    }

    // ---- Holes

    // An own message whose answer is late explains a hole, for a while; then the log itself is asked.
    private fun watchHoles() {
        if (watching) return
        val running = running ?: return
        watching = true
        running.launch {
            try {
                do {
                    delay(HOLE_PATIENCE_MS)
                    val waiting = sessions.values.filter { it.order.isOpen && it.order.waiting > 0 }
                    for (s in waiting) attempt { fill(s) }
                } while (waiting.any { it.order.waiting > 0 })
            } finally {
                watching = false
            }
        }
    }

    private suspend fun fill(s: SessionState) {
        val began = s.life
        val after = s.order.shown ?: 0
        val request: ListMessagesRequest = listMessagesRequest {
            sessionId = s.id
            afterSeq = after
            limit = 200
        }
        val page = api.call { messages.listMessages(request, it) }.messagesList
        if (s.life != began || s.order.shown != after) return // things have moved on
        val first = page.firstOrNull() ?: return
        if (first.seq > after + 1) s.order.leaveOut(after + 1, first.seq - 1) // cannot be seen by the user
        for (m in page) entry(m)
        changes.write()
    }

    /** Stops the clocks. */
    fun stop() {
        running = null
        descriptions.stop()
        for (s in sessions.values) s.typing.clear()
    }

    private inner class DescriptionsEnd : DescriptionsOwner {
        override val sessions: Map<String, SessionState> get() = this@Sync.sessions

        override fun session(id: String): SessionState = this@Sync.session(id)

        override fun described(s: SessionState) {
            openAtFloor(s)
            advance(s)
        }

        override fun peopleChanged() = onPeople()
    }
}

private fun lastAt(s: SessionState) = s.info.value?.lastMessage?.createdAt?.toEpochMilliseconds() ?: 0
