package auth

import (
	"encoding/base64"
	"strings"

	"github.com/lestrrat-go/jwx/v3/jwa"
)

// Bounds of a token and its parts, in bytes.
const (
	// MaxTokenBytes bounds a whole token, 4 KiB. It is checked before anything is parsed.
	MaxTokenBytes = 4 << 10
	// MaxKeyIDBytes bounds a kid, in tokens and in key sets.
	MaxKeyIDBytes = 256
	// MaxTokenIDBytes bounds a jti.
	MaxTokenIDBytes = 256
)

// base64url is RFC 7515's encoding. Strict refuses other spellings of the same bytes.
var base64url = base64.RawURLEncoding.Strict()

// refusedHeaders name or carry keys, or change how the token is to be read.
var refusedHeaders = []string{"jku", "jwk", "x5u", "x5c", "crit", "b64"}

// token is what was read from a compact JWS. Nothing in it is to be believed before its signature was verified.
type token struct {
	alg    jwa.SignatureAlgorithm
	kid    string // empty if the header has none
	claims claims
}

// parseToken reads a token that is at most MaxTokenBytes long. It verifies nothing. Errors are refusals.
func parseToken(raw string) (token, error) {
	head, rest, ok := strings.Cut(raw, ".")
	body, signature, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 || head == "" || body == "" || signature == "" || !isBase64url(raw) {
		return token{}, errForm
	}
	header, err := base64url.DecodeString(head)
	if err != nil {
		return token{}, errForm
	}
	payload, err := base64url.DecodeString(body)
	if err != nil {
		return token{}, errForm
	}
	if _, err := base64url.DecodeString(signature); err != nil {
		return token{}, errForm
	}
	var t token
	if err := t.readHeader(header); err != nil {
		return token{}, err
	}
	t.claims, err = parseClaims(payload)
	return t, err
}

// isBase64url reports whether raw has only the characters of base64url and exactly two dots. base64's decoder skips
// line ends, so it cannot be left to find them.
func isBase64url(raw string) bool {
	dots := 0
	for i := range len(raw) {
		c := raw[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		case c == '.' && dots < 2:
			dots++
		default:
			return false
		}
	}
	return dots == 2
}

func (t *token) readHeader(data []byte) error {
	header, err := parseObject(data)
	if err != nil {
		return errHeader
	}
	for _, name := range refusedHeaders {
		if header.has(name) {
			return errHeaderMember
		}
	}
	alg, _ := header.text("alg")
	if t.alg, err = algorithm(alg); err != nil {
		return err
	}
	if typ, ok := header.text("typ"); header.has("typ") && !(ok && knownType(typ)) {
		return errType
	}
	if header.has("kid") {
		kid, ok := header.text("kid")
		if !ok || kid == "" || len(kid) > MaxKeyIDBytes {
			return errKeyID
		}
		t.kid = kid
	}
	return nil
}

// algorithm returns the allowed algorithm of that name. Names are exact (RFC 7515, section 4.1.1).
func algorithm(name string) (jwa.SignatureAlgorithm, error) {
	switch name {
	case "EdDSA":
		return jwa.EdDSA(), nil
	case "ES256":
		return jwa.ES256(), nil
	default:
		return jwa.EmptySignatureAlgorithm(), errAlgorithm
	}
}

// knownType reports whether typ is one of a token's media types. Those have no case, and "application/" may be left
// out (RFC 7515, section 4.1.9; RFC 9068, section 4).
func knownType(typ string) bool {
	short := strings.TrimPrefix(strings.ToLower(typ), "application/")
	return short == "jwt" || short == "at+jwt"
}
