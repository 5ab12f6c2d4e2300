package im.parley.sample

import im.parley.client.*
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.launch

/** The README's quick start, which a test holds against this file. */
internal suspend fun quickStart(scope: CoroutineScope, fetchMyToken: suspend () -> String) {
    val client = ParleyClient(baseUrl = "http://127.0.0.1:8080") { fetchMyToken() }
    client.start()
    scope.launch { client.connection.collect { println("$it ${it.error?.reason ?: ""}") } }
    val bob = client.direct("bob")
    scope.launch { bob.messages.collect { list -> println(list.map { it.text }) } }
    bob.send("hi bob").result()
    bob.markRead()
    client.close()
}
