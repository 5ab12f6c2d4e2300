package im.parley.client

import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.flow.update
import java.util.concurrent.CopyOnWriteArrayList

/** How many events may wait for one reader; then the stream waits, and so does the server. */
internal const val MAX_WAITING_EVENTS = 1024

/** Hands every event to every reader, each at its own pace. */
internal class EventBus {
    private val readers = CopyOnWriteArrayList<Reader>()

    /** All events from the beginning of a collection to its end. */
    val events: Flow<ClientEvent> = flow {
        val reader = Reader()
        readers += reader
        try {
            for (event in reader.queue) {
                emit(event)
                reader.waiting.update { it - 1 }
            }
        } finally {
            readers -= reader
            reader.waiting.value = 0 // nobody waits for it any more
        }
    }

    fun publish(event: ClientEvent) {
        for (reader in readers) {
            reader.waiting.update { it + 1 }
            reader.queue.trySend(event)
        }
    }

    /** Returns when every reader has room again. */
    suspend fun room() {
        for (reader in readers) reader.waiting.first { it < MAX_WAITING_EVENTS || reader !in readers }
    }

    // Its bound is kept by room: at most what one response of the server holds comes on top.
    private class Reader {
        val queue = Channel<ClientEvent>(Channel.UNLIMITED)
        val waiting = MutableStateFlow(0)
    }
}
