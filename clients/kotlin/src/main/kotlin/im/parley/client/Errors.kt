package im.parley.client

import com.connectrpc.Code
import com.connectrpc.ConnectException
import com.google.protobuf.InvalidProtocolBufferException
import im.parley.v1.ErrorDetail
import kotlin.time.Duration
import kotlin.time.Duration.Companion.milliseconds
import kotlin.time.Duration.Companion.minutes

/** Why something failed. Most reasons come from the server and mean what its API says; the last five are the SDK's own. */
public enum class ErrorReason(internal val passes: Boolean = false) {
    UNSPECIFIED(true),
    TOKEN_MISSING,
    TOKEN_INVALID,
    TOKEN_EXPIRED(true),
    API_KEY_INVALID,
    USER_DEACTIVATED,
    DEVICE_REVOKED,
    NOT_ALLOWED,
    INVALID_FIELD,
    SESSION_UNAVAILABLE,
    MESSAGE_UNAVAILABLE,
    RECIPIENT_UNAVAILABLE,
    RECIPIENT_BLOCKED_BY_YOU,
    USER_UNAVAILABLE,
    DEVICE_UNAVAILABLE,
    RELATION_UNAVAILABLE,
    SELF_TARGET,
    ROLE_TOO_LOW,
    MUTED,
    LAST_OWNER,
    DIRECT_SESSION,
    GROUP_FULL,
    MESSAGE_ID_REUSED,
    MESSAGE_RECALLED,
    NOT_RECALLABLE,
    CURSOR_BEYOND_HEAD,
    CURSOR_INVISIBLE,
    EPOCH_CHANGED,
    PAGE_TOKEN_INVALID,
    REQUEST_TOO_LARGE,
    RATE_LIMITED(true),
    OVERLOADED(true),
    UNAVAILABLE(true),
    STREAM_DISPLACED,
    SHUTTING_DOWN(true),
    TOO_MANY_DEVICES,
    TOO_MANY_SESSIONS,
    INTERNAL(true),
    CALL_ENDED(true),
    TOO_MANY_RELATIONS,
    MESSAGE_REJECTED,
    MODERATION_UNAVAILABLE(true),
    WEBHOOK_UNAVAILABLE,
    WEBHOOKS_OFF,
    MODERATION_TAKEN,
    TOO_MANY_WEBHOOKS,

    /** No answer that Parley gave (no network, no server, a proxy in between). Passes by itself. */
    UNREACHABLE(true),

    /** The stream said nothing for twice its heartbeat and was given up. Passes by itself. */
    STREAM_SILENT(true),

    /** The app's token provider failed. */
    NO_TOKEN(true),

    /** The local store failed; the SDK goes on without it until the next start. */
    STORE(true),

    /** The client was stopped before the call had its answer. */
    STOPPED,
}

/**
 * The one kind of exception that the SDK throws and reports, beside CancellationException. Throw one with
 * `retryable = false` from a token provider to say that the user is signed out for good.
 *
 * @property reason why
 * @property retryable whether repeating may help; false is terminal
 * @property retryAfter wait at least this long before repeating; zero without a hint
 * @property metadata facts for programs, such as `field`; never message bodies
 */
public class ParleyException(
    public val reason: ErrorReason,
    message: String,
    public val retryable: Boolean = reason.passes,
    public val retryAfter: Duration = Duration.ZERO,
    public val metadata: Map<String, String> = emptyMap(),
    cause: Throwable? = null,
) : Exception(message, cause)

/** Reasons that ask for another token. */
internal val tokenReasons = setOf(ErrorReason.TOKEN_MISSING, ErrorReason.TOKEN_INVALID, ErrorReason.TOKEN_EXPIRED)

/** No hint is followed for longer than this. */
private val maxHint = 1.minutes

/** Codes that, without a reason of Parley's, say that this is not Parley or that a proxy wants something else. */
private val misplaced = setOf(Code.UNAUTHENTICATED, Code.PERMISSION_DENIED, Code.UNIMPLEMENTED, Code.NOT_FOUND)

/** Turns what a call failed with into a [ParleyException]. */
internal fun toParleyException(err: Throwable): ParleyException {
    if (err is ParleyException) return err
    val message = err.message ?: err.javaClass.simpleName
    if (err !is ConnectException) return ParleyException(ErrorReason.UNREACHABLE, message, cause = err)
    detailOf(err)?.let { return fromDetail(it, message, err) }
    if (err.code == Code.DEADLINE_EXCEEDED || err.code == Code.CANCELED) {
        return ParleyException(ErrorReason.CALL_ENDED, message, cause = err)
    }
    return ParleyException(ErrorReason.UNREACHABLE, message, retryable = err.code !in misplaced, cause = err)
}

/** Turns the detail that the server sends with every refusal into a [ParleyException]. */
internal fun fromDetail(detail: ErrorDetail?, message: String, cause: Throwable? = null): ParleyException {
    val metadata = detail?.metadataMap.orEmpty()
    val after = metadata["retry_after_ms"]?.toLongOrNull()?.coerceAtLeast(0) ?: 0
    val name = detail?.reason?.name?.removePrefix("ERROR_REASON_")
    // A reason that a newer server knows and this SDK does not comes as UNSPECIFIED.
    val reason = ErrorReason.entries.firstOrNull { it.name == name } ?: ErrorReason.UNSPECIFIED
    return ParleyException(reason, message, retryAfter = after.milliseconds.coerceAtMost(maxHint), metadata = metadata, cause = cause)
}

private fun detailOf(err: ConnectException): ErrorDetail? {
    val detail = err.details.firstOrNull { it.type.substringAfterLast('/') == "parley.v1.ErrorDetail" } ?: return null
    return try {
        ErrorDetail.parseFrom(detail.payload.toByteArray())
    } catch (_: InvalidProtocolBufferException) {
        null
    }
}

/** Runs what may fail for now. Returns whether it did not. */
internal inline fun attempt(fn: () -> Unit): Boolean = try {
    fn()
    true
} catch (_: ParleyException) {
    false
}
