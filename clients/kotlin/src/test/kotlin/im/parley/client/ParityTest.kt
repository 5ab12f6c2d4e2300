package im.parley.client

import java.io.File
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertTrue

/** The two SDKs have the same names, but for those that the README lists. */
class ParityTest {
    private val typescript = File("../typescript/src")

    /** The names in the first column of the README's table of differences. */
    private val differing: Set<String> = File("README.md").readText().substringAfter("| in TypeScript |").substringBefore("\n\n")
        .lines().drop(2).map { it.substringAfter('`').substringBefore('`') }.toSet()

    private fun membersOf(file: String, type: String): Set<String> =
        File(typescript, file).readText().substringAfter("export class $type {").substringBefore("\n}\n").lines()
            .mapNotNull { Regex("^ {2}(?:readonly |async )*([a-zA-Z]+)[(:]").find(it)?.groupValues?.get(1) }
            .filter { it != "constructor" }.toSet()

    private fun membersOf(type: Class<*>): Set<String> = type.methods.flatMap { method ->
        val name = method.name.substringBefore('-') // what takes a Duration has a longer name underneath
        listOf(name, name.removePrefix("get").replaceFirstChar(Char::lowercase))
    }.toSet()

    private fun compare(ofTypescript: Set<String>, ofKotlin: Set<String>) =
        assertEquals(emptySet(), ofTypescript - ofKotlin - differing, "in TypeScript, and neither here nor in the README's table")

    @Test
    fun `clients and sessions do the same`() {
        val client = membersOf("client.ts", "ParleyClient")
        assertTrue("createGroup" in client && "connection" in client, "$client")
        compare(client, membersOf(ParleyClient::class.java))
        val session = membersOf("session.ts", "Session")
        assertTrue("send" in session && "messages" in session, "$session")
        compare(session, membersOf(Session::class.java))
    }

    @Test
    fun `what is exported has the same names`() {
        val exported = File(typescript, "index.ts").readLines().filter { !it.trimStart().startsWith("*") }.joinToString("\n")
            .let { text -> Regex("\\{([^}]*)\\}").findAll(text).flatMap { it.groupValues[1].split(',') } }
            .map { it.trim().removePrefix("type ") }.filter { it.isNotEmpty() }.toSet()
        val here = exported.filterTo(HashSet()) { name ->
            runCatching { Class.forName("im.parley.client.$name") }.isSuccess ||
                membersOf(Class.forName("im.parley.client.ReconnectKt")).contains(name)
        }
        assertTrue(here.size > 30, "$here")
        compare(exported, here)
        val all = exported + membersOf("client.ts", "ParleyClient") + membersOf("session.ts", "Session")
        assertEquals(emptySet(), differing.filterTo(HashSet()) { it !in all || it in here }, "in the README's table without a difference")
    }

    @Test
    fun `events are the same`() {
        val union = File(typescript, "model.ts").readText().substringAfter("export type ClientEvent =").substringBefore(";\n\n")
        val types = Regex("type: \"([a-zA-Z]+)\"").findAll(union).map { it.groupValues[1] }.toSet()
        assertTrue(types.size > 10, "$types")
        for (type in types) {
            val name = type.replaceFirstChar(Char::uppercase)
            assertTrue(ClientEvent::class.java.isAssignableFrom(Class.forName("im.parley.client.${name}Event")), name)
        }
    }

    @Test
    fun `errors have the same reasons`() {
        val reasons = File(typescript, "errors.ts").readText().substringAfter("export type ErrorReason =").substringBefore(";")
        val named = Regex("\"([A-Z_]+)\"").findAll(reasons).map { it.groupValues[1] }.toSet()
        assertEquals(named, ErrorReason.entries.map { it.name }.toSet())
    }

    @Test
    fun `the quick start in the README compiles`() {
        val block = File("README.md").readText().substringAfter("```kotlin\n").substringBefore("```").trim().lines()
        val compiled = File("src/test/kotlin/im/parley/sample/QuickStart.kt").readLines().map { it.trim() }
        assertTrue(block.size in 8..12, "${block.size} lines")
        for (line in block) assertTrue(line.trim() in compiled, "not in QuickStart.kt: $line")
    }
}
