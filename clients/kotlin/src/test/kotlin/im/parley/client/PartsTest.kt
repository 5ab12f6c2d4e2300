package im.parley.client

import kotlinx.coroutines.test.runTest
import org.junit.jupiter.api.io.TempDir
import java.io.File
import kotlin.random.Random
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertNull
import kotlin.test.assertTrue
import kotlin.time.Duration.Companion.milliseconds
import kotlin.time.Duration.Companion.seconds
import kotlin.time.Instant

class PartsTest {
    @TempDir
    lateinit var dir: File

    private fun message(seq: Long, content: Content? = TextContent("m$seq")) = Message(
        GROUP, seq, "id$seq", "bob", "b1", MessageType.TEXT, content, false, Instant.fromEpochSeconds(seq),
    )

    @Test
    fun `whichever way entries come, each is given once and in order`() {
        repeat(500) { seed ->
            val random = Random(seed)
            val order = LogOrder()
            val arriving = ((1L..30L) + (1L..30L).filter { random.nextInt(4) == 0 }).shuffled(random)
            val opened = random.nextInt(arriving.size)
            val given = ArrayList<Long>()
            arriving.forEachIndexed { i, seq ->
                if (i == opened) order.open(0)
                if (seq in 11L..14L) order.leaveOut(11, 14) else order.add(message(seq))
                while (true) given += (order.next() ?: break).let { it.from..it.to }
            }
            assertEquals((1L..30L).toList(), given, "seed $seed")
            assertEquals(0, order.waiting)
        }
    }

    @Test
    fun `an entry that is recalled while it waits loses its body`() {
        val order = LogOrder()
        order.open(0)
        order.add(message(2))
        order.add(message(3, RecallContent(2)))
        order.add(message(1))
        order.next()
        assertNull(order.next()?.message?.content)
    }

    @Test
    fun `ids are as the server derives them`() {
        assertEquals(directSessionId("alice", "bob"), directSessionId("bob", "alice"))
        assertEquals("5fb438e5-816f-535b-8dc3-d6c6159ceaba", directSessionId("alice", "bob"))
        assertEquals("bb197183-49f5-542c-b04d-e7d78b4d21dd", directSessionId("é", "zoë"))
        val ids = List(1000) { uuidv7(1_700_000_000_000 + it) }
        assertEquals(ids.sorted(), ids)
        assertTrue(ids.all { Regex("[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}").matches(it) })
    }

    @Test
    fun `full jitter stays below a bound that doubles up to its maximum`() {
        val policy = fullJitter(200.milliseconds, 10.seconds, Random(1))
        val error = ParleyException(ErrorReason.UNAVAILABLE, "")
        for (attempt in 0..80) {
            val bound = minOf(10.seconds, 200.milliseconds * (1L shl minOf(attempt, 20)).toDouble())
            val drawn = List(200) { policy.delay(attempt, error) }
            assertTrue(drawn.all { it >= 0.seconds && it <= bound }, "attempt $attempt")
            assertTrue(drawn.max() > bound / 2 && drawn.min() < bound / 2, "attempt $attempt")
        }
    }

    @Test
    fun `a token says whose it is`() {
        assertEquals(Identity("zoë \"x\"", "d/1"), identityOf(tokenFor("zoë \\\"x\\\"", "d/1", ""","iat":1,"exp":2""")))
        assertNull(identityOf("not.a.token"))
        assertNull(identityOf(""))
    }

    @Test
    fun `a file store holds what was written, drops what was being written, and shrinks`() = runTest {
        val file = File(dir, "sub/store")
        val store = FileStore(file)
        val device = StoredDevice(Identity("alice", "a1"), "e1")
        val session = StoredSession(GROUP, null, 3, 0, 3, listOf(2), emptyList(), 1)
        val contents = listOf(
            TextContent("hi"),
            CustomContent("x/y", byteArrayOf(1, 2)),
            AttachmentContent("http://x/y", "image/png", width = 3),
            RecallContent(1),
            MemberChangeContent(MemberChange.ADDED, listOf("bob"), MemberRole.ADMIN),
            SessionChangeContent(title = "t"),
        )
        val messages = contents.mapIndexed { i, c -> message(i + 1L, c) }
        val waiting =
            StoredOutgoing(message(0).copy(messageId = "o", status = MessageStatus.FAILED, failure = Failure(ErrorReason.MUTED, "no")), "bob", 7)
        store.write(StoreChange(device = device, sessions = listOf(session), messages = messages, outbox = listOf(waiting)))
        val whole = file.length()
        store.write(StoreChange(erase = listOf(StoredPosition(GROUP, 1)), trim = listOf(StoredPosition(GROUP, 0))))
        store.close()
        val all = FileStore(file).load(50)
        assertEquals(StoredState(device, listOf(StoredLog(session, listOf(messages[0].erased()) + messages.drop(1))), listOf(waiting)), all)
        for (cut in listOf(file.length() - 1, whole + 3)) { // the last change was being written
            file.inputStream().use { it.readBytes() }.copyOf(cut.toInt()).let(file::writeBytes)
            val torn = FileStore(file)
            assertEquals(messages, torn.load(50).sessions.single().messages)
            assertEquals(messages.subList(1, 3), torn.messagesBefore(GROUP, 4, 2))
            torn.close()
            assertEquals(whole, file.length())
        }
        val again = FileStore(file)
        val big = "x".repeat(16_000)
        repeat(400) { again.write(StoreChange(messages = listOf(message(7, TextContent(big))))) } // 6.4 MB of changes
        assertTrue(file.length() < 1_200_000, "${file.length()} bytes")
        again.close()
        assertEquals(big, FileStore(file).load(1).sessions.single().messages.single().text)
    }
}
