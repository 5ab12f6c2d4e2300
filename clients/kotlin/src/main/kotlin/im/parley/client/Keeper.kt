package im.parley.client

import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import kotlinx.coroutines.withContext

/**
 * Writes to the store, one change after the other, each to its end. A store that fails is left alone until the next start:
 * what it holds then is older, and the server sends what came after again.
 */
internal class Keeper(private val store: Store?, private val failed: (ParleyException) -> Unit) {
    private val turn = Mutex() // fair: first come, first served
    private var broken = false

    /** Reads everything; null where there is no store, or none that works. */
    suspend fun load(messages: Int): StoredState? {
        broken = false
        return run { it.load(messages) }
    }

    suspend fun messagesBefore(sessionId: String, beforeSeq: Long, limit: Int): List<Message>? =
        run { it.messagesBefore(sessionId, beforeSeq, limit) }

    /** Returns when the change is kept, or cannot be. */
    suspend fun write(change: StoreChange) {
        if (change != nothing) run { it.write(change) }
    }

    /** Returns when all that was to be written so far is. */
    suspend fun idle() {
        turn.withLock { }
    }

    suspend fun close() {
        run { it.close() }
    }

    private suspend fun <T> run(fn: suspend (Store) -> T): T? {
        val store = store ?: return null
        return withContext(NonCancellable) {
            turn.withLock {
                if (broken) return@withLock null
                try {
                    fn(store)
                } catch (e: Exception) { // a CancellationException too: nothing cancels this, so it is the store's own
                    broken = true
                    failed(ParleyException(ErrorReason.STORE, "the store failed; going on without it", cause = e))
                    null
                }
            }
        }
    }
}

private val nothing = StoreChange()
