package im.parley.client

import com.connectrpc.Headers
import com.connectrpc.ResponseMessage
import im.parley.v1.SubscribeRequest
import im.parley.v1.SubscribeResponse
import im.parley.v1.listRelationsRequest
import im.parley.v1.listSessionsRequest
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import im.parley.v1.Relation as PbRelation
import im.parley.v1.RelationKind as PbRelationKind
import im.parley.v1.Session as PbSession

/** The server as this device sees it: calls carry the token, are bounded, and throw [ParleyException]s only. */
internal class Api(private val services: Services, val credential: Credential) {
    /** Runs one unary call. A refused token is replaced and the call repeated, once. */
    suspend fun <R> call(fn: suspend Services.(Headers) -> ResponseMessage<R>): R {
        var again = false
        while (true) {
            val token = credential.get()
            val response = try {
                services.fn(bearer(token))
            } catch (e: CancellationException) {
                throw e
            } catch (e: Exception) {
                throw judge(e, token)
            }
            when (response) {
                is ResponseMessage.Success -> return response.message
                is ResponseMessage.Failure -> {
                    val error = judge(response.cause, token)
                    if (again || error.reason !in tokenReasons) throw error
                    again = true
                }
            }
        }
    }

    /** Opens the stream, when collected; it ends with the collection. */
    fun subscribe(request: SubscribeRequest): Flow<SubscribeResponse> = flow {
        val token = credential.get()
        val stream = services.sync.subscribe(bearer(token))
        val responses = stream.responseChannel()
        try {
            val sent = stream.sendAndClose(request)
            while (true) {
                val received = responses.receiveCatching()
                val response = received.getOrNull()
                if (response != null) {
                    emit(response)
                    continue
                }
                val why = received.exceptionOrNull() ?: sent.exceptionOrNull() ?: break
                throw judge(why, token)
            }
        } finally {
            responses.cancel()
        }
    }

    /** All pages of the user's sessions. */
    suspend fun listSessions(): List<PbSession> = buildList {
        var token = ""
        do {
            val request = listSessionsRequest {
                limit = 200
                pageToken = token
            }
            val page = call { sessions.listSessions(request, it) }
            addAll(page.sessionsList)
            token = page.nextPageToken
        } while (token.isNotEmpty())
    }

    /** All pages of the user's relations of a kind. */
    suspend fun listRelations(of: PbRelationKind): List<PbRelation> = buildList {
        var token = ""
        do {
            val request = listRelationsRequest {
                kind = of
                limit = 500
                pageToken = token
            }
            val page = call { relations.listRelations(request, it) }
            addAll(page.relationsList)
            token = page.nextPageToken
        } while (token.isNotEmpty())
    }

    private fun judge(err: Throwable, token: String): ParleyException =
        toParleyException(err).also { if (it.reason in tokenReasons) credential.reject(token) }

    private fun bearer(token: String): Headers = mapOf("Authorization" to listOf("Bearer $token"))
}
