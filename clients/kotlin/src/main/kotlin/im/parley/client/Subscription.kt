package im.parley.client

import im.parley.v1.Event
import im.parley.v1.SubscribeRequest
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Job
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.delay
import kotlinx.coroutines.launch
import kotlinx.coroutines.withTimeoutOrNull

/** How long a stream may take to open; then it says its heartbeat itself. */
private const val OPEN_MS = 15_000L

/** How much longer than two heartbeats a stream may be silent. */
private const val SLACK_MS = 1000L

/** What the stream loop needs from its owner. */
internal interface StreamOwner {
    /** Does what must come before a stream. */
    suspend fun prepare()

    /** Where to resume. */
    fun position(): SubscribeRequest

    /** Takes what came, in order. The stream waits for it. */
    suspend fun take(events: List<Event>)

    /** A stream ended, or could not be opened; another is tried. */
    fun connecting(error: ParleyException)
}

/**
 * Keeps the device's one stream open: opens it, watches its heartbeat, and after an end reconnects and resumes, with a
 * pause as the policy says.
 */
internal class Subscription(private val api: Api, private val policy: ReconnectPolicy, private val owner: StreamOwner) {
    private val wake = Channel<Unit>(Channel.CONFLATED)
    private var ending: CompletableDeferred<ParleyException>? = null
    private var failures = 0
    private var tokensRefused = 0

    /** Tries again now instead of after the pause. */
    fun wake() {
        wake.trySend(Unit)
    }

    /** Ends the present stream; the next one is opened as after any other end. */
    fun cut(error: ParleyException) {
        ending?.complete(error)
    }

    /** Returns the error after which no new stream may be opened. */
    suspend fun run(): ParleyException {
        failures = 0
        tokensRefused = 0
        while (true) {
            val error = once()
            // A refused token is replaced by a new one; if that is refused too, the provider has none that is good.
            val another = error.reason in tokenReasons && tokensRefused++ < 1
            if (!error.retryable && !another) return error
            owner.connecting(error)
            wake.tryReceive()
            withTimeoutOrNull(maxOf(error.retryAfter, policy.delay(failures++, error))) { wake.receive() }
        }
    }

    // Runs one stream to its end and says why it ended.
    private suspend fun once(): ParleyException = coroutineScope {
        val end = CompletableDeferred<ParleyException>()
        ending = end
        val watchdog = Watchdog(this) { end.complete(ParleyException(ErrorReason.STREAM_SILENT, "the stream went silent")) }
        val reading = launch { end.complete(read(watchdog)) }
        try {
            end.await()
        } finally {
            ending = null
            watchdog.rest()
            reading.cancelAndJoin()
        }
    }

    private suspend fun read(watchdog: Watchdog): ParleyException = try {
        owner.prepare()
        var silenceMs = OPEN_MS
        watchdog.watch(silenceMs)
        api.subscribe(owner.position()).collect { response ->
            watchdog.rest() // what is here is worked on; the stream is not to blame if that takes long
            for (event in response.eventsList) {
                if (event.kindCase == Event.KindCase.OPENED && event.opened.hasHeartbeatInterval()) {
                    val every = event.opened.heartbeatInterval
                    silenceMs = 2 * (every.seconds * 1000 + every.nanos / 1_000_000) + SLACK_MS
                }
                if (event.kindCase == Event.KindCase.CAUGHT_UP) {
                    // Not before: a node that only opens streams is backed off from.
                    failures = 0
                    tokensRefused = 0
                }
            }
            owner.take(response.eventsList)
            watchdog.watch(silenceMs)
        }
        ParleyException(ErrorReason.UNAVAILABLE, "the server ended the stream")
    } catch (e: ParleyException) {
        e
    }
}

/** Barks unless it is told to watch anew in time. */
private class Watchdog(private val scope: CoroutineScope, private val bark: () -> Unit) {
    private var timer: Job? = null

    fun watch(ms: Long) {
        timer?.cancel()
        timer = scope.launch {
            delay(ms)
            bark()
        }
    }

    fun rest() {
        timer?.cancel()
        timer = null
    }
}
