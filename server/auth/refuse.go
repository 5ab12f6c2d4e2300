package auth

import "github.com/parley-im/parley/server/refusal"

// The refusals of Verify. They are shared and therefore never changed. Their texts help integrators and hold nothing
// of the token; that a text tells which check failed gives an attacker nothing, since all checks are public.
var (
	errMissing     = refusal.New(refusal.TokenMissing, "The call needs a bearer token.")
	errExpired     = refusal.New(refusal.TokenExpired, "The token has expired.")
	errUnavailable = refusal.New(refusal.Unavailable, "The keys that verify this token cannot be had right now.")

	errTooLarge     = invalid("The token is larger than 4096 bytes.")
	errForm         = invalid("The token is not a JWS in compact form.")
	errHeader       = invalid("The token's header is not a proper JSON object.")
	errAlgorithm    = invalid("The token's alg is not EdDSA or ES256.")
	errType         = invalid("The token's typ is not JWT or at+jwt.")
	errHeaderMember = invalid("The token's header has a member that is refused: jku, jwk, x5u, x5c, crit or b64.")
	errKeyID        = invalid("The token's kid is not a string of 1 to 256 bytes.")
	errKeyIDNeeded  = invalid("The token has no kid, and its issuer has more than one key.")
	errKeyUnknown   = invalid("The token's key is not one of its issuer's.")
	errKeyAlgorithm = invalid("The token's alg is not that of its key.")
	errSignature    = invalid("The token's signature is wrong.")
	errClaims       = invalid("The token's claims are not a proper JSON object.")
	errIssuer       = invalid("The token's iss is missing or unknown.")
	errAudience     = invalid("The token's aud is missing, malformed or does not name this service.")
	errSubject      = invalid("The token's sub is missing or not 1 to 64 bytes without control characters.")
	errDevice       = invalid("The token's did is missing or not 1 to 64 bytes without control characters.")
	errExpiry       = invalid("The token's exp is missing or not a time.")
	errIssuedAt     = invalid("The token's iat is missing or not a time.")
	errNotBefore    = invalid("The token's nbf is not a time.")
	errTokenID      = invalid("The token's jti is not a string of at most 256 bytes.")
	errLifetime     = invalid("The token's exp is not after its iat, or further from it than the longest lifetime.")
	errFromFuture   = invalid("The token's iat is in the future.")
	errNotYet       = invalid("The token is not valid yet.")
)

func invalid(text string) *refusal.Error { return refusal.New(refusal.TokenInvalid, text) }
