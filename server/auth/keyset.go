package auth

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"

	"github.com/parley-im/parley/server/refusal"
)

// MaxKeySetBytes bounds a JWKS document, in a file or from a URL: 256 KiB.
const MaxKeySetBytes = 256 << 10

// maxKeysInSet bounds the keys of one document, usable or not.
const maxKeysInSet = 1000

// KeySet is an issuer's verification keys at one time. It is immutable.
type KeySet struct {
	// keys are ordered by id and algorithm; no two have both the same.
	keys []verificationKey
	// digest identifies the usable content: two sets with the same keys under the same ids have the same digest.
	digest [sha256.Size]byte
}

// ParseKeySet reads a JWKS document (RFC 7517) of at most MaxKeySetBytes. Keys that are of no use here (RSA, symmetric
// and encryption keys, other curves, keys it cannot read) are left out, as RFC 7517, section 5, advises; the result
// may therefore be empty. A key without kid gets its RFC 7638 thumbprint as id.
//
// It fails if the document is too large or no JWKS, if it has a private key, or if two different keys have the same
// kid and the same algorithm. The errors hold no key material.
func ParseKeySet(document []byte) (*KeySet, error) {
	if len(document) > MaxKeySetBytes {
		return nil, fmt.Errorf("the key set is larger than %d bytes", MaxKeySetBytes)
	}
	parsed, err := jwk.Parse(document, jwk.WithMaxKeys(maxKeysInSet), jwk.WithStrictKeySetParsing(false))
	if err != nil {
		// The library's text may quote the document, which is not ours to log.
		return nil, errors.New("the document is not a JWKS")
	}
	set := &KeySet{}
	for i := range parsed.Len() {
		key, _ := parsed.Key(i)
		if private, err := jwk.IsPrivateKey(key); err == nil && private {
			return nil, fmt.Errorf("key %d of the set is a private key: publish public keys only", i)
		}
		usable, ok := toVerificationKey(key)
		if !ok {
			continue
		}
		if err := set.add(usable); err != nil {
			return nil, fmt.Errorf("key %d of the set: %w", i, err)
		}
	}
	set.seal()
	return set, nil
}

// Len is the number of usable keys.
func (s *KeySet) Len() int { return len(s.keys) }

// KeyIDs returns the ids of the usable keys in ascending order, an id twice if it names a key of each algorithm. The
// slice is the caller's own.
func (s *KeySet) KeyIDs() []string {
	ids := make([]string, 0, len(s.keys))
	for i := range s.keys {
		ids = append(ids, s.keys[i].id)
	}
	return ids
}

// find returns the key for a token with that kid (empty: none) and algorithm, or why there is none: errKeyUnknown if a
// newer set could have the key, else what is wrong with the token.
func (s *KeySet) find(kid string, alg jwa.SignatureAlgorithm) (verificationKey, *refusal.Error) {
	if kid == "" {
		switch {
		case len(s.keys) == 0:
			return verificationKey{}, errKeyUnknown
		case len(s.keys) > 1:
			return verificationKey{}, errKeyIDNeeded
		case s.keys[0].alg != alg:
			return verificationKey{}, errKeyAlgorithm
		default:
			return s.keys[0], nil
		}
	}
	fault := errKeyUnknown
	for i := range s.keys {
		if s.keys[i].id != kid {
			continue
		}
		if s.keys[i].alg == alg {
			return s.keys[i], nil
		}
		fault = errKeyAlgorithm
	}
	return verificationKey{}, fault
}

func (s *KeySet) add(key verificationKey) error {
	for i := range s.keys {
		if s.keys[i].id != key.id || s.keys[i].alg != key.alg {
			continue
		}
		if bytes.Equal(s.keys[i].raw, key.raw) {
			return nil
		}
		return errors.New("another key of the same algorithm has the same kid")
	}
	s.keys = append(s.keys, key)
	return nil
}

// seal puts the keys into order and computes the digest.
func (s *KeySet) seal() {
	slices.SortFunc(s.keys, func(a, b verificationKey) int {
		return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.alg.String(), b.alg.String()))
	})
	var content []byte
	for i := range s.keys {
		for _, part := range [][]byte{[]byte(s.keys[i].id), []byte(s.keys[i].alg.String()), s.keys[i].raw} {
			content = binary.AppendUvarint(content, uint64(len(part))) // Lengths keep neighbours apart.
			content = append(content, part...)
		}
	}
	s.digest = sha256.Sum256(content)
}

// thumbprint is the RFC 7638 thumbprint of a key, in base64url.
func thumbprint(key jwk.Key) (string, error) {
	digest, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", errors.New("the key has no thumbprint")
	}
	return base64.RawURLEncoding.EncodeToString(digest), nil
}
