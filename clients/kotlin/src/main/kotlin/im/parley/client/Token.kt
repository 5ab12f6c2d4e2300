package im.parley.client

import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Deferred
import kotlinx.coroutines.async
import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.withContext
import okio.ByteString.Companion.decodeBase64

/** Gives a token for this device; called again whenever a new one is needed. May be slow, may block, may fail. */
public fun interface TokenProvider {
    /** A new token. */
    public suspend fun token(): String
}

/** A token is replaced when this share of its life is over, measured from when it came, so that no clock is trusted. */
private const val USE_SHARE = 0.9

/** Keeps the token: one request to the provider at a time, a new token when the old one is near its end or refused. */
internal class Credential(
    private val scope: CoroutineScope,
    private val provider: TokenProvider,
    private val blocking: CoroutineDispatcher,
    private val clock: Clock,
) {
    private var token: String? = null
    private var freshUntil = 0.0
    private var asking: Deferred<String>? = null

    /** A token that is likely good. Fails with NO_TOKEN, or as the provider says by a [ParleyException]. */
    suspend fun get(): String {
        token?.let { if (clock.elapsedMs() < freshUntil) return it }
        val ask = asking?.takeIf { it.isActive } ?: scope.async { ask() }.also { asking = it }
        return try {
            ask.await()
        } catch (e: CancellationException) {
            currentCoroutineContext().ensureActive() // else it is the client that ended
            throw ParleyException(ErrorReason.STOPPED, "the client was closed", cause = e)
        }
    }

    /** Notes that a token was refused. */
    fun reject(refused: String) {
        if (token == refused) token = null
    }

    private suspend fun ask(): String {
        val given = try {
            withContext(blocking) { provider.token() }
        } catch (e: ParleyException) {
            throw e
        } catch (e: Exception) {
            currentCoroutineContext().ensureActive() // else it is the provider's own, such as a timeout
            throw ParleyException(ErrorReason.NO_TOKEN, "the token provider failed", cause = e)
        }
        if (given.isEmpty()) throw ParleyException(ErrorReason.NO_TOKEN, "the token provider gave no token")
        val claims = claimsOf(given)
        val issued = numberIn(claims, "iat")
        val expires = numberIn(claims, "exp")
        val lifeMs = if (issued != null && expires != null) (expires - issued) * 1000.0 else Double.POSITIVE_INFINITY
        token = given
        freshUntil = clock.elapsedMs() + maxOf(lifeMs * USE_SHARE, 0.0)
        return given
    }
}

/** Who a token speaks for; null when it does not say. */
internal fun identityOf(token: String): Identity? {
    val claims = claimsOf(token)
    return Identity(stringIn(claims, "sub") ?: return null, stringIn(claims, "did") ?: return null)
}

private fun claimsOf(token: String): String = token.split('.').getOrNull(1)?.decodeBase64()?.utf8().orEmpty()

// Claims are one flat JSON object that the server has made; four of them are read, so that no JSON library is needed.
private fun stringIn(json: String, name: String): String? =
    Regex("\"$name\"\\s*:\\s*\"((?:[^\"\\\\]|\\\\.)*)\"").find(json)?.groupValues?.get(1)?.let(::unescaped)

private fun numberIn(json: String, name: String): Long? = Regex("\"$name\"\\s*:\\s*(\\d+)").find(json)?.groupValues?.get(1)?.toLongOrNull()

private fun unescaped(s: String): String = Regex("\\\\(u([0-9a-fA-F]{4})|.)").replace(s) { m ->
    when (val c = m.groupValues[1][0]) {
        'u' -> m.groupValues[2].toInt(16).toChar().toString()
        'n' -> "\n"
        't' -> "\t"
        'r' -> "\r"
        'b' -> "\b"
        'f' -> "\u000c"
        else -> c.toString()
    }
}
