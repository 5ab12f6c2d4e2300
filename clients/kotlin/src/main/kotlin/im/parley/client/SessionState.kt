package im.parley.client

import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.flow.MutableStateFlow

/** What a session's state has changed that a store must learn. */
internal class Dirt(var dropMessages: Boolean = false) {
    val put = ArrayList<Message>()
    val erase = ArrayList<Long>()
    var trimUpTo = 0L
}

/** Everything the client knows of one session. Not for users: they see [Session]. */
internal class SessionState(val id: String, private val windowSize: Int, scope: CoroutineScope, clock: Clock, private val me: () -> String) {
    val info = MutableStateFlow<SessionInfo?>(null)
    val messages = MutableStateFlow<List<Message>>(emptyList())
    val members = MutableStateFlow<List<Member>>(emptyList())
    val typing = TypingSigns(scope, clock)
    val order = LogOrder()
    val window = Window()

    /** What the server said last, kept up to date by what came since; null while it has said nothing. */
    var snapshot: SessionInfo? = null

    /** A seq from which on, at the latest, the stream began for this device; where to open when nothing says otherwise. */
    var floor: Long? = null

    /** In memory is what follows on this seq. */
    var base = 0L

    /** In the store is what follows on this seq. */
    var storedBase = 0L

    /** The head when snapshot.unread was counted. */
    private var counted = 0L

    /** How many messages stay in memory; loading older ones raises it. */
    private var limit = windowSize

    /** Nothing older can be had. */
    var atStart = false
    var untoldRead: Long? = null

    /** The newest entry as the server described it; counts while nothing newer is in memory. */
    private var lastKnown: Message? = null

    /** Own messages on their way, in order. */
    var outgoing: List<Message> = emptyList()
    val readSeqs = HashSet<Long>()
    val deletedSeqs = HashSet<Long>()
    var dirt = Dirt()

    /** How far others have read, as told since the members were loaded last; a list that is on its way may be older. */
    private val readBy = HashMap<String, Long>()

    /** Members are wanted, and kept up to date. */
    var membersLoaded = false

    /** It was reset: what is in the log already is history. */
    var beginsAtHead = false
        private set

    /** How often it was reset; what was asked for before does not count after. */
    var life = 0
        private set

    /** Takes the next piece of the log and says what to tell the app. */
    fun take(piece: Piece): ClientEvent {
        val m = piece.message
        if (m == null) {
            // What lies before the left-out range is history now: loadOlder leads there, through the range.
            window.clear()
            base = piece.to
            storedBase = piece.to
            limit = windowSize
            atStart = false
            dirt = Dirt(dropMessages = true)
            return SkippedEvent(id, piece.from, piece.to)
        }
        window.put(m)
        dirt.put += m
        follow(m)
        if (m.isCountable) readTo(m.senderId, m.seq) // who sends has read
        if (m.senderId != me()) typing.stopped(m.senderId)
        return MessageEvent(m)
    }

    /** Takes how far a member has read; it never moves back. */
    fun readTo(userId: String, seq: Long) {
        if (!membersLoaded || (readBy[userId] ?: 0) >= seq) return
        readBy[userId] = seq
        members.value = members.value.map { if (it.userId == userId) it.copy(readSeq = maxOf(it.readSeq, seq)) else it }
    }

    /** Takes the members as the server lists them; what was told of their reading meanwhile stays. */
    fun listMembers(all: List<Member>) {
        val known = all.map { it.copy(readSeq = maxOf(it.readSeq, readBy[it.userId] ?: 0)) }
        readBy.clear()
        known.associateTo(readBy) { it.userId to it.readSeq }
        members.value = known
    }

    /** Opens the log after a seq. */
    fun open(after: Long) {
        if (order.isOpen) return
        order.open(after)
        if (window.first == null) base = after
        storedBase = after
    }

    // What an entry changes in what is known of the session.
    private fun follow(m: Message) {
        val c = m.content
        if (c is RecallContent) {
            window.erase(c.seq)
            dirt.erase += c.seq
        }
        val s = snapshot ?: return
        if (m.isCountable && m.senderId == me()) {
            snapshot = s.copy(readSeq = maxOf(s.readSeq, m.seq), markedUnread = false)
        } else if (c is SessionChangeContent) {
            snapshot = s.copy(
                title = c.title ?: s.title,
                avatarUrl = c.avatarUrl ?: s.avatarUrl,
                historyVisible = c.historyVisible ?: s.historyVisible,
                sendRole = c.sendRole ?: s.sendRole,
            )
        } else if (c is MemberChangeContent && me() in c.userIds) {
            snapshot = when (c.change) {
                MemberChange.REMOVED, MemberChange.LEFT -> s.copy(isMember = false)
                MemberChange.ADDED -> s.copy(isMember = true, joinedSeq = m.seq, role = c.role ?: MemberRole.MEMBER)
                MemberChange.ROLE_CHANGED -> s.copy(role = c.role ?: s.role)
                MemberChange.MUTED -> s.copy(isMuted = true)
                MemberChange.UNMUTED -> s.copy(isMuted = false)
                MemberChange.CREATED, MemberChange.UNKNOWN -> s
            }
        }
    }

    /** Takes what the server says of the session. Cursors never move back. */
    fun describe(next: SessionInfo) {
        next.lastMessage?.let { lastKnown = it }
        snapshot = next.copy(
            readSeq = maxOf(next.readSeq, snapshot?.readSeq ?: 0),
            deletedToSeq = maxOf(next.deletedToSeq, snapshot?.deletedToSeq ?: 0),
        )
        counted = next.headSeq
    }

    /** Adds messages of history; what they recall is applied. */
    fun prepend(older: List<Message>) {
        for (m in older) window.put(m)
        for (m in window.list.toList()) (m.content as? RecallContent)?.let { window.erase(it.seq) }
        limit = maxOf(limit, window.list.size + windowSize / 2)
    }

    /** Forgets the log: it begins anew. */
    fun reset() {
        life++
        beginsAtHead = true
        order.reset()
        window.clear()
        snapshot = null
        floor = null
        base = 0
        storedBase = 0
        counted = 0
        limit = windowSize
        atStart = false
        untoldRead = null
        lastKnown = null
        readSeqs.clear()
        deletedSeqs.clear()
        readBy.clear()
        dirt = Dirt(dropMessages = true)
    }

    /** Keeps memory within its bound. */
    fun trim(storeLimit: Int) {
        if (window.trim(limit)) {
            base = window.list[0].seq - 1
            atStart = false
        }
        val shown = order.shown ?: 0
        if (shown - storedBase > storeLimit * 5L / 4) {
            storedBase = shown - storeLimit
            dirt.trimUpTo = storedBase
        }
        val read = snapshot?.readSeq ?: 0
        if (readSeqs.isNotEmpty()) readSeqs.removeAll { it <= read }
    }

    fun isRead(m: Message): Boolean = m.senderId == me() || m.seq <= (snapshot?.readSeq ?: 0) || m.seq in readSeqs

    /** Whether the messages in memory suffice to count what is not read. */
    val countsExactly: Boolean get() = snapshot?.let { order.isOpen && base <= it.readTo } ?: false

    private val unread: Long
        get() {
            val s = snapshot?.takeIf { it.isMember } ?: return 0
            val exact = countsExactly
            val after = if (exact) s.readTo else maxOf(counted, s.readSeq)
            var n = if (exact) 0 else s.unread
            for (m in window.list.asReversed()) {
                if (m.seq <= after) break
                if (m.isCountable && !m.isDeleted && !isRead(m) && m.seq !in deletedSeqs) n++
            }
            return n
        }

    /** Renews what observers see. */
    fun publish() {
        snapshot?.let { s ->
            val last = if ((lastKnown?.seq ?: 0) > (window.last?.seq ?: 0)) lastKnown else window.last
            info.value = s.copy(headSeq = maxOf(s.headSeq, order.shown ?: 0), unread = unread, lastMessage = last)
        }
        val to = snapshot?.deletedToSeq ?: 0
        messages.value = window.list.filter { it.seq > to && it.seq !in deletedSeqs } + outgoing
    }

    /** What a store keeps. */
    fun stored(): StoredSession = StoredSession(id, info.value, order.shown, storedBase, counted, readSeqs.toList(), deletedSeqs.toList(), untoldRead)

    /** Takes what a store kept. */
    fun restore(stored: StoredSession, kept: List<Message>) {
        snapshot = stored.info
        lastKnown = stored.info?.lastMessage
        info.value = stored.info
        counted = maxOf(stored.countedSeq, stored.shownSeq ?: 0) // info.unread counts up to there
        untoldRead = stored.untoldReadSeq
        readSeqs += stored.readSeqs
        deletedSeqs += stored.deletedSeqs
        for (m in kept) window.put(m)
        stored.shownSeq?.let(order::open)
        storedBase = stored.baseSeq
        base = window.first?.let { it.seq - 1 } ?: stored.shownSeq ?: 0
        dirt = Dirt()
    }
}

private val SessionInfo.readTo: Long get() = maxOf(readSeq, joinedSeq - 1, deletedToSeq)
