package im.parley.client

import com.connectrpc.Code
import im.parley.v1.Event
import im.parley.v1.Resync
import im.parley.v1.ResyncReason
import im.parley.v1.Signal
import im.parley.v1.Typing
import kotlinx.coroutines.ExperimentalCoroutinesApi
import kotlinx.coroutines.delay
import kotlinx.coroutines.launch
import kotlinx.coroutines.test.StandardTestDispatcher
import kotlinx.coroutines.test.TestScope
import kotlinx.coroutines.test.advanceTimeBy
import kotlinx.coroutines.test.currentTime
import kotlinx.coroutines.test.runCurrent
import kotlinx.coroutines.test.runTest
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertIs
import kotlin.test.assertTrue
import kotlin.time.Duration.Companion.milliseconds
import kotlin.time.Duration.Companion.seconds
import im.parley.v1.ErrorReason as PbReason
import im.parley.v1.SignalEvent as PbSignalEvent

/** A client against a server in memory, in virtual time. */
@OptIn(ExperimentalCoroutinesApi::class)
class ClientTest {
    private val fake = Fake()
    private val recorder = Recorder()

    private fun TestScope.client(
        policy: ReconnectPolicy = ReconnectPolicy { _, _ -> 100.milliseconds },
        store: Store? = null,
        token: TokenProvider = TokenProvider { tokenFor("alice", "a1") },
    ): ParleyClient {
        val dispatcher = StandardTestDispatcher(testScheduler)
        val clock = Clock({ currentTime }, { currentTime })
        val options = ClientOptions("http://fake", token, store = store, reconnect = policy)
        return ParleyClient(options, backgroundScope, dispatcher, dispatcher, clock, fake.services())
    }

    private suspend fun TestScope.live(client: ParleyClient) {
        backgroundScope.launch { recorder.record(client) }
        runCurrent()
        client.start()
        runCurrent()
        fake.stream.open()
        runCurrent()
        assertEquals(Connection.Live, client.connection.value)
    }

    @Test
    fun `a stream that is silent for two heartbeats and a second is given up, and the next one resumes`() = runTest {
        fake.add("bob", "one")
        val client = client()
        live(client)
        fake.stream.say(listOf(fake.add("bob", "two")))
        runCurrent()
        advanceTimeBy(39.seconds)
        fake.stream.heartbeat()
        runCurrent()
        advanceTimeBy(40.seconds + 900.milliseconds)
        assertEquals(Connection.Live, client.connection.value)
        advanceTimeBy(200.milliseconds)
        assertEquals(ErrorReason.STREAM_SILENT, assertIs<Connection.Connecting>(client.connection.value).error?.reason)
        advanceTimeBy(100.milliseconds)
        assertEquals(2, fake.streams.size)
        assertEquals(listOf(2L), fake.stream.request.cursorsList.map { it.seq })
        assertEquals("e1", fake.stream.request.epoch)
    }

    @Test
    fun `tries are spaced by the policy and begin anew once caught up`() = runTest {
        val attempts = ArrayList<Int>()
        val client = client({ attempt, _ -> (attempt + 1).seconds.also { attempts += attempt } })
        repeat(3) { fake.refuseStreams += refusal(PbReason.ERROR_REASON_UNAVAILABLE) }
        client.start()
        runCurrent()
        advanceTimeBy(6.seconds + 1.milliseconds) // 1 + 2 + 3
        assertEquals(4, fake.streams.size)
        fake.stream.open()
        runCurrent()
        fake.stream.end(refusal(PbReason.ERROR_REASON_SHUTTING_DOWN))
        runCurrent()
        assertEquals(listOf(0, 1, 2, 0), attempts)
    }

    @Test
    fun `a terminal error ends it until it is started again`() = runTest {
        val client = client()
        live(client)
        fake.stream.end(refusal(PbReason.ERROR_REASON_STREAM_DISPLACED, Code.FAILED_PRECONDITION))
        advanceTimeBy(60.seconds)
        assertEquals(ErrorReason.STREAM_DISPLACED, assertIs<Connection.Offline>(client.connection.value).error?.reason)
        assertEquals(1, fake.streams.size)
        client.start()
        runCurrent()
        assertEquals(2, fake.streams.size)
    }

    @Test
    fun `a lost answer makes no second message, and those behind it keep their order`() = runTest {
        val client = client()
        live(client)
        var lost = 0
        fake.afterSend = { if (lost++ < 2) throw refusal(PbReason.ERROR_REASON_UNAVAILABLE) }
        val session = client.session(GROUP)
        val outgoing = listOf("one", "two", "three").map { session.send(it) }
        assertEquals(List(3) { MessageStatus.PENDING }, session.messages.value.map { it.status })
        advanceTimeBy(1.seconds)
        val results = outgoing.map { assertIs<SendResult.Sent>(it.result()).message }
        assertEquals(listOf(1L, 2L, 3L), results.map { it.seq })
        assertEquals(listOf("one", "two", "three"), fake.log.map { it.content.text.body })
        assertEquals(5, fake.sends.size)
        assertEquals(3, fake.sends.map { it.messageId }.toSet().size)
        assertEquals(listOf(1L, 2L, 3L), session.messages.value.map { it.seq })
        assertEquals(emptyList(), recorder.problems.toList())
    }

    @Test
    fun `a refused message is marked, holds nobody up, and can be sent again`() = runTest {
        val client = client()
        live(client)
        var muted = true
        fake.beforeSend = { if (muted && it.content.text.body == "no") throw refusal(PbReason.ERROR_REASON_MUTED, Code.PERMISSION_DENIED) }
        val session = client.session(GROUP)
        val no = session.send("no")
        val yes = session.send("yes")
        assertEquals(ErrorReason.MUTED, assertIs<SendResult.Refused>(no.result()).error.reason)
        assertIs<SendResult.Sent>(yes.result())
        runCurrent()
        assertEquals(listOf(MessageStatus.SENT, MessageStatus.FAILED), session.messages.value.map { it.status })
        muted = false
        assertTrue(session.retry(no.message.messageId))
        runCurrent()
        assertEquals(listOf("yes", "no"), session.messages.value.map { it.text })
        assertEquals(no.message.messageId, session.messages.value[1].messageId)
    }

    @Test
    fun `a hole is filled from the log after two seconds, and nothing behind it is shown before`() = runTest {
        val client = client()
        live(client)
        fake.stream.say(listOf(fake.add("bob", "one")))
        fake.add("bob", "two") // never comes by the stream
        fake.stream.say(listOf(fake.add("bob", "three")))
        advanceTimeBy(1900.milliseconds)
        assertEquals(listOf(1L), recorder.messages(GROUP).map { it.seq })
        advanceTimeBy(200.milliseconds)
        assertEquals(listOf("one", "two", "three"), recorder.messages(GROUP).map { it.text })
        assertEquals(emptyList(), recorder.problems.toList())
    }

    @Test
    fun `acks are gathered - one call tells the highest of many`() = runTest {
        val client = client()
        live(client)
        repeat(20) { fake.stream.say(listOf(fake.add("bob", "m$it"))) }
        runCurrent()
        assertEquals(0, fake.acks.size)
        advanceTimeBy(501.milliseconds)
        assertEquals(listOf(20L), fake.acks.single().acksList.map { it.seq })
        fake.stream.say(listOf(fake.add("bob", "last")))
        runCurrent()
        client.stop() // tells what is not told yet
        assertEquals(21L, fake.acks.last().acksList.single().seq)
    }

    @Test
    fun `a resync drops what was shown and begins anew`() = runTest {
        val client = client()
        live(client)
        fake.stream.say(List(3) { fake.add("bob", "old$it") })
        runCurrent()
        val session = client.session(GROUP)
        assertEquals(3, session.messages.value.size)
        fake.log.clear()
        fake.epoch = "e2"
        val first = fake.add("bob", "new")
        fake.stream.say(Event.newBuilder().setResync(Resync.newBuilder().setReason(ResyncReason.RESYNC_REASON_EPOCH_CHANGED).setEpoch("e2")).build())
        fake.stream.say(listOf(first))
        runCurrent()
        assertEquals(listOf("new"), session.messages.value.map { it.text })
        assertEquals(ResetEvent(null, ResetReason.EPOCH_CHANGED), recorder.events.first { it is ResetEvent })
        assertEquals("new", recorder.messages(GROUP).last().text)
    }

    @Test
    fun `a slow reader of events holds the stream, and loses nothing`() = runTest {
        val client = client()
        val seen = ArrayList<Long>()
        backgroundScope.launch {
            client.events.collect { e ->
                if (e is MessageEvent) {
                    delay(10)
                    seen += e.message.seq
                }
            }
        }
        runCurrent()
        client.start()
        runCurrent()
        fake.stream.open()
        runCurrent()
        var said = 0
        backgroundScope.launch {
            repeat(30) {
                fake.stream.say(List(100) { fake.add("bob", "m") })
                said++
            }
        }
        runCurrent()
        assertTrue(said in 10..15, "the server could say $said times")
        advanceTimeBy(31.seconds)
        assertEquals((1L..3000L).toList(), seen)
    }

    @Test
    fun `an expired token is replaced and the call repeated`() = runTest {
        var given = 0
        val client = client(token = { tokenFor("alice", "a1", ""","n":${++given}""") })
        live(client)
        var expired = true
        fake.beforeSend = { if (expired) throw refusal(PbReason.ERROR_REASON_TOKEN_EXPIRED, Code.UNAUTHENTICATED).also { expired = false } }
        assertIs<SendResult.Sent>(client.session(GROUP).send("hi").result())
        assertEquals(2, given)
        assertEquals(2, fake.sends.size)
    }

    @Test
    fun `typing lapses after ten seconds, and ends with a message`() = runTest {
        val client = client()
        live(client)
        val sign = Signal.newBuilder().setTyping(Typing.newBuilder().setIsTyping(true))
        val typing = Event.newBuilder().setSignal(PbSignalEvent.newBuilder().setSessionId(GROUP).setSenderId("bob").setSignal(sign)).build()
        val session = client.session(GROUP)
        fake.stream.say(typing)
        runCurrent()
        assertEquals(listOf("bob"), session.typing.value)
        advanceTimeBy(10.seconds + 1.milliseconds)
        assertEquals(emptyList(), session.typing.value)
        fake.stream.say(typing)
        fake.stream.say(listOf(fake.add("bob", "done")))
        runCurrent()
        assertEquals(emptyList(), session.typing.value)
    }

    @Test
    fun `with a store a new client goes on where the last one stood`() = runTest {
        val store = InMemoryStore()
        val first = client(store = store)
        live(first)
        fake.stream.say(List(3) { fake.add("bob", "m$it") })
        runCurrent()
        first.stop()
        first.session(GROUP).send("waits")
        runCurrent()
        first.close()
        val second = client(store = store)
        second.start()
        runCurrent()
        val session = second.session(GROUP)
        assertEquals(listOf("m0", "m1", "m2", "waits"), session.messages.value.map { it.text })
        assertEquals(listOf(3L), fake.stream.request.cursorsList.map { it.seq })
        fake.stream.open()
        runCurrent()
        assertEquals(listOf(1L, 2L, 3L, 4L), session.messages.value.map { it.seq })
    }
}
