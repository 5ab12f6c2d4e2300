package im.parley.client

import java.nio.ByteBuffer
import java.security.MessageDigest
import java.security.SecureRandom
import java.util.UUID

private val random = SecureRandom()

/** The namespace of direct sessions' ids. */
private val namespace = UUID.fromString("8f1d3c5a-2f5e-5c0b-9f53-6f2d5b1a7e90")

/** A version 7 UUID (RFC 9562): time first, so that ids made one after the other lie together in an index. */
internal fun uuidv7(nowMs: Long): String {
    val bits = ByteBuffer.allocate(16).also { random.nextBytes(it.array()) }
    val high = (nowMs shl 16) or 0x7000L or (bits.getLong(0) and 0xfffL)
    val low = (bits.getLong(8) and 0x3fffffffffffffffL) or Long.MIN_VALUE
    return UUID(high, low).toString()
}

/**
 * The id of the direct session of two users, as the server derives it: a version 5 UUID over both ids in byte order, each
 * after its length.
 */
internal fun directSessionId(a: String, b: String): String {
    val sha1 = MessageDigest.getInstance("SHA-1")
    sha1.update(ByteBuffer.allocate(16).putLong(namespace.mostSignificantBits).putLong(namespace.leastSignificantBits).array())
    for (id in listOf(a.toByteArray(), b.toByteArray()).sortedWith(::compareUnsigned)) {
        sha1.update(id.size.toByte())
        sha1.update(id)
    }
    val name = ByteBuffer.wrap(sha1.digest())
    val high = (name.getLong(0) and 0xf000L.inv()) or 0x5000L
    val low = (name.getLong(8) and 0x3fffffffffffffffL) or Long.MIN_VALUE
    return UUID(high, low).toString()
}

private fun compareUnsigned(a: ByteArray, b: ByteArray): Int {
    for (i in 0 until minOf(a.size, b.size)) if (a[i] != b[i]) return (a[i].toInt() and 255) - (b[i].toInt() and 255)
    return a.size - b.size
}
