package im.parley.contract

import im.parley.client.ClientOptions
import im.parley.client.FileStore
import im.parley.client.MemberRole
import im.parley.client.OwnSettings
import im.parley.client.ParleyClient
import im.parley.client.Protocol
import im.parley.client.Recorder
import im.parley.client.RelationKind
import im.parley.client.SendResult
import im.parley.client.Session
import im.parley.client.SessionSettings
import im.parley.client.fullJitter
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.CoroutineStart
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.cancel
import kotlinx.coroutines.launch
import java.io.File
import kotlin.time.Duration.Companion.milliseconds

/** A device that is worked by calls: each is one step of a scenario, and answers with plain values. */
internal class Worked(private val stores: File) {
    private var scope = CoroutineScope(Dispatchers.Default)
    private var recorder = Recorder()
    private var opened: ParleyClient? = null
    private var watched: List<String> = emptyList()
    private var store: File? = null
    private val client: ParleyClient get() = opened ?: error("the device is not open")

    /** Does what a call says; the answer consists of maps, lists, texts, numbers and flags. */
    suspend fun work(what: String, with: Args): Any? = when (what) {
        "open" -> open(with)
        "start" -> done { client.start() }
        "stop" -> done { client.stop() }
        "close" -> done { close() }
        "direct" -> client.direct(with.text("user")).sessionId
        "group" -> client.createGroup(with.texts("members"), settings(with)).sessionId
        "devices" -> client.devices().map { it.deviceId }.sorted()
        "revokeDevice" -> done { client.revokeDevice(with.text("device")) }
        "relations" -> client.relations(RelationKind.valueOf(upper(with.text("kind")))).map { it.userId }.sorted()
        "block" -> done { client.block(with.text("user")) }
        "unblock" -> done { client.unblock(with.text("user")) }
        "watchPresence" -> done {
            watched = with.texts("users")
            client.watchPresence(watched)
        }
        "stored" -> done { client.stored() }
        "presence" -> client.presence(with.text("user")).value?.isOnline
        else -> on(client.session(with.text("session")), what, with)
    }

    private suspend fun on(session: Session, what: String, with: Args): Any? = when (what) {
        "send" -> done { for (body in with.texts("bodies")) session.send(body) }
        "sendAndWait" -> sendAndWait(session, with)
        "retry" -> done { session.messages.value.filter { it.failure != null }.forEach { session.retry(it.messageId) } }
        "discard" -> done { session.messages.value.filter { it.failure != null }.forEach { session.discard(it.messageId) } }
        "recall" -> done { session.recall(with.number("seq")) }
        "markRead" -> done { session.markRead(with.numberOrNull("upToSeq") ?: Long.MAX_VALUE) }
        "markUnread" -> done { session.markUnread() }
        "deleteForMe" ->
            done { with.numberOrNull("upToSeq")?.let { session.deleteForMe(it) } ?: session.deleteForMe(with.numbers("seqs")) }
        "readers" -> session.readers(with.number("seq")).sorted()
        "loadOlder" -> session.loadOlder(with.number("limit").toInt())
        "loadMembers" -> done { session.loadMembers() }
        "setTyping" -> done { session.setTyping(with.flagOrNull("isTyping") ?: true) }
        "addMembers" -> done { session.addMembers(with.texts("users")) }
        "removeMember" -> done { session.removeMember(with.text("user")) }
        "setMember" -> done { session.setMember(with.text("user"), role(with, "role"), with.flagOrNull("isMuted")) }
        "leave" -> done { session.leave() }
        "update" -> done { session.update(settings(with)) }
        "updateOwn" ->
            done { session.updateOwn(OwnSettings(with.flagOrNull("isPinned"), with.flagOrNull("isArchived"), with.flagOrNull("notificationsMuted"))) }
        "look" -> look(client, recorder, session, watched)
        "kept" -> kept(session)
        else -> error("no such call: $what")
    }

    private fun open(with: Args): Any? {
        scope = CoroutineScope(Dispatchers.Default)
        recorder = Recorder()
        watched = emptyList()
        store = with.textOrNull("store")?.let { File(stores, it) }
        val tokens = ArrayDeque(with.texts("tokens"))
        val made = ParleyClient(
            ClientOptions(
                baseUrl = with.text("baseUrl"),
                token = { if (tokens.size > 1) tokens.removeFirst() else tokens.first() },
                store = store?.let { FileStore(it) },
                reconnect = fullJitter(20.milliseconds, 400.milliseconds),
                protocol = if (with.flagOrNull("grpc") == true) Protocol.GRPC else Protocol.CONNECT,
                maxBacklog = with.numberOrNull("maxBacklog")?.toInt() ?: 0,
                windowSize = with.numberOrNull("windowSize")?.toInt() ?: 1000,
            ),
            scope,
        )
        val into = recorder
        scope.launch(start = CoroutineStart.UNDISPATCHED) { into.record(made) }
        made.start()
        opened = made
        return null
    }

    // What the store has of a session, read from a copy as a new client would.
    private suspend fun kept(session: Session): List<String> {
        val copy = File.createTempFile("kept", null, stores)
        try {
            store?.copyTo(copy, overwrite = true) ?: error("the device has no store")
            val reader = FileStore(copy)
            val state = reader.load(100)
            reader.close()
            val log = state.sessions.firstOrNull { it.session.sessionId == session.sessionId }?.messages.orEmpty()
            return (log + state.outbox.map { it.message }.filter { it.sessionId == session.sessionId }).map(::entry)
        } finally {
            copy.delete()
        }
    }

    private suspend fun close() {
        opened?.close()
        scope.cancel()
        opened = null
    }

    private suspend fun sendAndWait(session: Session, with: Args): List<Long> {
        val replyTo = with.numberOrNull("replyToSeq")
        return with.texts("bodies").map { session.send(it, replyToSeq = replyTo) }.map { outgoing ->
            when (val result = outgoing.result()) {
                is SendResult.Sent -> result.message.seq
                is SendResult.Refused -> throw result.error
            }
        }
    }

    private fun settings(with: Args) = SessionSettings(
        title = with.textOrNull("title"),
        historyVisible = with.flagOrNull("historyVisible"),
        sendRole = role(with, "sendRole"),
    )

    private fun role(with: Args, name: String): MemberRole? = with.textOrNull(name)?.let { MemberRole.valueOf(it.uppercase()) }

    private inline fun done(fn: () -> Unit): Any? {
        fn()
        return null
    }
}

private fun upper(camel: String): String = camel.replace(Regex("[A-Z]")) { "_" + it.value }.uppercase()
