// Package auth says who is calling: it verifies the tokens of users, mints them where Parley holds a signing key, and
// checks the API keys of servers. It follows RFC 8725 (JSON Web Token Best Current Practices) and leaves nothing to
// the token that belongs to the server: which algorithms count, which keys count, and where keys come from is decided
// here and in the configuration alone. docs/tokens.md says the same to integrators.
//
// # Form
//
// A token is a JWS in compact form (RFC 7515): three non-empty segments of base64url without padding, joined by two
// dots, at most MaxTokenBytes. The length is looked at before anything else, so an oversized token costs nothing; form
// is checked in one pass. Non-canonical base64, white space, padding, anything before or after the three segments,
// the JSON serialization and encrypted tokens are refused. Header and claims must be one JSON object each, in valid
// UTF-8 without unpaired surrogates, without repeated names on the top level and without anything behind it.
//
// # Header
//
//   - alg is "EdDSA" (Ed25519) or "ES256" (ECDSA on P-256 with SHA-256), and it must be the algorithm of the key that
//     kid names. The header chooses among what is allowed, it allows nothing: "none", HMAC, RSA and other curves do
//     not exist here.
//   - kid names the key, at most MaxKeyIDBytes. It may be left out only while the issuer's set has exactly one key.
//   - typ, if present, is "JWT" or "at+jwt" (RFC 9068), in any case of letters, with or without "application/".
//   - jku, jwk, x5u, x5c, crit and b64 are refused. No key and no address is ever taken from a token.
//   - Everything else is ignored, as RFC 7515 wants.
//
// # Claims
//
//   - iss, required: the name of a configured Issuer, compared byte by byte. Keys are held per issuer: a key of one
//     issuer never verifies a token of another. All issuers share one space of user ids.
//   - aud, required: a string or an array of strings that has the issuer's Audience.
//   - sub, required: the user. did, required: the device. Both as ValidID says.
//   - exp, required: the token holds while now < exp + Leeway.
//   - iat, required: not later than now + Leeway, and before exp. exp - iat is at most VerifierConfig.MaxLifetime.
//   - nbf, optional: not later than now + Leeway.
//   - jti, optional: a string of at most MaxTokenIDBytes, handed on as Principal.TokenID.
//
// Times are JSON numbers of seconds since 1970, fractions allowed, from 0 to the end of the year 9999. A string is not
// a time. TOKEN_EXPIRED is said only of a token that is otherwise good; whatever else is wrong is TOKEN_INVALID.
//
// # Keys
//
// Keys come from a JWKS file (FileSource), a JWKS URL of the configuration (URLSource) or Parley's own signing keys
// (Signer). In a set only Ed25519 and P-256 keys that may verify signatures count; others are left out. A set with a
// private key is refused whole. All sources keep the last good set for KeepKeys after reading it last succeeded, then
// have none. While no keys can be had, or a token names an unknown kid and looking for it failed, the answer is
// UNAVAILABLE and not TOKEN_INVALID, since the token may be perfectly good and the client must not throw it away.
//
// # Cache
//
// Verified tokens are kept in a bounded LRU under their SHA-256, so that a signature is checked once and not on every
// call. An entry is void when the token's time ends and when its issuer's set of keys changes in any way. Refused
// tokens are not kept: guessing must not push out honest ones. Revocation of devices and users is not this package's
// business: it is asked for on every call.
//
// # Concurrency
//
// Verifier, Signer, FileSource, URLSource and APIKey are safe for concurrent use. Only URLSource owns a goroutine: it
// starts in NewURLSource and has ended when Close returns. FileSource and Signer look at the disk when they are asked,
// at most once a second, in the caller's goroutine, while other callers go by what is loaded. Nothing in this package
// logs or returns a token, a key or a claim in an error.
package auth
