package im.parley.client

import kotlinx.coroutines.flow.collect
import java.util.concurrent.ConcurrentHashMap
import java.util.concurrent.CopyOnWriteArrayList

/** Records events and judges the promise: of each session every seq once, in order, without a hole. */
class Recorder {
    val events = CopyOnWriteArrayList<ClientEvent>()
    val problems = CopyOnWriteArrayList<String>()
    private val at = ConcurrentHashMap<String, Long>()

    suspend fun record(client: ParleyClient) = client.events.collect(::take)

    fun at(sessionId: String): Long = at[sessionId] ?: 0

    fun messages(sessionId: String): List<Message> = events.filterIsInstance<MessageEvent>().map { it.message }.filter { it.sessionId == sessionId }

    private fun take(event: ClientEvent) {
        events += event
        when (event) {
            is ResetEvent -> event.sessionId?.let(at::remove) ?: at.clear()
            is SkippedEvent -> next(event.sessionId, event.fromSeq, event.toSeq)
            is MessageEvent -> next(event.message.sessionId, event.message.seq, event.message.seq)
            else -> Unit
        }
    }

    private fun next(sessionId: String, from: Long, to: Long) {
        val last = at[sessionId]
        if (last != null && from != last + 1) problems += "$sessionId: $from after $last"
        at[sessionId] = to
    }
}
