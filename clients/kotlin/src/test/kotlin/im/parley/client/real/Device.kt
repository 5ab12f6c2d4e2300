package im.parley.client.real

import im.parley.client.ClientOptions
import im.parley.client.Connection
import im.parley.client.ParleyClient
import im.parley.client.ParleyException
import im.parley.client.Protocol
import im.parley.client.Recorder
import im.parley.client.SendResult
import im.parley.client.Session
import im.parley.client.Store
import im.parley.client.fullJitter
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.cancel
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.launch
import kotlinx.coroutines.withTimeoutOrNull
import java.util.concurrent.CopyOnWriteArrayList
import kotlin.time.Duration.Companion.milliseconds

private const val PATIENCE_MS = 120_000L

/** A device against the real server, and what it has seen. */
class Device(
    server: Server,
    user: String,
    device: String,
    store: Store? = null,
    maxBacklog: Int = 0,
    protocol: Protocol = Protocol.CONNECT,
    badToken: Boolean = false,
) {
    private val scope = CoroutineScope(Dispatchers.Default)
    private var bad = badToken
    val errors = CopyOnWriteArrayList<ParleyException>()
    val recorder = Recorder()
    val client = ParleyClient(
        ClientOptions(
            baseUrl = server.url,
            token = {
                if (bad) "not.a.token".also { bad = false } else server.token(user, device)
            },
            store = store,
            reconnect = fullJitter(20.milliseconds, 400.milliseconds),
            maxBacklog = maxBacklog,
            protocol = protocol,
            onError = { errors += it },
        ),
        scope,
    )

    suspend fun open(): Device {
        start()
        live()
        return this
    }

    fun start() {
        scope.launch(start = CoroutineStart.UNDISPATCHED) { recorder.record(client) }
        client.start()
    }

    suspend fun live() = until(client.connection) { it == Connection.Live }

    suspend fun end() {
        client.close()
        scope.cancel()
    }

    suspend fun seen(session: Session, seq: Long) = seen(session.sessionId, seq)

    suspend fun seen(sessionId: String, seq: Long) {
        withTimeoutOrNull(PATIENCE_MS) { while (recorder.at(sessionId) < seq) delay(2) }
            ?: error("at ${recorder.at(sessionId)}, not $seq: ${client.connection.value} ${client.connection.value.error}")
    }

    fun texts(sessionId: String): List<String> = recorder.messages(sessionId).mapNotNull { it.text }

    fun seqs(sessionId: String): List<Long> = recorder.messages(sessionId).map { it.seq }

    fun listed(sessionId: String): List<Long> = client.session(sessionId).messages.value.map { it.seq }
}

/** Waits for a value; fails after a while with what it was. */
suspend fun <T> until(flow: StateFlow<T>, holds: (T) -> Boolean): T =
    withTimeoutOrNull(PATIENCE_MS) { flow.first(holds) } ?: error("still ${flow.value}")

/** Hands texts over and waits for all of them. */
suspend fun Session.sendAll(bodies: List<String>): List<Long> = bodies.map { send(it) }.map { outgoing ->
    when (val result = outgoing.result()) {
        is SendResult.Sent -> result.message.seq
        is SendResult.Refused -> throw result.error
    }
}

fun numbered(prefix: String, n: Int): List<String> = List(n) { "$prefix$it" }
