package im.parley.client

import kotlin.math.min
import kotlin.random.Random
import kotlin.time.Duration
import kotlin.time.Duration.Companion.milliseconds
import kotlin.time.Duration.Companion.seconds

/** Decides how long to wait before the next try. */
public fun interface ReconnectPolicy {
    /**
     * The pause before the next try. A longer hint of the server is followed instead.
     *
     * @param attempt how many tries have failed since the last success, from 0
     * @param error why the last one failed; always a retryable error
     */
    public fun delay(attempt: Int, error: ParleyException): Duration
}

/**
 * The default policy: a random part of a bound that doubles with every failure ("full jitter"), so that many clients do
 * not come back at once.
 *
 * @param base the bound of the first pause
 * @param max the bound that no pause exceeds
 * @param random where chance comes from
 */
public fun fullJitter(base: Duration = 200.milliseconds, max: Duration = 10.seconds, random: Random = Random.Default): ReconnectPolicy =
    ReconnectPolicy { attempt, _ -> minOf(max, base * (1L shl min(attempt, 30)).toDouble()) * random.nextDouble() }
