package im.parley.client

/**
 * Time as the SDK reads it; tests have their own.
 *
 * @property elapsedMs never goes back
 * @property nowMs since 1970
 */
internal class Clock(val elapsedMs: () -> Long = { System.nanoTime() / 1_000_000 }, val nowMs: () -> Long = System::currentTimeMillis)
