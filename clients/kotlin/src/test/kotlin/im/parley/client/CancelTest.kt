package im.parley.client

import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.ExperimentalCoroutinesApi
import kotlinx.coroutines.Job
import kotlinx.coroutines.awaitCancellation
import kotlinx.coroutines.delay
import kotlinx.coroutines.launch
import kotlinx.coroutines.plus
import kotlinx.coroutines.test.StandardTestDispatcher
import kotlinx.coroutines.test.TestScope
import kotlinx.coroutines.test.advanceTimeBy
import kotlinx.coroutines.test.currentTime
import kotlinx.coroutines.test.runCurrent
import kotlinx.coroutines.test.runTest
import kotlinx.coroutines.withTimeout
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertFailsWith
import kotlin.test.assertFalse
import kotlin.test.assertIs
import kotlin.test.assertTrue
import kotlin.time.Duration.Companion.milliseconds
import kotlin.time.Duration.Companion.seconds

/** What is cancelled ends as that, and takes nothing else with it; what waits is bounded. In virtual time. */
@OptIn(ExperimentalCoroutinesApi::class)
class CancelTest {
    private val fake = Fake()
    private val errors = ArrayList<ParleyException>()

    private fun TestScope.client(
        store: Store? = null,
        parent: Job? = null,
        token: TokenProvider = TokenProvider { tokenFor("alice", "a1") },
    ): ParleyClient {
        val dispatcher = StandardTestDispatcher(testScheduler)
        val options =
            ClientOptions("http://fake", token, store = store, reconnect = { _, _ -> 100.milliseconds }, onError = { errors += it })
        val scope = if (parent == null) backgroundScope else backgroundScope + parent
        return ParleyClient(options, scope, dispatcher, dispatcher, Clock({ currentTime }, { currentTime }), fake.services())
    }

    private suspend fun TestScope.live(client: ParleyClient): ParleyClient {
        client.start()
        runCurrent()
        fake.stream.open()
        runCurrent()
        assertEquals(Connection.Live, client.connection.value)
        return client
    }

    /** What a block threw that was cancelled while it waited. */
    private fun TestScope.thrownWhenCancelled(block: suspend () -> Unit): Throwable? {
        var thrown: Throwable? = null
        val job = backgroundScope.launch {
            try {
                block()
            } catch (e: Throwable) {
                thrown = e
                throw e
            }
        }
        runCurrent()
        assertTrue(job.isActive, "it waits")
        job.cancel()
        runCurrent()
        return thrown
    }

    @Test
    fun `a call that is cancelled throws CancellationException, and the client goes on`() = runTest {
        val client = live(client())
        val session = client.session(GROUP)
        fake.beforeCall = { if (it == "ListMembers" || it == "GetSession") awaitCancellation() }
        assertIs<CancellationException>(thrownWhenCancelled { session.loadMembers() })
        assertIs<CancellationException>(thrownWhenCancelled { session.refresh() })
        assertFailsWith<CancellationException> { withTimeout(1.seconds) { session.refresh() } }
        assertEquals(Connection.Live, client.connection.value)
        assertIs<SendResult.Sent>(session.send("goes on").result())
    }

    @Test
    fun `who no longer waits for a message has not taken it back`() = runTest {
        val client = live(client())
        fake.beforeCall = { if (it == "SendMessage") delay(5.seconds) }
        val outgoing = client.session(GROUP).send("one")
        assertIs<CancellationException>(thrownWhenCancelled { outgoing.result() })
        advanceTimeBy(6.seconds)
        assertEquals(listOf("one"), fake.log.map { it.content.text.body })
        assertIs<SendResult.Sent>(outgoing.result())
    }

    @Test
    fun `a client ends with its scope, and what waits for it is told`() = runTest {
        val parent = Job()
        val client = live(client(parent = parent))
        fake.beforeCall = { if (it == "SendMessage") awaitCancellation() }
        val outgoing = client.session(GROUP).send("never")
        runCurrent()
        parent.cancel()
        runCurrent()
        assertTrue(parent.isCompleted)
        assertIs<Connection.Offline>(client.connection.value)
        assertEquals(ErrorReason.STOPPED, assertFailsWith<ParleyException> { outgoing.result() }.reason)
    }

    @Test
    fun `a token provider's own timeout is a failure that passes, not the end of the client`() = runTest {
        var slow = true
        val client = client(token = {
            if (slow) withTimeout(50) { awaitCancellation() }
            tokenFor("alice", "a1")
        })
        client.start()
        advanceTimeBy(60)
        runCurrent()
        assertEquals(ErrorReason.NO_TOKEN, assertIs<Connection.Connecting>(client.connection.value).error?.reason)
        slow = false
        advanceTimeBy(1.seconds)
        fake.stream.open()
        runCurrent()
        assertEquals(Connection.Live, client.connection.value)
    }

    @Test
    fun `a store's own timeout is a store that failed, and the client goes on without it`() = runTest {
        val inner = InMemoryStore()
        var slow = false
        val store = object : Store by inner {
            override suspend fun write(change: StoreChange) {
                if (slow) withTimeout(50) { awaitCancellation() }
                inner.write(change)
            }
        }
        val client = live(client(store))
        slow = true
        fake.stream.say(listOf(fake.add("bob", "one")))
        advanceTimeBy(100)
        fake.stream.say(listOf(fake.add("bob", "two")))
        runCurrent()
        assertEquals(listOf("one", "two"), client.session(GROUP).messages.value.map { it.text })
        assertEquals(listOf(ErrorReason.STORE), errors.map { it.reason })
    }

    @Test
    fun `a reader that holds the stream and is cancelled lets it go`() = runTest {
        val client = client()
        val reader = backgroundScope.launch { client.events.collect { awaitCancellation() } }
        runCurrent()
        live(client)
        var said = 0
        backgroundScope.launch {
            repeat(30) {
                fake.stream.say(List(100) { fake.add("bob", "m") })
                said++
            }
        }
        runCurrent()
        assertTrue(said in 10..15, "the server could say $said times")
        reader.cancel()
        runCurrent()
        assertEquals(30, said)
        assertEquals(3000, client.session(GROUP).info.value?.headSeq)
        assertEquals(1000, client.session(GROUP).messages.value.size)
    }

    @Test
    fun `at most 1,000 messages wait, and there is room again once they went`() = runTest {
        val client = client()
        val session = client.session(GROUP)
        val waiting = List(1000) { session.send("m$it") }
        assertEquals(ErrorReason.OVERLOADED, assertFailsWith<ParleyException> { session.send("one too many") }.reason)
        assertFalse("one too many" in session.messages.value.map { it.text })
        live(client)
        for (outgoing in waiting) assertIs<SendResult.Sent>(outgoing.result())
        assertIs<SendResult.Sent>(session.send("fits").result())
        assertEquals(1001, fake.log.size)
    }
}
