package im.parley.client

import org.junit.jupiter.api.io.TempDir
import java.io.File
import kotlin.test.Test
import kotlin.test.assertEquals
import kotlin.test.assertTrue

/** What the build generates follows from what is in the repository, and from nothing else. */
class GeneratedTest {
    @TempDir
    lateinit var again: File

    private fun filesIn(dir: File): Map<String, File> =
        dir.walkTopDown().filter { it.isFile }.associateBy { it.relativeTo(dir).invariantSeparatorsPath }

    @Test
    fun `generating again gives the same bytes`() {
        val protoc = File("target/protoc").absoluteFile
        val script = if (File.separatorChar == '\\') "protoc-gen-connect-kotlin.bat" else "protoc-gen-connect-kotlin.sh"
        val command = listOf(
            "$protoc/protoc.exe",
            "-I$protoc/protos",
            "-I$protoc/imports",
            "--plugin=protoc-gen-connect-kotlin=$protoc/$script",
            "--java_out=lite:$again",
            "--kotlin_out=lite:$again",
            "--connect-kotlin_out=$again",
            "--connect-kotlin_opt=generateCallbackMethods=false,generateCoroutineMethods=true",
        )
        // In another order than the build's.
        val protos = filesIn(File("target/protoc/protos")).keys.sortedDescending()
        assertEquals(0, ProcessBuilder(command + protos).directory(File(protoc, "protos")).inheritIO().start().waitFor())
        val built = filesIn(File("target/generated-sources/protobuf"))
        val now = filesIn(again)
        assertTrue(built.size > 100, "${built.size} files")
        assertEquals(built.keys, now.keys)
        for ((name, file) in built) assertTrue(file.readBytes().contentEquals(now.getValue(name).readBytes()), name)
    }

    @Test
    fun `every version is pinned`() {
        val pom = File("pom.xml").readText()
        val own = pom.substringAfter("<properties>")
        val versions = Regex("<(?:version|[a-z.]+\\.version)>([^<]*)<").findAll(own).map { it.groupValues[1] }.toList()
        assertTrue(versions.size > 20, "$versions")
        for (v in versions) assertTrue(Regex("[0-9]+(\\.[0-9]+)+|\\$\\{[a-z.]+\\.version}").matches(v), v)
        // Each plugin and each artifact names its version, or one above it in the file does.
        val plugins = Regex("<plugin>.*?</plugin>", RegexOption.DOT_MATCHES_ALL).findAll(own).map { it.value }.toList()
        for (plugin in plugins) assertTrue("<version>" in plugin.substringBefore("<executions>"), plugin.take(200))
    }
}
