package im.parley.client

import im.parley.v1.watchPresenceRequest
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Job
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.launch
import java.util.concurrent.ConcurrentHashMap
import im.parley.v1.Presence as PbPresence

/** How many users a device may watch. */
private const val MAX_WATCHED = 200

/** How long changes of whom the app asks for are gathered. */
private const val GATHER_MS = 50L

/** The pause before the server is asked again, when it could not be, or the stream did not take it over. */
private const val ASK_AGAIN_MS = 5000L

/**
 * Knows who is online of those whom the app asks for. The server forgets whom a stream watches when the stream ends, so
 * each new stream is told again; until it has told, what was known last is shown.
 *
 * Lives on the client's dispatcher, but for [of], which may be called from anywhere.
 */
internal class PresenceWatch(private val scope: CoroutineScope, private val api: Api, private val bus: EventBus) {
    private val values = ConcurrentHashMap<String, MutableStateFlow<Presence?>>()
    private var wanted: Set<String> = emptySet()
    private var hidden = false // of those who are wanted some were not told
    private var isOpen = false
    private var seen = false // the stream has told of somebody since it was asked
    private var asking: Job? = null

    /** What is known of a user; always the same object for the same user. */
    fun of(userId: String): MutableStateFlow<Presence?> = values.getOrPut(userId) { MutableStateFlow(null) }

    /** Sets who is watched, in place of who was. Those beyond the bound are left out. */
    fun watch(userIds: List<String>) {
        val next = userIds.take(MAX_WATCHED).toSet()
        if (next == wanted) return
        for (id in wanted - next) values[id]?.value = null // nobody tells any more
        wanted = next
        ask(GATHER_MS)
    }

    /** A stream is live, so that it can be told. */
    fun opened() {
        isOpen = true
        if (wanted.isNotEmpty()) ask(0)
    }

    /** Some who could not be seen may be visible now. */
    fun peopleChanged() {
        if (hidden) ask(GATHER_MS)
    }

    /** The stream has ended. */
    fun closed() {
        isOpen = false
        asking?.cancel()
    }

    /** Takes what the stream tells. */
    fun take(presence: PbPresence) {
        seen = true
        set(presence)
    }

    /** Another user than before shares nothing with it. */
    fun clear() {
        wanted = emptySet()
        for (value in values.values) value.value = null
    }

    private fun ask(afterMs: Long) {
        if (!isOpen) return
        asking?.cancel()
        asking = scope.launch {
            delay(afterMs)
            // Each state comes by the stream too, which shows that it was taken over.
            while (tell()) {
                delay(ASK_AGAIN_MS)
                if (seen) return@launch
            }
        }
    }

    // Returns whether the stream is to be heard from.
    private suspend fun tell(): Boolean {
        seen = false
        val ids = wanted
        val told = try {
            api.call { presence.watchPresence(watchPresenceRequest { userIds += ids }, it) }.presencesList
        } catch (_: ParleyException) {
            return true // asked again
        }
        for (p in told) set(p)
        val visible = told.mapTo(HashSet()) { it.userId }
        hidden = visible.size < ids.size
        for (id in ids - visible) values[id]?.value = null // may not be seen
        return told.isNotEmpty()
    }

    private fun set(p: PbPresence) {
        if (p.userId !in wanted) return
        val next = p.toPresence()
        val value = of(p.userId)
        if (value.value == next) return
        value.value = next
        bus.publish(PresenceEvent(next))
    }
}
