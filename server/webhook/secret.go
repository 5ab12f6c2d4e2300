package webhook

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

const (
	// KeyBytes is the size of a key that secrets are sealed with.
	KeyBytes = 32
	// secretBytes is the size of a webhook's secret; Standard Webhooks asks for 24 to 64.
	secretBytes  = 32
	secretPrefix = "whsec_"
	markBytes    = 4
)

var (
	errNoKey    = errors.New("no key for the secrets of webhooks")
	errWrongKey = errors.New("the secret was sealed with another key")
)

// Sealer seals secrets with AES-256-GCM, so that a copy of the database alone signs nothing. What it makes begins with a
// mark of the key, so that several keys can be in use. The nil pointer has no key. Safe for concurrent use.
type Sealer struct {
	seal cipher.AEAD
	mark [markBytes]byte
	open map[[markBytes]byte]cipher.AEAD
}

// NewSealer returns a sealer: the first key, in 64 hexadecimal digits, seals; all open. Errors tell no key.
func NewSealer(keys ...string) (*Sealer, error) {
	s := &Sealer{open: make(map[[markBytes]byte]cipher.AEAD)}
	for _, k := range keys {
		raw, err := hex.DecodeString(k)
		if err != nil || len(raw) != KeyBytes {
			return nil, errors.New("not 64 hexadecimal digits: make one with `openssl rand -hex 32`")
		}
		block, err := aes.NewCipher(raw)
		if err != nil {
			return nil, err
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(append([]byte("parley webhook key "), raw...))
		mark := [markBytes]byte(sum[:markBytes])
		if s.seal == nil {
			s.seal, s.mark = gcm, mark
		}
		s.open[mark] = gcm
	}
	if s.seal == nil {
		return nil, errNoKey
	}
	return s, nil
}

// Seal hides a secret.
func (s *Sealer) Seal(secret string) []byte {
	nonce := make([]byte, s.seal.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	out := append(append([]byte{}, s.mark[:]...), nonce...)
	return s.seal.Seal(out, nonce, []byte(secret), s.mark[:])
}

// Open reads what Seal made.
func (s *Sealer) Open(sealed []byte) (string, error) {
	if s == nil {
		return "", errNoKey
	}
	if len(sealed) < markBytes {
		return "", errWrongKey
	}
	mark := [markBytes]byte(sealed)
	gcm := s.open[mark]
	if gcm == nil || len(sealed) < markBytes+gcm.NonceSize() {
		return "", errWrongKey
	}
	rest := sealed[markBytes:]
	plain, err := gcm.Open(nil, rest[:gcm.NonceSize()], rest[gcm.NonceSize():], mark[:])
	if err != nil {
		return "", fmt.Errorf("open a secret: %w", err)
	}
	return string(plain), nil
}

// newSecret makes a webhook's secret.
func newSecret() string {
	raw := make([]byte, secretBytes)
	_, _ = rand.Read(raw) // never fails
	var b strings.Builder
	b.WriteString(secretPrefix)
	b.WriteString(base64.StdEncoding.EncodeToString(raw))
	return b.String()
}
