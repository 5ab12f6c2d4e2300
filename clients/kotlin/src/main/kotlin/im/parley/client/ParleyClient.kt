package im.parley.client

import im.parley.v1.Event
import im.parley.v1.ListDevicesRequest
import im.parley.v1.SubscribeRequest
import im.parley.v1.blockUserRequest
import im.parley.v1.createSessionRequest
import im.parley.v1.group
import im.parley.v1.registerDeviceRequest
import im.parley.v1.revokeDeviceRequest
import im.parley.v1.unblockUserRequest
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.Job
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.cancelChildren
import kotlinx.coroutines.coroutineScope
import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.asStateFlow
import kotlinx.coroutines.job
import kotlinx.coroutines.launch
import kotlinx.coroutines.plus
import kotlinx.coroutines.withContext
import kotlinx.coroutines.withTimeoutOrNull
import kotlinx.coroutines.yield
import okhttp3.OkHttpClient
import java.util.concurrent.ConcurrentHashMap

/** How many messages of a session come into memory from the store at the start. */
private const val RESTORED_MESSAGES = 50

/** How long [ParleyClient.stop] tells the server what it does not know yet. */
private const val GOODBYE_MS = 2000L

/**
 * What a client is made of.
 *
 * @property baseUrl where the server is, for example "https://chat.example"
 * @property token gives a token for this device; called again whenever a new one is needed
 * @property store keeps everything over restarts; null: in memory only
 * @property reconnect how long to wait between tries
 * @property protocol how calls travel
 * @property httpClient over which client calls travel, without its timeouts; null: one of its own. The stream is one of the
 *   calls that its dispatcher allows per host (5, unless set)
 * @property windowSize how many messages of each session stay in memory, besides those that loadOlder brought
 * @property storeSize how many messages of each session the store keeps, give or take a quarter
 * @property maxBacklog how many entries of backlog to take per session after a time away, 1 to 10,000; what is left out
 *   comes as a [SkippedEvent] and can be had by [Session.loadOlder]. 0 takes all
 * @property fresh begin each session with its last messages, as on a new device, instead of where this device stood; with
 *   a store it counts only while that is empty
 * @property onError called with errors that belong to no call, such as a store that failed; the client goes on
 */
public class ClientOptions(
    public val baseUrl: String,
    public val token: TokenProvider,
    public val store: Store? = null,
    public val reconnect: ReconnectPolicy = fullJitter(),
    public val protocol: Protocol = Protocol.CONNECT,
    public val httpClient: OkHttpClient? = null,
    public val windowSize: Int = 1000,
    public val storeSize: Int = 5000,
    public val maxBacklog: Int = 0,
    public val fresh: Boolean = false,
    public val onError: (ParleyException) -> Unit = {},
)

/**
 * A device of a user, in touch with Parley: one stream that reconnects and resumes, the state of all sessions, and an
 * outbox. What it shows of each session's log is gapless, in order, and once, whatever is cut.
 *
 * Nothing happens until [start]. The client lives in the scope that it is given: it ends with that scope, or by [close].
 * All of it may be used from any thread.
 */
public class ParleyClient internal constructor(
    private val options: ClientOptions,
    parent: CoroutineScope,
    private val loop: CoroutineDispatcher,
    blocking: CoroutineDispatcher,
    private val clock: Clock,
    private val services: Services,
) {
    /** Makes a client that lives in [scope]; without one it lives until [close]. */
    public constructor(
        options: ClientOptions,
        scope: CoroutineScope = CoroutineScope(Dispatchers.Default),
    ) : this(
        options,
        scope,
        Dispatchers.Default.limitedParallelism(1),
        Dispatchers.IO,
        Clock(),
        Services.over(options.baseUrl, options.protocol, options.httpClient),
    )

    /** Makes a client with the default options. */
    public constructor(baseUrl: String, token: TokenProvider) : this(ClientOptions(baseUrl, token))

    private val scope = parent + SupervisorJob(parent.coroutineContext[Job]) + loop
    private val api = Api(services, Credential(scope, options.token, blocking, clock))
    private val bus = EventBus()
    private val keeper = Keeper(options.store) { error -> scope.launch { options.onError(error) } }
    private val sync =
        Sync(scope, clock, api, keeper, bus, Limits(options.windowSize, options.storeSize, options.maxBacklog))
    private val outbox = Outbox(scope, api, options.reconnect, OutboxEnd())
    private val stream = Subscription(api, options.reconnect, StreamEnd())
    private val watch = PresenceWatch(scope, api, bus)
    private val parts = Parts(loop, scope, clock, api, sync, outbox, keeper)
    private val known = ConcurrentHashMap<String, Session>()
    private val connectionNow = MutableStateFlow<Connection>(Connection.Offline())
    private val meNow = MutableStateFlow<Identity?>(null)
    private val lock = Any()
    private var running: Job? = null // guarded by lock
    private var last: Job? = null // guarded by lock
    private var loaded = false
    private var sending: Job? = null
    private var inRun: CoroutineScope? = null

    @Volatile
    private var hasNetwork = true

    init {
        sync.fresh = options.fresh
        sync.onReset = outbox::reopen
        sync.onMessage = outbox::seen
        sync.onPresence = watch::take
        sync.onPeople = watch::peopleChanged
        scope.coroutineContext.job.invokeOnCompletion { services.close() }
    }

    /** Whether the client is in touch. */
    public val connection: StateFlow<Connection> = connectionNow.asStateFlow()

    /** The sessions that the user is in: pinned ones first, then by the newest entry. */
    public val sessions: StateFlow<List<SessionInfo>> = sync.changes.list.asStateFlow()

    /** Messages not read, over all sessions. */
    public val unread: StateFlow<Long> = sync.changes.unread.asStateFlow()

    /** Whose client this is; null until the store or the first token has told. */
    public val me: StateFlow<Identity?> = meNow.asStateFlow()

    /**
     * Everything that happens while it is collected, in order. Nothing is passed over: when a collector is 1,024 events
     * behind, the stream waits for it, and so does the server.
     */
    public val events: Flow<ClientEvent> get() = bus.events

    /** Connects, and stays connected until [stop] or a terminal error. Does nothing while it runs. */
    public fun start() {
        synchronized(lock) {
            if (running?.isActive == true) return
            val before = last
            running = scope.launch {
                before?.join()
                run()
            }.also { last = it }
        }
    }

    /**
     * Disconnects: tells the server what was seen (for at most 2 s), keeps everything, and returns when nothing runs any
     * more. What was shown stays, and [start] goes on from there.
     */
    public suspend fun stop() {
        val (job, ending) = synchronized(lock) { (running to last).also { running = null } }
        withContext(loop + NonCancellable) {
            if (job?.isActive == true && connectionNow.value == Connection.Live) withTimeoutOrNull(GOODBYE_MS) { sayGoodbye() }
            job?.cancelAndJoin()
            ending?.join()
        }
    }

    /** Stops, and ends the client for good. */
    public suspend fun close() {
        stop()
        withContext(NonCancellable) { scope.coroutineContext.job.cancelAndJoin() }
    }

    /**
     * Tells the client what the platform knows of the network (Android: ConnectivityManager): without one the stream is
     * given up at once, with one it is tried at once. Not needed: the heartbeat tells the same, later.
     */
    public fun networkChanged(available: Boolean) {
        hasNetwork = available
        scope.launch {
            if (available) stream.wake() else stream.cut(ParleyException(ErrorReason.UNREACHABLE, "the network is gone"))
        }
    }

    /** The session of an id: always the same object for the same id, whether or not anything is known of it yet. */
    public fun session(sessionId: String): Session = known.getOrPut(sessionId) { Session(parts, sessionId) }

    /** The direct session with a user; made by the first message. Waits for the first token, unless a store tells who this is. */
    public suspend fun direct(userId: String): Session = withContext(loop) {
        val me = sync.me ?: identify()
        val id = directSessionId(me.userId, userId)
        known.getOrPut(id) { Session(parts, id, userId) }
    }

    /**
     * Makes a group owned by the user. A call whose answer was lost is repeated without making a second group.
     *
     * @param memberIds members besides the user, at most 1,000
     * @param settings title, picture, ...
     */
    public suspend fun createGroup(memberIds: List<String>, settings: SessionSettings = SessionSettings()): Session = withContext(loop) {
        val request = createSessionRequest {
            group = group {
                title = settings.title.orEmpty()
                avatarUrl = settings.avatarUrl.orEmpty()
                historyVisible = settings.historyVisible ?: false
                sendRole = settings.sendRole.toPb()
            }
            this.memberIds += memberIds
            requestId = uuidv7(clock.nowMs())
        }
        val response = try {
            api.call { sessions.createSession(request, it) }
        } catch (e: ParleyException) {
            if (!e.retryable) throw e
            api.call { sessions.createSession(request, it) }
        }
        session(sync.descriptions.take(response.session).id)
    }

    /**
     * Returns when everything so far is in the store: what was shown, what waits to be sent, what was marked as read. From
     * then on the process may end without losing it. Without a store, or after it failed, it returns at once.
     */
    public suspend fun stored(): Unit = withContext(loop) {
        yield() // what was handed over before is on its way to the store
        sync.changes.write()
        keeper.idle()
    }

    /**
     * Whether a user is online, for those named by [watchPresence]; null while that is not known, and for those who may not
     * be seen. While the client is not live it is what was known last.
     */
    public fun presence(userId: String): StateFlow<Presence?> = watch.of(userId).asStateFlow()

    /** Sets whose presence is wanted, in place of whose was: at most 200 users; what is beyond is left out. */
    public suspend fun watchPresence(userIds: List<String>): Unit = withContext(loop) { watch.watch(userIds) }

    /** The user's devices, this one among them. */
    public suspend fun devices(): List<Device> = withContext(loop) {
        api.call { devices.listDevices(ListDevicesRequest.getDefaultInstance(), it) }.devicesList.map { it.toDevice() }
    }

    /** Gives this device a name that the user's list of devices shows, and says what it runs on. */
    public suspend fun nameDevice(displayName: String, platform: DevicePlatform = DevicePlatform.ANDROID): Device = withContext(loop) {
        val request = registerDeviceRequest {
            this.displayName = displayName
            this.platform = platform.toPb()
        }
        api.call { devices.registerDevice(request, it) }.device.toDevice()
    }

    /** Shuts a device of the user out for good: its stream ends and its tokens are refused. */
    public suspend fun revokeDevice(deviceId: String) {
        withContext(loop) { api.call { devices.revokeDevice(revokeDeviceRequest { this.deviceId = deviceId }, it) } }
    }

    /**
     * The user's relations of a kind; what changes later comes as [RelationEvent]s.
     *
     * @param kind any but [RelationKind.NONE], of which there are none
     */
    public suspend fun relations(kind: RelationKind): List<Relation> = withContext(loop) {
        if (kind == RelationKind.NONE) emptyList() else api.listRelations(kind.toPb()).map { it.toRelation() }
    }

    /** Blocks a user: nobody of the two can send to the other directly any more. */
    public suspend fun block(userId: String) {
        withContext(loop) { api.call { relations.blockUser(blockUserRequest { this.userId = userId }, it) } }
    }

    /** Takes a block back. */
    public suspend fun unblock(userId: String) {
        withContext(loop) { api.call { relations.unblockUser(unblockUserRequest { this.userId = userId }, it) } }
    }

    private suspend fun run() {
        val self = currentJob()
        var end: Connection = Connection.Offline()
        connectionNow.value = Connection.Connecting()
        try {
            load()
            coroutineScope {
                inRun = this
                sync.run(this)
                end = Connection.Offline(stream.run())
                coroutineContext.cancelChildren()
            }
        } finally {
            withContext(NonCancellable) {
                pauseSending()
                inRun = null
                sync.stop()
                sync.changes.write()
                keeper.close()
            }
            synchronized(lock) { if (running === self) running = null }
            connectionNow.value = end
        }
    }

    private suspend fun currentJob(): Job = currentCoroutineContext().job

    // What is being taken in counts as seen once it is kept.
    private suspend fun sayGoodbye() {
        sync.changes.write()
        yield()
        coroutineScope {
            launch { sync.acks.flush() }
            launch { sync.reads.flush() }
        }
    }

    // Reads the store, once: from then on memory is ahead of it.
    private suspend fun load() {
        if (loaded) return
        loaded = true
        val state = withContext(NonCancellable) { keeper.load(RESTORED_MESSAGES) }
        state?.device?.let {
            sync.restore(it, state.sessions)
            sync.fresh = false
        }
        outbox.restore(state?.outbox.orEmpty())
        meNow.value = sync.me
        for (id in outbox.sessions()) showOutgoing(id)
        sync.changes.write()
    }

    private suspend fun identify(): Identity {
        val token = api.credential.get()
        identityOf(token)?.let { return it }
        api.credential.reject(token)
        throw ParleyException(ErrorReason.TOKEN_INVALID, "the token does not say whose it is")
    }

    private fun showOutgoing(sessionId: String) {
        val s = sync.session(sessionId)
        s.outgoing = outbox.of(sessionId)
        s.publish()
    }

    private fun setLive() {
        if (connectionNow.value == Connection.Live) return
        connectionNow.value = Connection.Live
        sync.acks.isOpen = true
        sync.reads.isOpen = true
        sending?.cancel()
        sending = inRun?.launch { outbox.run() }
        watch.opened()
    }

    private fun pauseSending() {
        sending?.cancel()
        sending = null
        watch.closed()
        sync.acks.isOpen = false
        sync.reads.isOpen = false
    }

    private inner class StreamEnd : StreamOwner {
        override suspend fun prepare() {
            val me = identify()
            if (sync.identify(me)) {
                outbox.clear()
                known.clear()
                watch.clear()
                sync.fresh = options.fresh
            }
            meNow.value = me
            sync.prepare()
        }

        override fun position(): SubscribeRequest = sync.position()

        override suspend fun take(events: List<Event>) {
            sync.take(events)
            if (sync.caughtUp) setLive()
        }

        override fun connecting(error: ParleyException) {
            pauseSending()
            connectionNow.value = if (hasNetwork) Connection.Connecting(error) else Connection.Offline(error)
        }
    }

    private inner class OutboxEnd : OutboxOwner {
        override fun changed(sessionId: String) = showOutgoing(sessionId)

        override fun sent(message: Message, epoch: String): Boolean = sync.answered(message, epoch)

        override suspend fun keep(put: List<StoredOutgoing>, drop: List<String>) = keeper.write(StoreChange(outbox = put, dropOutbox = drop))
    }
}
