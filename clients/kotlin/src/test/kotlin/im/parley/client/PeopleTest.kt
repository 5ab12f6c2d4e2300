package im.parley.client

import com.connectrpc.Code
import im.parley.v1.Event
import im.parley.v1.ReadPositionEvent
import kotlinx.coroutines.ExperimentalCoroutinesApi
import kotlinx.coroutines.async
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
import kotlin.test.assertFalse
import kotlin.test.assertTrue
import kotlin.time.Duration.Companion.milliseconds
import im.parley.v1.ErrorReason as PbReason
import im.parley.v1.PresenceEvent as PbPresenceEvent

/** Who is online, and what is kept, in virtual time. */
@OptIn(ExperimentalCoroutinesApi::class)
class PeopleTest {
    private val fake = Fake()

    private suspend fun TestScope.live(store: Store? = null): ParleyClient {
        val dispatcher = StandardTestDispatcher(testScheduler)
        val options = ClientOptions("http://fake", { tokenFor("alice", "a1") }, store = store, reconnect = { _, _ -> 100.milliseconds })
        val client = ParleyClient(options, backgroundScope, dispatcher, dispatcher, Clock({ currentTime }, { currentTime }), fake.services())
        client.start()
        runCurrent()
        fake.stream.open()
        runCurrent()
        return client
    }

    private fun says(user: String, online: Boolean): Event =
        Event.newBuilder().setPresence(PbPresenceEvent.newBuilder().setPresence(presenceOf(user).toBuilder().setIsOnline(online))).build()

    private fun reads(user: String, to: Long): Event =
        Event.newBuilder().setReadPosition(ReadPositionEvent.newBuilder().setSessionId(GROUP).setUserId(user).setReadSeq(to)).build()

    @Test
    fun `who is online is asked once for many, follows the stream, and is asked again on the next stream`() = runTest {
        fake.online += "bob"
        val client = live()
        client.watchPresence(listOf("bob"))
        client.watchPresence(listOf("bob", "carol", "bob"))
        advanceTimeBy(51)
        assertEquals(listOf(listOf("bob", "carol")), fake.watched)
        assertEquals(true, client.presence("bob").value?.isOnline)
        assertEquals(null, client.presence("carol").value) // may not be seen
        fake.stream.say(says("bob", false))
        runCurrent()
        assertEquals(false, client.presence("bob").value?.isOnline)
        fake.stream.say(says("eve", true)) // nobody asked for her
        runCurrent()
        assertEquals(null, client.presence("eve").value)
        fake.stream.end(refusal(PbReason.ERROR_REASON_SHUTTING_DOWN, Code.UNAVAILABLE))
        advanceTimeBy(101)
        assertEquals(false, client.presence("bob").value?.isOnline) // what was known last
        fake.stream.open()
        advanceTimeBy(1)
        runCurrent()
        assertEquals(2, fake.watched.size)
        assertEquals(true, client.presence("bob").value?.isOnline)
        client.watchPresence(emptyList())
        runCurrent()
        assertEquals(null, client.presence("bob").value)
    }

    @Test
    fun `a stream that did not take the watch over is asked again, until it tells`() = runTest {
        fake.online += "bob"
        val client = live()
        client.watchPresence(listOf("bob"))
        advanceTimeBy(51)
        assertEquals(1, fake.watched.size)
        advanceTimeBy(5000)
        assertEquals(2, fake.watched.size)
        fake.stream.say(says("bob", true))
        advanceTimeBy(20_000)
        assertEquals(2, fake.watched.size)
    }

    @Test
    fun `how far others have read is shown as the stream tells it, and never moves back`() = runTest {
        fake.members += listOf("bob" to 0L, "carol" to 0L)
        repeat(5) { fake.add("alice", "m$it") }
        val client = live()
        val seen = ArrayList<Pair<String, Long>>()
        backgroundScope.launch { client.events.collect { if (it is ReadEvent) seen += it.userId to it.readSeq } }
        runCurrent()
        val session = client.session(GROUP)
        fun readBy(user: String) = session.members.value.firstOrNull { it.userId == user }?.readSeq
        fake.stream.say(reads("bob", 2)) // nobody has asked for members yet: an event, and nothing else
        runCurrent()
        assertEquals(emptyList(), session.members.value)
        session.loadMembers()
        assertEquals(0, readBy("bob"))
        fake.stream.say(reads("bob", 4), reads("bob", 3))
        runCurrent()
        assertEquals(4, readBy("bob"))
        assertEquals(0, readBy("carol"))
        // A list that was asked for before is older than what was told.
        assertEquals(4, session.loadMembers().first { it.userId == "bob" }.readSeq)
        // Who sends has read, and no event says so.
        fake.stream.say(listOf(fake.add("carol", "all read")))
        runCurrent()
        assertEquals(6, readBy("carol"))
        assertEquals(listOf("bob" to 2L, "bob" to 4L, "bob" to 3L), seen)
        // What was told to nobody while the stream was away is learnt from the list.
        fake.members["bob"] = 6
        fake.stream.end(refusal(PbReason.ERROR_REASON_SHUTTING_DOWN, Code.UNAVAILABLE))
        advanceTimeBy(101)
        fake.stream.open()
        runCurrent()
        assertEquals(6, readBy("bob"))
    }

    @Test
    fun `stored returns when all that was handed over is in the store, and not before`() = runTest {
        val inner = InMemoryStore()
        val slow = object : Store by inner {
            override suspend fun write(change: StoreChange) {
                delay(300)
                inner.write(change)
            }
        }
        val client = live(slow)
        advanceTimeBy(5000)
        client.stop()
        client.session(GROUP).send("waits")
        val stored = backgroundScope.async { client.stored() }
        advanceTimeBy(299)
        assertFalse(stored.isCompleted)
        assertEquals(emptyList(), inner.load(1).outbox)
        advanceTimeBy(1000)
        assertTrue(stored.isCompleted)
        assertEquals("waits", inner.load(1).outbox.single().message.text)
    }
}
