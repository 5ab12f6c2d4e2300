package im.parley.client.real

import im.parley.client.Connection
import im.parley.client.ErrorReason
import im.parley.client.FileStore
import im.parley.client.MessageStatus
import im.parley.client.Protocol
import im.parley.client.SendResult
import im.parley.client.SessionSettings
import im.parley.client.SkippedEvent
import kotlinx.coroutines.delay
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withTimeoutOrNull
import org.junit.jupiter.api.AfterAll
import org.junit.jupiter.api.AfterEach
import org.junit.jupiter.api.BeforeAll
import org.junit.jupiter.api.Tag
import org.junit.jupiter.api.Timeout
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.util.UUID
import java.util.concurrent.TimeUnit
import kotlin.concurrent.thread
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertIs
import kotlin.test.assertTrue

/** What must hold against the real server: the scenarios of the TypeScript SDK. */
@Tag("real")
@Timeout(180)
class RealServerTest {
    private val devices = ArrayList<Device>()
    private val a = "alice${++round}"
    private val b = "bob$round"

    @TempDir
    lateinit var dir: File

    private suspend fun open(user: String, device: String, make: (String, String) -> Device = { u, d -> Device(server, u, d) }): Device =
        make(user, device).also { devices += it }.open()

    @AfterEach
    fun clear() = runBlocking {
        server.link.open()
        for (d in devices) d.end()
    }

    private fun noProblems(vararg of: Device) {
        for (d in of) {
            assertEquals(emptyList(), d.recorder.problems.toList())
            assertEquals(emptyList(), d.errors.toList())
        }
    }

    @Test
    fun `two devices - messages, unread, typing and recalls are the same on both`() = runBlocking {
        server.token(b, "b1") // makes the user
        val a1 = open(a, "a1") { u, d -> Device(server, u, d, badToken = true) }
        val a2 = open(a, "a2")
        val b1 = open(b, "b1")
        val onA1 = a1.client.direct(b)
        val id = onA1.sessionId
        val onA2 = a2.client.session(id)
        val onB = b1.client.direct(a)
        assertEquals(id, onB.sessionId)
        assertEquals(listOf(1L, 2L, 3L), onA1.sendAll(numbered("x", 3)))
        for (d in listOf(a2, b1)) d.seen(id, 3)
        onB.sendAll(listOf("y0"))
        for (d in listOf(a1, a2)) d.seen(id, 4)
        for (s in listOf(onA1, onA2)) until(s.info) { it?.unread == 1L }
        until(onB.info) { it?.unread == 0L }
        onA1.markRead()
        for (s in listOf(onA1, onA2)) until(s.info) { it?.unread == 0L } // read on A is read on B
        delay(600) // a sign right after a message counts as that message's
        onB.setTyping(true)
        for (s in listOf(onA1, onA2)) until(s.typing) { it == listOf(b) }
        onB.setTyping(false)
        until(onA1.typing) { it.isEmpty() }
        onA1.recall(2)
        for (d in listOf(a1, a2, b1)) {
            d.seen(id, 5)
            until(d.client.session(id).messages) { list -> list.size == 5 && list[1].isDeleted && list[1].content == null }
            assertEquals(listOf(1L, 2L, 3L, 4L, 5L), d.seqs(id))
        }
        assertEquals(listOf(b), onA1.readers(1))
        noProblems(a1, a2, b1)
    }

    @Test
    fun `the server is killed in mid-stream - nothing is lost, nothing comes twice, the outbox keeps its order`() = runBlocking {
        val a1 = open(a, "a1")
        val b1 = open(b, "b1")
        val session = a1.client.createGroup(listOf(b), SessionSettings(title = "killed"))
        val id = session.sessionId
        b1.seen(id, 1)
        val bodies = numbered("m", 200)
        for (body in bodies.take(150)) session.send(body)
        b1.seen(id, 20)
        server.kill()
        for (body in bodies.drop(150)) session.send(body)
        for (d in listOf(a1, b1)) until(d.client.connection) { it is Connection.Connecting }
        server.restart()
        for (d in listOf(a1, b1)) {
            d.seen(id, 201)
            assertEquals(bodies, d.texts(id))
            until(d.client.session(id).messages) { list -> list.size == 201 && list.all { it.status == MessageStatus.SENT } }
        }
        noProblems(a1, b1)
    }

    @Test
    fun `the network breaks, goes silent and comes back - both sides have everything, in order`() = runBlocking {
        val link = server.link
        val a1 = open(a, "a1")
        val b1 = open(b, "b1")
        val onA = a1.client.createGroup(listOf(b), SessionSettings(title = "dropped"))
        val id = onA.sessionId
        val onB = b1.client.session(id)
        b1.seen(id, 1)
        for (body in numbered("m", 40)) onA.send(body)
        repeat(5) {
            delay(30)
            link.cut()
        }
        onA.sendAll(listOf("after"))
        b1.seen(id, 42) // so its stream is a new one
        b1.live()
        link.mute()
        for (body in numbered("n", 5)) onB.send(body)
        // Only the heartbeat tells that a silent network is gone.
        val gone = until(b1.client.connection) { it is Connection.Connecting }
        assertEquals(ErrorReason.STREAM_SILENT, gone.error?.reason)
        link.close()
        for (body in numbered("o", 5)) onA.send(body)
        link.open()
        for (d in listOf(a1, b1)) d.seen(id, 52)
        assertEquals(a1.texts(id), b1.texts(id))
        assertEquals(numbered("m", 40) + "after" + numbered("o", 5), b1.texts(id).filter { it[0] != 'n' })
        assertEquals(numbered("n", 5), b1.texts(id).filter { it[0] == 'n' })
        noProblems(a1, b1)
    }

    @Test
    fun `a backlog of 10,000 messages comes whole and in order, or is left out with notice`() = runBlocking {
        val token = server.token(a, "a1")
        val first = open(b, "b1")
        val second = open(b, "b2")
        val id = first.client.createGroup(listOf(a), SessionSettings(title = "backlog")).sessionId
        second.seen(id, 1)
        first.end()
        second.end()
        for (part in (0 until 10_000).chunked(250)) {
            val messages = part.joinToString(",") {
                """{"sessionId":"$id","messageId":"${UUID.randomUUID()}","content":{"text":{"body":"m$it"}}}"""
            }
            server.call("MessageService/SendMessages", """{"messages":[$messages]}""", token)
        }
        val back = open(b, "b1")
        back.seen(id, 10_001)
        assertEquals(numbered("m", 10_000), back.texts(id))
        val session = back.client.session(id)
        until(session.info) { it?.unread == 10_000L }
        until(session.messages) { it.size == 1000 } // what stays in memory
        assertTrue(session.loadOlder(500))
        until(session.messages) { list -> list.map { it.seq } == (8502L..10_001L).toList() }
        val short = open(b, "b2") { u, d -> Device(server, u, d, maxBacklog = 100) }
        short.seen(id, 10_001)
        assertEquals((9902L..10_001L).toList(), short.seqs(id))
        assertEquals(1, short.recorder.events.count { it is SkippedEvent })
        noProblems(back, short)
    }

    @Test
    fun `a restart goes on where it stood, offline too, and sends what waited`() = runBlocking {
        val file = File(dir, "alice")
        val make = { u: String, d: String -> Device(server, u, d, store = FileStore(file)) }
        val before = open(a, "a1", make)
        val b1 = open(b, "b1")
        val session = before.client.createGroup(listOf(b), SessionSettings(title = "restarted"))
        val id = session.sessionId
        session.sendAll(numbered("m", 10))
        b1.seen(id, 11)
        b1.client.session(id).sendAll(listOf("n0"))
        before.seen(id, 12)
        server.link.close()
        session.send("late0")
        session.send("late1")
        before.end()
        val after = make(a, "a1").also { devices += it }
        after.start() // still without a network
        until(after.client.session(id).messages) { it.size == 14 }
        val shown = after.client.session(id).messages.value
        assertEquals(List(2) { MessageStatus.PENDING }, shown.takeLast(2).map { it.status })
        assertEquals(1, after.client.session(id).info.value?.unread) // what waits to be sent has read nothing yet
        server.link.open()
        after.seen(id, 14)
        b1.seen(id, 14)
        until(after.client.session(id).info) { it?.unread == 0L } // and what was sent has
        assertEquals(listOf(13L, 14L), after.seqs(id)) // the rest was shown before
        until(after.client.session(id).messages) { list -> list.map { it.seq } == (1L..14L).toList() }
        assertEquals(listOf("late0", "late1"), b1.texts(id).takeLast(2))
        noProblems(after, b1)
    }

    @Test
    fun `what cannot be repaired ends there - a displaced device, a revoked device, a member who was removed`() = runBlocking {
        val a1 = open(a, "a1")
        val b1 = open(b, "b1")
        val session = a1.client.createGroup(listOf(b), SessionSettings(title = "ended"))
        val id = session.sessionId
        b1.seen(id, 1)
        session.removeMember(b)
        b1.seen(id, 2)
        val refused = assertIs<SendResult.Refused>(b1.client.session(id).send("still here?").result())
        assertEquals(ErrorReason.SESSION_UNAVAILABLE, refused.error.reason)
        until(b1.client.sessions) { it.isEmpty() }
        val other = open(a, "a1")
        assertEquals(ErrorReason.STREAM_DISPLACED, until(a1.client.connection) { it is Connection.Offline }.error?.reason)
        a1.client.start() // takes it back
        a1.live()
        assertEquals(ErrorReason.STREAM_DISPLACED, until(other.client.connection) { it is Connection.Offline }.error?.reason)
        server.call("DeviceService/RevokeDevice", """{"deviceId":"b1"}""", server.token(b, "b2"))
        assertEquals(ErrorReason.DEVICE_REVOKED, until(b1.client.connection) { it is Connection.Offline }.error?.reason)
    }

    @Test
    fun `gRPC carries the same`() = runBlocking {
        val a1 = open(a, "a1") { u, d -> Device(server, u, d, protocol = Protocol.GRPC) }
        val b1 = open(b, "b1")
        val session = a1.client.direct(b)
        assertEquals(listOf(1L), session.sendAll(listOf("hi")))
        b1.seen(session, 1)
        b1.client.direct(a).sendAll(listOf("hi yourself"))
        a1.seen(session, 2)
        assertEquals(listOf("hi", "hi yourself"), a1.texts(session.sessionId))
        noProblems(a1, b1)
    }

    @Test
    fun `the console chat says what is typed, shows what comes, and ends with its input`() = runBlocking {
        val b1 = open(b, "b1")
        val classes = System.getProperty("surefire.test.class.path") ?: System.getProperty("java.class.path")
        val java = File(System.getProperty("java.home"), "bin/java").path
        val builder = ProcessBuilder(java, "-cp", classes, "im.parley.sample.ChatKt", b).redirectErrorStream(true)
        builder.environment().putAll(mapOf("PARLEY_URL" to server.url, "TOKEN" to server.token(a, "console")))
        val chat = builder.start()
        try {
            val printed = StringBuffer()
            val reading = thread(isDaemon = true) { chat.inputStream.bufferedReader().forEachLine { printed.appendLine(it) } }
            val input = chat.outputStream.bufferedWriter()
            input.write("hello from the console\n")
            input.flush()
            val session = b1.client.direct(a)
            b1.seen(session, 1)
            session.sendAll(listOf("hello back"))
            shows(printed, "2 $b: hello back")
            input.write("/recall 1\n")
            input.flush()
            b1.seen(session, 3)
            input.close()
            assertTrue(chat.waitFor(60, TimeUnit.SECONDS))
            reading.join(10_000)
            assertEquals(0, chat.exitValue(), "$printed")
            assertTrue("1 $a: hello from the console" in printed, "$printed")
            assertEquals(listOf("hello from the console", "hello back"), b1.texts(session.sessionId))
        } finally {
            chat.destroyForcibly()
        }
    }

    private suspend fun shows(printed: StringBuffer, line: String) {
        withTimeoutOrNull(60_000) { while (line !in printed) delay(20) } ?: error("no '$line' in:\n$printed")
    }

    companion object {
        private lateinit var server: Server
        private var round = 0

        @JvmStatic
        @BeforeAll
        fun start() {
            server = Server()
        }

        @JvmStatic
        @AfterAll
        fun end() = server.end()
    }
}
