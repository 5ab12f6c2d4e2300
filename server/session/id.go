package session

import (
	"crypto/rand"
	"time"

	"github.com/google/uuid"
)

// requestNamespace makes the ids of requested groups differ from all other name-based UUIDs.
var requestNamespace = uuid.MustParse("2b7a7f4e-6a0d-5d7c-9c1e-0d3f5f6b8a41")

// RequestedID returns the id of the group that a user makes with an idempotency key: always the same one, so that the
// repeated request finds the group of the first, and nobody else's key leads to it. A version 5 UUID over the user's id
// and the key, whose length is fixed.
func RequestedID(userID string, request uuid.UUID) uuid.UUID {
	return uuid.NewSHA1(requestNamespace, append([]byte(userID), request[:]...))
}

// NewID returns a version 7 UUID (RFC 9562, section 5.7) that begins with the given time in milliseconds, so that ids
// made later sort later.
func NewID(now time.Time) (id uuid.UUID) {
	_, _ = rand.Read(id[6:]) // never fails: the program would end
	ms := now.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i)) //nolint:gosec // the byte is what is meant
	}
	id[6] = 0x70 | id[6]&0x0f
	id[8] = 0x80 | id[8]&0x3f
	return id
}
