package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"slices"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
)

// verificationKey is a public key with the only algorithm it is used for.
type verificationKey struct {
	id     string
	alg    jwa.SignatureAlgorithm
	public crypto.PublicKey // ed25519.PublicKey or *ecdsa.PublicKey on P-256
	raw    []byte           // the public key's bytes, for comparing
}

// toVerificationKey takes the key if it is an Ed25519 or P-256 public key for signatures, and nothing in it says that
// it is for something else.
func toVerificationKey(key jwk.Key) (verificationKey, bool) {
	if jwk.IsUnsupportedKey(key) || !forVerifying(key) {
		return verificationKey{}, false
	}
	usable, ok := publicKey(key)
	if !ok || !declares(key, usable.alg) {
		return verificationKey{}, false
	}
	if id, ok := key.KeyID(); ok && id != "" {
		usable.id = id
		return usable, len(id) <= MaxKeyIDBytes
	}
	var err error
	usable.id, err = thumbprint(key)
	return usable, err == nil
}

// forVerifying reports whether use and key_ops, where present, allow verifying signatures.
func forVerifying(key jwk.Key) bool {
	if use, ok := key.KeyUsage(); ok && use != "sig" {
		return false
	}
	ops, ok := key.KeyOps()
	return !ok || slices.Contains(ops, jwk.KeyOpVerify)
}

// declares reports whether the key's own alg, where present, is alg. RFC 9864 calls EdDSA on this curve Ed25519.
func declares(key jwk.Key, alg jwa.SignatureAlgorithm) bool {
	declared, ok := key.Algorithm()
	if !ok || declared.String() == alg.String() {
		return true
	}
	return alg == jwa.EdDSA() && declared.String() == "Ed25519"
}

// publicKey returns the key without an id, if it is on one of the two curves.
func publicKey(key jwk.Key) (verificationKey, bool) {
	switch key.KeyType() {
	case jwa.OKP():
		var public ed25519.PublicKey // Export refuses X25519 and Ed448 here.
		if jwk.Export(key, &public) != nil || len(public) != ed25519.PublicKeySize {
			return verificationKey{}, false
		}
		return verificationKey{alg: jwa.EdDSA(), public: public, raw: public}, true
	case jwa.EC():
		var public ecdsa.PublicKey
		if jwk.Export(key, &public) != nil || public.Curve != elliptic.P256() {
			return verificationKey{}, false
		}
		raw, err := public.Bytes() // Fails for a point that is not on the curve.
		if err != nil {
			return verificationKey{}, false
		}
		return verificationKey{alg: jwa.ES256(), public: &public, raw: raw}, true
	default:
		return verificationKey{}, false
	}
}
