package im.parley.client

import java.io.File
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertTrue

/** Whatever is public says what it is. Explicit API mode has all of it say `public`, but for what a data class holds. */
class KDocTest {
    private val held = Regex("(?<!override )(?<!private )(?<!internal )\\bva[lr] (\\w+):")
    private val source = File("src/main/kotlin/im/parley/client")

    /** The public declarations of a file, each with whether it has KDoc of its own, or is named by that of its class. */
    private fun declarations(file: File): Map<String, Boolean> {
        val found = LinkedHashMap<String, Boolean>()
        val lines = file.readLines()
        var doc = "" // the last KDoc
        var isAbove = false // nothing but annotations between it and the line
        var holds = false // among what the constructor of a data class takes
        for ((i, line) in lines.withIndex()) {
            val text = line.trim()
            when {
                text.startsWith("/**") || (text.startsWith("*") && isAbove) -> {
                    doc = if (text.startsWith("/**")) text else "$doc\n$text"
                    isAbove = true
                    continue
                }
                text.startsWith("@") -> continue
            }
            val name = held.find(text)?.groupValues?.get(1)
            if (text.startsWith("public ") && "override " !in text && "constructor(" !in text.substringBefore("class")) {
                found["${file.name}:${i + 1} $text"] = isAbove || (name != null && "@property $name " in doc)
            }
            holds = holds || "data class " in text
            if (holds) held.findAll(text).forEach { found["${file.name}:${i + 1} ${it.groupValues[1]}"] = "@property ${it.groupValues[1]} " in doc }
            if (')' in text) holds = false
            isAbove = false
        }
        return found
    }

    @Test
    fun `every public declaration has KDoc`() {
        val all = source.listFiles { file ->
            file.extension == "kt"
        }.orEmpty().sorted().map(::declarations).fold(emptyMap(), Map<String, Boolean>::plus)
        assertEquals(emptySet(), all.filterValues { !it }.keys)
        assertTrue(all.size > 200, "${all.size} declarations")
    }
}
