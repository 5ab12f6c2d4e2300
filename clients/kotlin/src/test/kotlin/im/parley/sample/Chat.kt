package im.parley.sample

import im.parley.client.ClientOptions
import im.parley.client.FileStore
import im.parley.client.MessageEvent
import im.parley.client.MessageStatus
import im.parley.client.ParleyClient
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.cancelChildren
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withContext
import java.io.File
import kotlin.system.exitProcess

/**
 * A chat in the console: `PARLEY_URL`, `TOKEN` (what `make run` prints) and the user to talk to as the argument. With
 * `STORE` a file keeps what was said and what waits to be sent. `/recall SEQ` takes a message back, `/older` shows more.
 */
public fun main(args: Array<String>): Unit = runBlocking {
    val peer = args.firstOrNull() ?: usage()
    val token = System.getenv("TOKEN") ?: usage()
    val options = ClientOptions(
        baseUrl = System.getenv("PARLEY_URL") ?: "http://127.0.0.1:8080",
        token = { token },
        store = System.getenv("STORE")?.let { FileStore(File(it)) },
        onError = { System.err.println("-- ${it.reason}: ${it.message}") },
    )
    val client = ParleyClient(options)
    val bob = client.direct(peer)
    launch { client.connection.collect { println("-- $it") } }
    launch { bob.typing.collect { if (it.isNotEmpty()) println("-- $it types") } }
    launch(start = CoroutineStart.UNDISPATCHED) {
        client.events.collect { event ->
            if (event !is MessageEvent || event.message.sessionId != bob.sessionId) return@collect
            println("${event.message.seq} ${event.message.senderId}: ${event.message.text ?: event.message.type}")
            bob.markRead(event.message.seq)
        }
    }
    client.start()
    while (true) {
        val line = withContext(Dispatchers.IO) { readlnOrNull() } ?: break
        when {
            line.startsWith("/recall ") -> line.substringAfter(' ').toLongOrNull()?.let { bob.recall(it) }
            line == "/older" -> {
                bob.loadOlder()
                for (m in bob.messages.value) println("${m.seq} ${m.senderId}: ${m.text ?: m.type}")
            }
            line.isNotBlank() -> bob.send(line)
        }
    }
    val waiting = bob.messages.value.count { it.status == MessageStatus.PENDING }
    if (waiting > 0) println("-- $waiting not sent yet")
    client.close()
    coroutineContext.cancelChildren()
}

private fun usage(): Nothing {
    System.err.println("TOKEN=... [PARLEY_URL=...] [STORE=file] chat USER")
    exitProcess(2)
}
