package im.parley.client

import com.connectrpc.AnyError
import com.connectrpc.CODEC_NAME_PROTO
import com.connectrpc.Codec
import com.connectrpc.ConnectErrorDetail
import com.connectrpc.ErrorDetailParser
import com.connectrpc.ProtocolClientConfig
import com.connectrpc.ProtocolClientInterface
import com.connectrpc.SerializationStrategy
import com.connectrpc.impl.ProtocolClient
import com.connectrpc.okhttp.ConnectOkHttpClient
import com.connectrpc.protocols.NetworkProtocol
import com.connectrpc.simpleTimeouts
import com.google.protobuf.CodedInputStream
import com.google.protobuf.ExtensionRegistryLite
import com.google.protobuf.InvalidProtocolBufferException
import com.google.protobuf.MessageLite
import com.google.protobuf.Parser
import com.google.protobuf.WireFormat
import im.parley.v1.DeviceServiceClient
import im.parley.v1.DeviceServiceClientInterface
import im.parley.v1.MessageServiceClient
import im.parley.v1.MessageServiceClientInterface
import im.parley.v1.PresenceServiceClient
import im.parley.v1.PresenceServiceClientInterface
import im.parley.v1.RelationServiceClient
import im.parley.v1.RelationServiceClientInterface
import im.parley.v1.SessionServiceClient
import im.parley.v1.SessionServiceClientInterface
import im.parley.v1.StateServiceClient
import im.parley.v1.StateServiceClientInterface
import im.parley.v1.SyncServiceClient
import im.parley.v1.SyncServiceClientInterface
import kotlinx.coroutines.Dispatchers
import okhttp3.Dispatcher
import okhttp3.OkHttpClient
import okio.Buffer
import okio.BufferedSource
import okio.ByteString.Companion.toByteString
import java.util.concurrent.ConcurrentHashMap
import kotlin.reflect.KClass
import kotlin.time.Duration.Companion.seconds

/** How calls travel. */
public enum class Protocol {
    /** Connect, over HTTP/1.1 or HTTP/2. */
    CONNECT,

    /** gRPC, over HTTP/2; without TLS with prior knowledge. */
    GRPC,
}

/** The bound on calls that are no streams. A stream has none: its heartbeat tells whether it lives. */
private val callTimeout = 15.seconds

/** The services that the SDK uses. */
internal class Services(
    val messages: MessageServiceClientInterface,
    val sessions: SessionServiceClientInterface,
    val states: StateServiceClientInterface,
    val sync: SyncServiceClientInterface,
    val devices: DeviceServiceClientInterface,
    val relations: RelationServiceClientInterface,
    val presence: PresenceServiceClientInterface,
    private val onClose: () -> Unit,
) {
    /** Lets go of threads and connections. */
    fun close() = onClose()

    companion object {
        /** The services over a client of the protocol. */
        fun of(client: ProtocolClientInterface, onClose: () -> Unit = {}): Services = Services(
            MessageServiceClient(client),
            SessionServiceClient(client),
            StateServiceClient(client),
            SyncServiceClient(client),
            DeviceServiceClient(client),
            RelationServiceClient(client),
            PresenceServiceClient(client),
            onClose,
        )

        /** The services over OkHttp: over [given], or over a client of its own. */
        fun over(baseUrl: String, protocol: Protocol, given: OkHttpClient?): Services {
            val builder = given?.newBuilder() ?: OkHttpClient.Builder().dispatcher(Dispatcher().apply { maxRequestsPerHost = 64 })
            if (protocol == Protocol.GRPC && baseUrl.startsWith("http://")) {
                builder.protocols(listOf(okhttp3.Protocol.H2_PRIOR_KNOWLEDGE))
            }
            val http = ConnectOkHttpClient.configureClient(builder).build()
            val config = ProtocolClientConfig(
                host = baseUrl,
                serializationStrategy = LiteStrategy,
                networkProtocol = if (protocol == Protocol.GRPC) NetworkProtocol.GRPC else NetworkProtocol.CONNECT,
                ioCoroutineContext = Dispatchers.IO,
                timeoutOracle = simpleTimeouts(unaryTimeout = callTimeout, streamTimeout = null),
            )
            return of(ProtocolClient(ConnectOkHttpClient(http), config)) {
                if (given == null) {
                    http.dispatcher.executorService.shutdown()
                    http.connectionPool.evictAll()
                }
            }
        }
    }
}

/** Binary messages of protobuf's lite runtime. */
internal object LiteStrategy : SerializationStrategy {
    private val codecs = ConcurrentHashMap<KClass<*>, Codec<*>>()

    override fun serializationName(): String = CODEC_NAME_PROTO

    @Suppress("UNCHECKED_CAST")
    override fun <E : Any> codec(clazz: KClass<E>): Codec<E> = codecs.getOrPut(clazz) { LiteCodec(parserOf(clazz.java)) } as Codec<E>

    override fun errorDetailParser(): ErrorDetailParser = LiteDetails

    @Suppress("UNCHECKED_CAST")
    fun parserOf(type: Class<*>): Parser<MessageLite> = type.getMethod("parser").invoke(null) as Parser<MessageLite>
}

private class LiteCodec(private val parser: Parser<MessageLite>) : Codec<MessageLite> {
    override fun encodingName(): String = CODEC_NAME_PROTO

    override fun serialize(message: MessageLite): Buffer = Buffer().write(message.toByteArray())

    override fun deterministicSerialize(message: MessageLite): Buffer = serialize(message)

    override fun deserialize(source: BufferedSource): MessageLite = parser.parseFrom(source.readByteArray(), ExtensionRegistryLite.getEmptyRegistry())
}

private object LiteDetails : ErrorDetailParser {
    @Suppress("UNCHECKED_CAST")
    override fun <E : Any> unpack(any: AnyError, clazz: KClass<E>): E? = try {
        LiteStrategy.parserOf(clazz.java).parseFrom(any.value.toByteArray()) as E
    } catch (_: InvalidProtocolBufferException) {
        null
    }

    // A google.rpc.Status, of which only the details (field 3) are wanted.
    override fun parseDetails(bytes: ByteArray): List<ConnectErrorDetail> {
        val details = mutableListOf<ConnectErrorDetail>()
        val input = CodedInputStream.newInstance(bytes)
        while (true) {
            val tag = input.readTag()
            if (tag == 0) return details
            if (WireFormat.getTagFieldNumber(tag) != 3) {
                input.skipField(tag)
                continue
            }
            val any = com.google.protobuf.Any.parseFrom(input.readByteArray())
            details += ConnectErrorDetail(any.typeUrl, any.value.toByteArray().toByteString())
        }
    }
}
