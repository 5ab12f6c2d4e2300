package message

import (
	"crypto/sha256"
	"encoding/binary"
)

// Digest returns the first 8 bytes of SHA-256 over the type and the encoded body, as stored beside the message. It tells
// a repeated send from a reused id, also after the body was recalled; it is never 0, which marks server-made entries.
func Digest(t Type, body []byte) int64 {
	h := sha256.New()
	h.Write([]byte{byte(t)}) //nolint:gosec // types are small numbers
	h.Write(body)
	var sum [sha256.Size]byte
	d := int64(binary.BigEndian.Uint64(h.Sum(sum[:0])[:8])) //nolint:gosec // all 64 bits are meant
	if d == 0 {
		return 1
	}
	return d
}
