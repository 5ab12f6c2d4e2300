package im.parley.client

import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Job
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.launch

/** How long somebody counts as typing without another sign; the API says so. */
private const val LASTS_MS = 10_000L

/** How long after a message a sign of typing counts as one of that message, which overtook it. */
private const val LATE_MS = 500L

/** How many names are kept per session. */
private const val MAX_NAMES = 64

/** Knows who is typing in a session. Signs lapse by themselves. */
internal class TypingSigns(private val scope: CoroutineScope, private val clock: Clock) {
    /** User ids, in order. */
    val names = MutableStateFlow<List<String>>(emptyList())
    private val signs = HashMap<String, Sign>()
    private var timer: Job? = null

    private class Sign(val typing: Boolean, val at: Long)

    fun started(userId: String) {
        val last = signs[userId]
        if (last != null && !last.typing && clock.elapsedMs() - last.at < LATE_MS) return
        set(userId, true)
    }

    fun stopped(userId: String) = set(userId, false)

    /** Forgets everything and stops the clock. */
    fun clear() {
        signs.clear()
        renew()
    }

    private fun set(userId: String, typing: Boolean) {
        if (userId !in signs && signs.size >= MAX_NAMES) return
        signs[userId] = Sign(typing, clock.elapsedMs())
        renew()
    }

    private fun renew() {
        val now = clock.elapsedMs()
        signs.values.removeAll { now - it.at >= LASTS_MS }
        val typing = signs.filterValues { it.typing }
        timer?.cancel()
        timer = typing.values.minOfOrNull { it.at }?.let { first ->
            scope.launch {
                delay(first + LASTS_MS - now)
                renew()
            }
        }
        names.value = typing.keys.sorted()
    }
}
