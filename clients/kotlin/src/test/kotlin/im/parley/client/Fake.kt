package im.parley.client

import com.connectrpc.Code
import com.connectrpc.ConnectErrorDetail
import com.connectrpc.ConnectException
import com.connectrpc.Headers
import com.connectrpc.MethodSpec
import com.connectrpc.ProtocolClientInterface
import com.connectrpc.ResponseMessage
import com.connectrpc.ServerOnlyStreamInterface
import com.google.protobuf.Duration
import im.parley.v1.AckRequest
import im.parley.v1.AckResponse
import im.parley.v1.CaughtUp
import im.parley.v1.ErrorDetail
import im.parley.v1.Event
import im.parley.v1.GetSessionResponse
import im.parley.v1.Heartbeat
import im.parley.v1.ListMembersResponse
import im.parley.v1.ListMessagesRequest
import im.parley.v1.ListMessagesResponse
import im.parley.v1.ListSessionsResponse
import im.parley.v1.MarkReadResponse
import im.parley.v1.Member
import im.parley.v1.Membership
import im.parley.v1.Opened
import im.parley.v1.SendMessageRequest
import im.parley.v1.SendMessageResponse
import im.parley.v1.Session
import im.parley.v1.SessionKind
import im.parley.v1.SubscribeRequest
import im.parley.v1.SubscribeResponse
import im.parley.v1.WatchPresenceRequest
import im.parley.v1.WatchPresenceResponse
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.Deferred
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.channels.ReceiveChannel
import okio.ByteString.Companion.toByteString
import java.util.Base64
import im.parley.v1.ErrorReason as PbReason
import im.parley.v1.Message as PbMessage
import im.parley.v1.MessageType as PbType
import im.parley.v1.Presence as PbPresence

const val GROUP = "11111111-1111-4111-8111-111111111111"

/** What a token says; nothing is signed. */
fun tokenFor(user: String, device: String, more: String = ""): String {
    val claims = """{"sub":"$user","did":"$device"$more}"""
    return "e30." + Base64.getUrlEncoder().withoutPadding().encodeToString(claims.toByteArray()) + ".x"
}

fun refusal(reason: PbReason, code: Code = Code.UNAVAILABLE): ConnectException {
    val detail = ErrorDetail.newBuilder().setReason(reason).build().toByteArray().toByteString()
    return ConnectException(
        code,
        reason.name,
    ).withErrorDetails(LiteStrategy.errorDetailParser(), listOf(ConnectErrorDetail("parley.v1.ErrorDetail", detail)))
}

fun presenceOf(user: String): PbPresence = PbPresence.newBuilder().setUserId(user).setIsOnline(true).build()

/** A server in memory that holds one group, whose streams a test drives by hand. */
internal class Fake : ProtocolClientInterface {
    val log = ArrayList<PbMessage>()
    val streams = ArrayList<FakeStream>()
    val acks = ArrayList<AckRequest>()
    val sends = ArrayList<SendMessageRequest>()
    val tokens = ArrayList<String>()
    var epoch = "e1"

    /** Called before each call that is no stream, with its name; may wait. */
    var beforeCall: suspend (String) -> Unit = {}

    /** Called before each send; may throw, before or after it is committed. */
    var beforeSend: (SendMessageRequest) -> Unit = {}
    var afterSend: (SendMessageRequest) -> Unit = {}

    /** Why the next streams are refused. */
    val refuseStreams = ArrayDeque<ConnectException>()

    val stream: FakeStream get() = streams.last()

    fun services() = Services.of(this)

    /** Who may be seen, and is online. */
    val online = HashSet<String>()
    val watched = ArrayList<List<String>>()

    /** The group's members beside alice, and how far the server says that they have read. */
    val members = LinkedHashMap<String, Long>()

    fun add(sender: String, body: String, id: String = "m${log.size + 1}"): PbMessage {
        val m = PbMessage.newBuilder().setSessionId(GROUP).setSeq(log.size + 1L).setMessageId(id).setSenderId(sender)
            .setType(PbType.MESSAGE_TYPE_TEXT).setContent(TextContent(body).toPb()).build()
        log += m
        return m
    }

    private fun session(): Session = Session.newBuilder().setSessionId(GROUP).setKind(SessionKind.SESSION_KIND_GROUP)
        .setHeadSeq(log.size.toLong()).setMembership(Membership.newBuilder().setJoinedSeq(1)).build()

    private fun send(request: SendMessageRequest): SendMessageResponse {
        sends += request
        beforeSend(request)
        val known = log.firstOrNull { it.messageId == request.messageId }
        val m = known ?: add("alice", request.content.text.body, request.messageId)
        afterSend(request)
        return SendMessageResponse.newBuilder().setSessionId(GROUP).setMessageId(m.messageId).setSeq(m.seq).setEpoch(epoch).build()
    }

    @Suppress("UNCHECKED_CAST")
    override suspend fun <Input : Any, Output : Any> unary(
        request: Input,
        headers: Headers,
        methodSpec: MethodSpec<Input, Output>,
    ): ResponseMessage<Output> {
        tokens += headers.getValue("Authorization").first()
        beforeCall(methodSpec.path.substringAfterLast('/'))
        return try {
            val response: Any = when (methodSpec.path.substringAfterLast('/')) {
                "ListSessions" -> ListSessionsResponse.newBuilder().addSessions(session()).build()
                "GetSession" -> GetSessionResponse.newBuilder().setSession(session()).build()
                "SendMessage" -> send(request as SendMessageRequest)
                "Ack" -> AckResponse.getDefaultInstance().also { acks += request as AckRequest }
                "WatchPresence" -> {
                    val ids = (request as WatchPresenceRequest).userIdsList.toList().also { watched += it }
                    WatchPresenceResponse.newBuilder().addAllPresences(ids.filter { it in online }.map(::presenceOf)).build()
                }
                "ListMembers" -> {
                    val all = members.map { (user, read) -> Member.newBuilder().setUserId(user).setReadSeq(read).build() }
                    ListMembersResponse.newBuilder().addAllMembers(all).build()
                }
                "MarkRead" -> MarkReadResponse.getDefaultInstance()
                "ListMessages" -> {
                    val after = (request as ListMessagesRequest).afterSeq
                    ListMessagesResponse.newBuilder().addAllMessages(log.filter { it.seq > after }.take(request.limit)).build()
                }
                else -> throw ConnectException(Code.UNIMPLEMENTED, methodSpec.path)
            }
            ResponseMessage.Success(response as Output, emptyMap(), emptyMap())
        } catch (e: ConnectException) {
            ResponseMessage.Failure(e, emptyMap(), emptyMap())
        }
    }

    @Suppress("UNCHECKED_CAST")
    override suspend fun <Input : Any, Output : Any> serverStream(
        headers: Headers,
        methodSpec: MethodSpec<Input, Output>,
    ): ServerOnlyStreamInterface<Input, Output> {
        tokens += headers.getValue("Authorization").first()
        return FakeStream(refuseStreams.removeFirstOrNull()).also { streams += it } as ServerOnlyStreamInterface<Input, Output>
    }

    override fun <Input : Any, Output : Any> unary(
        request: Input,
        headers: Headers,
        methodSpec: MethodSpec<Input, Output>,
        onResult: (ResponseMessage<Output>) -> Unit,
    ) = throw UnsupportedOperationException()

    override fun <Input : Any, Output : Any> unaryBlocking(request: Input, headers: Headers, methodSpec: MethodSpec<Input, Output>) =
        throw UnsupportedOperationException()

    override suspend fun <Input : Any, Output : Any> clientStream(headers: Headers, methodSpec: MethodSpec<Input, Output>) =
        throw UnsupportedOperationException()

    override suspend fun <Input : Any, Output : Any> stream(headers: Headers, methodSpec: MethodSpec<Input, Output>) =
        throw UnsupportedOperationException()
}

/** One stream, driven by hand. */
class FakeStream(refused: ConnectException?) : ServerOnlyStreamInterface<SubscribeRequest, SubscribeResponse> {
    private val responses = Channel<SubscribeResponse>(1)
    lateinit var request: SubscribeRequest

    init {
        if (refused != null) responses.close(refused)
    }

    suspend fun say(vararg events: Event) = responses.send(SubscribeResponse.newBuilder().addAllEvents(events.toList()).build())

    suspend fun say(messages: List<PbMessage>) = say(*messages.map { Event.newBuilder().setMessage(it).build() }.toTypedArray())

    /** The stream's first event, with a heartbeat of 20 s, and caught up. */
    suspend fun open(epoch: String = "e1") = say(
        Event.newBuilder().setOpened(Opened.newBuilder().setEpoch(epoch).setHeartbeatInterval(Duration.newBuilder().setSeconds(20))).build(),
        Event.newBuilder().setCaughtUp(CaughtUp.getDefaultInstance()).build(),
    )

    suspend fun heartbeat() = say(Event.newBuilder().setHeartbeat(Heartbeat.getDefaultInstance()).build())

    fun end(error: ConnectException) {
        responses.close(error)
    }

    override fun responseChannel(): ReceiveChannel<SubscribeResponse> = responses

    override fun responseHeaders(): Deferred<Headers> = CompletableDeferred(emptyMap())

    override fun responseTrailers(): Deferred<Headers> = CompletableDeferred(emptyMap())

    override suspend fun sendAndClose(input: SubscribeRequest): Result<Unit> {
        request = input
        return Result.success(Unit)
    }

    override suspend fun receiveClose() {}

    override fun isReceiveClosed(): Boolean = false

    override fun isClosed(): Boolean = false
}
