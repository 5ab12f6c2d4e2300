package im.parley.client

import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Job
import kotlinx.coroutines.delay
import kotlinx.coroutines.job
import kotlinx.coroutines.launch

/** How many positions one call tells; as many as an Ack may carry. */
private const val MAX_TOLD = 1000

/** The pause before the server is told again after it could not be. */
private const val AGAIN_MS = 2000L

/**
 * Tells the server positions of sessions, coalesced: of each session only the highest counts.
 *
 * @param delayMs how long positions are gathered
 * @param send tells positions, by session id
 */
internal class Teller(private val scope: CoroutineScope, private val delayMs: Long, private val send: suspend (Map<String, Long>) -> Unit) {
    private val due = LinkedHashMap<String, Long>()
    private val told = HashMap<String, Long>()
    private var timer: Job? = null
    private var busy: Job? = null
    private var life = 0

    /** Whether the server can be told now; until then positions wait. */
    var isOpen = false
        set(open) {
            field = open
            if (open) {
                schedule(delayMs)
            } else {
                timer?.cancel()
                timer = null
            }
        }

    /** Notes a position. */
    fun set(sessionId: String, seq: Long) {
        if (seq <= maxOf(due[sessionId] ?: 0, told[sessionId] ?: 0)) return
        due[sessionId] = seq
        schedule(delayMs)
    }

    /** Forgets a session. */
    fun forget(sessionId: String) {
        life++
        due.remove(sessionId)
        told.remove(sessionId)
    }

    /** Tells all that waits, now, once. */
    suspend fun flush() {
        busy?.join()
        while (due.isNotEmpty() && tell()) Unit
    }

    private fun schedule(ms: Long) {
        if (!isOpen || timer != null || busy != null || due.isEmpty()) return
        timer = scope.launch {
            delay(ms)
            timer = null
            busy = coroutineContext.job
            val ok = try {
                tell()
            } finally {
                busy = null
            }
            schedule(if (ok) delayMs else AGAIN_MS)
        }
    }

    // Returns whether it makes sense to go on.
    private suspend fun tell(): Boolean {
        val batch = due.entries.take(MAX_TOLD).associate { it.toPair() }
        when (attempt(batch, batch.size == 1)) {
            Outcome.TOLD -> return true
            Outcome.AWAY -> return false
            Outcome.REFUSED -> Unit
        }
        // Refused as a whole: one of them is wrong. Each for itself, and those that are refused then are dropped: if it
        // matters, a Resync follows.
        return batch.none { (id, seq) -> attempt(mapOf(id to seq), last = true) == Outcome.AWAY }
    }

    private suspend fun attempt(batch: Map<String, Long>, last: Boolean): Outcome {
        val began = life
        try {
            send(batch)
        } catch (e: ParleyException) {
            if (e.retryable) return Outcome.AWAY
            if (!last) return Outcome.REFUSED
        }
        if (began != life) return Outcome.TOLD
        for ((id, seq) in batch) {
            told[id] = seq
            if (due[id] == seq) due.remove(id)
        }
        return Outcome.TOLD
    }

    private enum class Outcome { TOLD, REFUSED, AWAY }
}
