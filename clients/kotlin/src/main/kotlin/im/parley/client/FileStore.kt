package im.parley.client

import im.parley.client.internal.store.ChangeRecord
import im.parley.client.internal.store.OutgoingRecord
import im.parley.client.internal.store.SessionRecord
import im.parley.client.internal.store.changeRecord
import im.parley.client.internal.store.deviceRecord
import im.parley.client.internal.store.outgoingRecord
import im.parley.client.internal.store.positionRecord
import im.parley.client.internal.store.sessionRecord
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import kotlinx.coroutines.withContext
import java.io.DataInputStream
import java.io.DataOutputStream
import java.io.EOFException
import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.io.RandomAccessFile
import java.util.zip.CRC32

/** The first bytes of a file: what it is, and its version. */
private const val HEADER = 0x50_41_52_31 // PAR1

/** A longer record cannot be one. */
private const val MAX_RECORD = 64 shl 20

/**
 * A [Store] in one file: every change is appended as a record with a checksum and flushed to disk, so that a change is
 * there whole or not at all, whatever ends the process. A file that has grown to more than twice what it was after its
 * last rewriting (and 1 MiB) is written anew. What it holds is in memory too, so its bound is that of the SDK's
 * `storeSize`; for more than some hundred thousand messages a database is the better [Store].
 *
 * @param file where; its directory is made. Not to be used by two stores at once.
 */
public class FileStore internal constructor(private val file: File, private val io: CoroutineDispatcher) : Store {
    public constructor(file: File) : this(file, Dispatchers.IO)

    private val turn = Mutex()
    private var journal: Journal? = null

    override suspend fun load(messages: Int): StoredState = use { it.state.load(messages) }

    override suspend fun messagesBefore(sessionId: String, beforeSeq: Long, limit: Int): List<Message> =
        use { it.state.messagesBefore(sessionId, beforeSeq, limit) }

    override suspend fun write(change: StoreChange): Unit = use { it.write(change) }

    override suspend fun close(): Unit = withContext(io) {
        turn.withLock {
            journal?.close()
            journal = null
        }
    }

    private suspend fun <T> use(fn: (Journal) -> T): T = withContext(io) {
        turn.withLock { fn(journal ?: Journal(file).also { journal = it }) }
    }
}

/** The open file. After a failed write it is of no use. */
private class Journal(private val file: File) {
    val state = StoreState()
    private var out: FileOutputStream
    private var size = 0L
    private var sizeWhenNew: Long

    init {
        file.absoluteFile.parentFile?.mkdirs()
        size = if (file.exists()) replay() else 0
        sizeWhenNew = size
        if (size == 0L) rewrite()
        out = FileOutputStream(file, true)
    }

    fun write(change: StoreChange) {
        val record = bytesOf(change)
        out.write(record)
        out.fd.sync()
        state.apply(change)
        size += record.size
        if (size > maxOf(2 * sizeWhenNew, 1 shl 20)) {
            out.close()
            rewrite()
            out = FileOutputStream(file, true)
        }
    }

    fun close() = out.close()

    // Reads the records up to the first that is not whole, cuts the rest off, and returns the length of what holds.
    private fun replay(): Long {
        var good = 0L
        DataInputStream(file.inputStream().buffered()).use { input ->
            try {
                if (input.readInt() != HEADER) throw IOException("$file is no store of this version")
                good = 4
                while (true) {
                    val length = input.readInt()
                    val sum = input.readInt()
                    if (length !in 0..MAX_RECORD) break
                    val body = ByteArray(length).also(input::readFully)
                    if (sumOf(body) != sum) break
                    state.apply(ChangeRecord.parseFrom(body).toChange())
                    good += 8 + length
                }
            } catch (_: EOFException) {
                // a change that was being written
            }
        }
        if (good < file.length()) RandomAccessFile(file, "rw").use { it.setLength(good) }
        return good
    }

    // The new file takes the old one's place at once, or not at all.
    private fun rewrite() {
        val next = File(file.path + ".new")
        FileOutputStream(next).use { raw ->
            DataOutputStream(raw.buffered()).run {
                writeInt(HEADER)
                for (change in state.changes()) write(bytesOf(change))
                flush()
            }
            raw.fd.sync()
        }
        if (!next.renameTo(file) && !(file.delete() && next.renameTo(file))) throw IOException("$next could not be renamed")
        size = file.length()
        sizeWhenNew = size
    }

    private fun bytesOf(change: StoreChange): ByteArray {
        val body = change.toRecord().toByteArray()
        return java.nio.ByteBuffer.allocate(8 + body.size).putInt(body.size).putInt(sumOf(body)).put(body).array()
    }

    private fun sumOf(body: ByteArray): Int = CRC32().apply { update(body) }.value.toInt()
}

private fun StoreChange.toRecord(): ChangeRecord {
    val c = this
    return changeRecord {
        clear = c.clear
        dropMessages += c.dropMessages
        c.device?.let {
            device = deviceRecord {
                userId = it.identity.userId
                deviceId = it.identity.deviceId
                epoch = it.epoch
            }
        }
        sessions += c.sessions.map { it.toRecord() }
        dropSessions += c.dropSessions
        messages += c.messages.map { it.toPb() }
        erase += c.erase.map { it.toRecord() }
        trim += c.trim.map { it.toRecord() }
        outbox += c.outbox.map { it.toRecord() }
        dropOutbox += c.dropOutbox
    }
}

private fun StoredSession.toRecord(): SessionRecord {
    val s = this
    return sessionRecord {
        sessionId = s.sessionId
        s.info?.let { info = it.toPb() }
        s.shownSeq?.let { shownSeq = it }
        baseSeq = s.baseSeq
        countedSeq = s.countedSeq
        readSeqs += s.readSeqs
        deletedSeqs += s.deletedSeqs
        s.untoldReadSeq?.let { untoldReadSeq = it }
    }
}

private fun StoredPosition.toRecord() = positionRecord {
    sessionId = this@toRecord.sessionId
    seq = this@toRecord.seq
}

private fun StoredOutgoing.toRecord(): OutgoingRecord {
    val o = this
    return outgoingRecord {
        message = o.message.toPb()
        peerUserId = o.peerUserId.orEmpty()
        order = o.order
        o.message.failure?.let {
            failureReason = it.reason.name
            failureMessage = it.message
        }
    }
}

private fun ChangeRecord.toChange(): StoreChange = StoreChange(
    clear = clear,
    dropMessages = dropMessagesList.toList(),
    device = if (hasDevice()) StoredDevice(Identity(device.userId, device.deviceId), device.epoch) else null,
    sessions = sessionsList.map { it.toStored() },
    dropSessions = dropSessionsList.toList(),
    messages = messagesList.map { it.toMessage() },
    erase = eraseList.map { StoredPosition(it.sessionId, it.seq) },
    trim = trimList.map { StoredPosition(it.sessionId, it.seq) },
    outbox = outboxList.map { it.toStored() },
    dropOutbox = dropOutboxList.toList(),
)

private fun SessionRecord.toStored(): StoredSession = StoredSession(
    sessionId = sessionId,
    info = if (hasInfo()) info.toInfo() else null,
    shownSeq = if (hasShownSeq()) shownSeq else null,
    baseSeq = baseSeq,
    countedSeq = countedSeq,
    readSeqs = readSeqsList.toList(),
    deletedSeqs = deletedSeqsList.toList(),
    untoldReadSeq = if (hasUntoldReadSeq()) untoldReadSeq else null,
)

private fun OutgoingRecord.toStored(): StoredOutgoing {
    val failure = failureReason.takeIf { it.isNotEmpty() }?.let { name ->
        Failure(ErrorReason.entries.firstOrNull { it.name == name } ?: ErrorReason.UNSPECIFIED, failureMessage)
    }
    val status = if (failure == null) MessageStatus.PENDING else MessageStatus.FAILED
    return StoredOutgoing(message.toMessage().copy(status = status, failure = failure), peerUserId.ifEmpty { null }, order)
}
