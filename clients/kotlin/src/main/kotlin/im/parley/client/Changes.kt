package im.parley.client

import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.launch

/**
 * Gathers what changed, and tells it together: to those who observe, and to the store.
 *
 * Lives on the client's dispatcher.
 */
internal class Changes(
    private val scope: CoroutineScope,
    private val sessions: Map<String, SessionState>,
    private val keeper: Keeper,
    private val storeSize: Int,
) {
    val list = MutableStateFlow<List<SessionInfo>>(emptyList())
    val unread = MutableStateFlow(0L)

    /** What is to be kept of the device; null when that is as it was. */
    var device: StoredDevice? = null
    private val touched = LinkedHashSet<SessionState>()
    private val dropped = LinkedHashSet<String>()
    private var clear = false
    private var scheduled = false

    /** Notes that a session's state changed; observers and the store learn of it soon. */
    fun touch(s: SessionState) {
        touched += s
        schedule()
    }

    /** Notes that a session is to be forgotten. */
    fun drop(s: SessionState) {
        touched -= s
        dropped += s.id
        schedule()
    }

    /** Notes that everything is to be forgotten. */
    fun clear() {
        touched.clear()
        clear = true
    }

    /** Up to where the sessions that changed are shown. */
    fun positions(): List<Pair<String, Long>> = touched.mapNotNull { s -> s.order.shown?.takeIf { it > 0 }?.let { s.id to it } }

    private fun schedule() {
        if (scheduled) return
        scheduled = true
        scope.launch {
            scheduled = false
            write()
        }
    }

    /** Publishes what changed, and keeps it. Returns when it is kept. */
    suspend fun write() {
        val changed = touched.toList()
        touched.clear()
        for (s in changed) {
            s.trim(storeSize)
            s.publish()
        }
        if (changed.isNotEmpty() || dropped.isNotEmpty() || clear) publishList()
        keeper.write(change(changed))
    }

    private fun publishList() {
        val infos = sessions.values.mapNotNull { it.info.value }.filter { it.isMember }
        list.value = infos.sortedWith(byActivity)
        unread.value = infos.sumOf { it.unread }
    }

    private fun change(changed: List<SessionState>): StoreChange {
        val change = StoreChange(
            clear = clear,
            dropMessages = changed.filter { it.dirt.dropMessages }.map { it.id },
            device = device,
            sessions = changed.map { it.stored() },
            dropSessions = dropped.toList(),
            messages = changed.flatMap { it.dirt.put },
            erase = changed.flatMap { s -> s.dirt.erase.map { StoredPosition(s.id, it) } },
            trim = changed.filter { it.dirt.trimUpTo > 0 }.map { StoredPosition(it.id, it.dirt.trimUpTo) },
        )
        for (s in changed) s.dirt = Dirt()
        clear = false
        device = null
        dropped.clear()
        return change
    }
}

// Pinned ones first, then by the newest entry.
private val byActivity = compareByDescending<SessionInfo> { it.isPinned }
    .thenByDescending { it.lastMessage?.createdAt ?: it.createdAt }
    .thenBy { it.sessionId }
