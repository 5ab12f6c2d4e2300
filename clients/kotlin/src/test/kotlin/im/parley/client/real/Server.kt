// Runs the real server for tests: `parley run` with a PostgreSQL of its own, behind a link that can be cut.
package im.parley.client.real

import java.io.File
import java.io.IOException
import java.net.ServerSocket
import java.net.Socket
import java.net.URI
import java.net.http.HttpClient
import java.net.http.HttpRequest
import java.net.http.HttpResponse
import java.nio.file.Files
import java.nio.file.attribute.PosixFilePermissions
import java.util.concurrent.CopyOnWriteArrayList
import java.util.concurrent.TimeUnit
import kotlin.concurrent.thread

private const val ADMIN_KEY = "a-key-for-tests-of-no-use-anywhere-else"

/** A TCP link to the server. */
class Link(private val target: Int) {
    private enum class Mode { OPEN, CLOSED, MUTE }

    private val listener = ServerSocket(0)
    private val pairs = CopyOnWriteArrayList<Pair<Socket, Socket>>()

    @Volatile
    private var mode = Mode.OPEN
    val port: Int get() = listener.localPort

    init {
        thread(isDaemon = true) {
            while (true) {
                val near = try {
                    listener.accept()
                } catch (_: IOException) {
                    return@thread
                }
                val far = if (mode == Mode.CLOSED) null else runCatching { Socket("127.0.0.1", target) }.getOrNull()
                if (far == null) {
                    near.close()
                    continue
                }
                val pair = near to far
                pairs += pair
                pump(near, far, pair)
                pump(far, near, pair)
            }
        }
    }

    private fun pump(from: Socket, to: Socket, pair: Pair<Socket, Socket>) = thread(isDaemon = true) {
        val buffer = ByteArray(16384)
        try {
            while (true) {
                val n = from.getInputStream().read(buffer)
                if (n < 0) break
                if (mode != Mode.MUTE) to.getOutputStream().write(buffer, 0, n)
            }
        } catch (_: IOException) {
            // cut
        } finally {
            pairs -= pair
            from.close()
            to.close()
        }
    }

    /** Breaks all connections; new ones work. */
    fun cut() {
        for ((near, far) in pairs) {
            near.close()
            far.close()
        }
    }

    /** Breaks all connections and refuses new ones. */
    fun close() {
        mode = Mode.CLOSED
        cut()
    }

    /** Keeps connections and lets nothing through, as a network that is gone does. */
    fun mute() {
        mode = Mode.MUTE
    }

    /** Everything works again. What was muted stays dead. */
    fun open() {
        if (mode == Mode.MUTE) cut()
        mode = Mode.OPEN
    }

    fun end() {
        close()
        listener.close()
    }
}

/** The server program as a process. */
class Server {
    private val http = HttpClient.newHttpClient()
    private val port = freePort()
    private val opsPort = freePort()
    private val dir: File = Files.createTempDirectory("parley-kt-").toFile()
    private val log = File(dir, "log")
    private var process: Process? = null
    val link = Link(port)

    /** Where clients reach it: through the link. */
    val url: String get() = "http://127.0.0.1:${link.port}"

    init {
        // PostgreSQL's own user goes through it.
        Files.setPosixFilePermissions(dir.toPath(), PosixFilePermissions.fromString("rwxr-xr-x"))
        restart()
    }

    /** Starts it (again) on the same ports and data, and waits until it is ready. */
    fun restart() {
        val bin = System.getenv("PARLEY_BIN") ?: error("PARLEY_BIN must name the server program")
        val builder = ProcessBuilder(bin, "run").redirectOutput(ProcessBuilder.Redirect.DISCARD).redirectError(log)
        builder.environment().putAll(
            mapOf(
                "PARLEY_LISTEN" to "127.0.0.1:$port",
                "PARLEY_ADMIN_LISTEN" to "127.0.0.1:$opsPort",
                "PARLEY_DATA_DIR" to File(dir, "data").path,
                "PARLEY_ADMIN_KEY" to ADMIN_KEY,
                "PARLEY_HEARTBEAT" to "500ms",
            ),
        )
        val started = builder.start()
        process = started
        val end = System.nanoTime() + TimeUnit.SECONDS.toNanos(120)
        while (true) {
            check(started.isAlive && System.nanoTime() < end) { "the server did not start:\n${log.readText().takeLast(4000)}" }
            if (ready()) return
            Thread.sleep(50)
        }
    }

    private fun ready(): Boolean = try {
        val request = HttpRequest.newBuilder(URI("http://127.0.0.1:$opsPort/readyz")).build()
        http.send(request, HttpResponse.BodyHandlers.discarding()).statusCode() == 200
    } catch (_: IOException) {
        false
    }

    /** Ends it as a crash would. */
    fun kill() {
        process?.destroyForcibly()?.waitFor()
    }

    fun end() {
        link.end()
        process?.destroy()
        if (process?.waitFor(30, TimeUnit.SECONDS) != true) kill()
        dir.deleteRecursively()
    }

    /** A call of the API as any program makes it, past the link. */
    fun call(method: String, json: String, token: String = ADMIN_KEY): String {
        val request = HttpRequest.newBuilder(URI("http://127.0.0.1:$port/parley.v1.$method"))
            .header("Content-Type", "application/json")
            .header("Authorization", "Bearer $token")
            .POST(HttpRequest.BodyPublishers.ofString(json))
            .build()
        val response = http.send(request, HttpResponse.BodyHandlers.ofString())
        check(response.statusCode() == 200) { "$method: ${response.statusCode()} ${response.body()}" }
        return response.body()
    }

    /** A token for a device, which is made if it is new. */
    fun token(userId: String, deviceId: String): String {
        val answer = call("AdminService/CreateToken", """{"userId":"$userId","deviceId":"$deviceId"}""")
        return Regex("\"token\"\\s*:\\s*\"([^\"]+)\"").find(answer)!!.groupValues[1]
    }
}

private fun freePort(): Int = ServerSocket(0).use { it.localPort }
