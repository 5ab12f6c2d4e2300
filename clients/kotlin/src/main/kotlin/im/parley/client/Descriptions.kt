package im.parley.client

import im.parley.v1.getSessionRequest
import im.parley.v1.listMembersRequest
import im.parley.v1.listStatesRequest
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.delay
import kotlinx.coroutines.launch
import im.parley.v1.Session as PbSession

/** How many sessions are described one by one; when more are stale, all are listed. */
private const val MAX_SINGLE = 20

/** What the descriptions need from their owner. */
internal interface DescriptionsOwner {
    val sessions: Map<String, SessionState>

    /** The state of a session, made if it is new. */
    fun session(id: String): SessionState

    /** A session was described: its log may begin, or go on. */
    fun described(s: SessionState)

    /** Others may have come into sight. */
    fun peopleChanged()
}

/**
 * What the server says of sessions beside their logs: what each is, its members, the states of messages for the user. What
 * is stale is asked for anew.
 *
 * Lives on the client's dispatcher.
 */
internal class Descriptions(private val api: Api, private val bus: EventBus, private val changes: Changes, private val owner: DescriptionsOwner) {
    private val stale = LinkedHashSet<String>()
    private var refreshing = false
    private var running: CoroutineScope? = null

    /** Begins to run; what is asked for by itself ends with the scope. */
    fun run(scope: CoroutineScope) {
        running = scope
        refreshing = false
    }

    /** Asks for nothing more by itself. */
    fun stop() {
        running = null
    }

    /** Takes a description of a session. */
    fun take(session: PbSession): SessionState {
        val s = owner.session(session.sessionId)
        if (s.snapshot == null) owner.peopleChanged()
        learn(s, session, s.beginsAtHead)
        s.publish()
        s.info.value?.let { bus.publish(SessionEvent(it)) }
        return s
    }

    private fun learn(s: SessionState, session: PbSession, atHead: Boolean) {
        val next = session.toInfo()
        s.describe(next)
        if (!s.order.isOpen && s.floor == null) s.floor = if (atHead) next.headSeq else next.joinedSeq - 1
        owner.described(s)
    }

    /** Has a session described anew, soon. */
    fun stale(sessionId: String) {
        stale += sessionId
        if (refreshing) return
        val running = running ?: return
        refreshing = true
        running.launch {
            try {
                delay(100) // gathers
                attempt { refreshStale() } // the next stream lists all
            } finally {
                refreshing = false
            }
        }
    }

    private suspend fun refreshStale() {
        if (stale.size > MAX_SINGLE) refreshAll(first = false)
        while (stale.isNotEmpty()) {
            val id = stale.first()
            stale -= id
            attempt { refresh(id) } // refused: it is gone; else the next stream lists all
        }
    }

    /** Has a session described anew, now. */
    suspend fun refresh(id: String): SessionState {
        val response = api.call { sessions.getSession(getSessionRequest { sessionId = id }, it) }
        return if (response.hasSession()) take(response.session) else owner.session(id)
    }

    /** Has all sessions described anew, now. The first time those that begin now do so at their heads. */
    suspend fun refreshAll(first: Boolean) {
        val before = owner.sessions.keys.toMutableSet()
        for (session in api.listSessions()) {
            stale -= session.sessionId
            before -= session.sessionId
            val s = owner.session(session.sessionId)
            learn(s, session, first || s.beginsAtHead)
        }
        // What is not listed has been left; its last entries, if they are not here yet, come by the stream.
        for (id in before) {
            val s = owner.sessions[id] ?: continue
            val snapshot = s.snapshot?.takeIf { it.isMember } ?: continue
            s.snapshot = snapshot.copy(isMember = false)
            changes.touch(s)
        }
    }

    /** Loads the states of a session's messages for the user, all that the list may show. */
    suspend fun loadStates(s: SessionState) {
        val began = s.life
        var after = s.base
        while (true) {
            val request = listStatesRequest {
                sessionId = s.id
                afterSeq = after
                limit = 1000
            }
            val page = api.call { states.listStates(request, it) }.statesList
            if (s.life != began) return
            for (state in page) {
                if (state.isRead) s.readSeqs += state.seq
                if (state.isDeleted) s.deletedSeqs += state.seq
                after = state.seq
            }
            changes.touch(s)
            if (page.size < 1000) return
        }
    }

    /** Loads a session's members, all of them; they are kept up to date from then on. */
    suspend fun loadMembers(s: SessionState): List<Member> {
        s.membersLoaded = true
        val began = s.life
        val all = buildList {
            var token = ""
            do {
                val request = listMembersRequest {
                    sessionId = s.id
                    limit = 1000
                    pageToken = token
                }
                val page = api.call { sessions.listMembers(request, it) }
                page.membersList.mapTo(this) { it.toMember() }
                token = page.nextPageToken
            } while (token.isNotEmpty())
        }
        if (s.life == began) s.listMembers(all)
        return s.members.value
    }
}
