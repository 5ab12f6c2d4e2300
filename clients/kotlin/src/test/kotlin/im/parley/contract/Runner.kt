// Works Kotlin devices for the contract between the clients: calls come as lines of JSON, answers go out as such.
// clients/contract/README.md is the description of both.
package im.parley.contract

import com.squareup.moshi.JsonAdapter
import com.squareup.moshi.Moshi
import im.parley.client.ParleyException
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import java.io.File
import java.util.concurrent.ConcurrentHashMap
import kotlin.system.exitProcess

// Comes with connect-kotlin.
private val json: JsonAdapter<Any> = Moshi.Builder().build().adapter(Any::class.java).serializeNulls()

/** What a call says beside its name, typed. */
internal class Args(private val of: Map<*, *>) {
    fun text(name: String): String = of[name] as? String ?: error("$name is missing")

    fun textOrNull(name: String): String? = of[name] as? String

    fun texts(name: String): List<String> = (of[name] as? List<*>).orEmpty().map { it as String }

    fun number(name: String): Long = (of[name] as? Double)?.toLong() ?: error("$name is missing")

    fun numberOrNull(name: String): Long? = (of[name] as? Double)?.toLong()

    fun numbers(name: String): List<Long> = (of[name] as? List<*>).orEmpty().map { (it as Double).toLong() }

    fun flagOrNull(name: String): Boolean? = of[name] as? Boolean

    fun has(name: String): Boolean = of[name] != null
}

/** `Runner DIRECTORY`: stores are files in the directory. Ends with its input. */
public fun main(args: Array<String>) {
    val stores = File(args[0])
    val devices = ConcurrentHashMap<String, Worked>()
    val out = System.out.bufferedWriter()
    fun answer(id: Long, how: String, what: Any?) = synchronized(out) {
        out.appendLine(json.toJson(mapOf("id" to id, how to what)))
        out.flush()
    }
    runBlocking(Dispatchers.Default) {
        for (line in generateSequence(::readLine)) {
            val call = json.fromJson(line) as Map<*, *>
            val id = (call["id"] as Double).toLong()
            launch {
                try {
                    val device = devices.getOrPut(call["device"] as String) { Worked(stores) }
                    answer(id, "ok", device.work(call["do"] as String, Args(call["with"] as? Map<*, *> ?: emptyMap<Any, Any>())))
                } catch (e: CancellationException) {
                    throw e
                } catch (e: ParleyException) {
                    answer(id, "refused", mapOf("reason" to e.reason.name, "message" to e.message.orEmpty()))
                } catch (e: Exception) {
                    answer(id, "failed", e.stackTraceToString())
                }
            }
        }
    }
    exitProcess(0) // clients that were left open have threads
}
