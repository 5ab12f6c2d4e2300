// Package page makes page tokens: where a listing goes on, opaque to clients.
//
// A token belongs to one listing and, where the listing has a scope (see Listing.For), to one question put to it: one
// that comes from another rpc, or from the same rpc with another filter, is refused and not misread. A token holds a
// position and nothing else. It is not signed, because a position gives nothing that its holder could not page to:
// who may see what is decided anew for every page. For the same reason it never expires, and any node takes it.
package page

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/refusal"
)

// MaxBytes bounds a token; the requests' validation rules say the same.
const MaxBytes = 1024

// version is the first byte of every token. It changes with the encoding, so that tokens from before an upgrade are
// refused and not misread.
const version = 1

// Listing names what is paged through: an rpc in its lowest byte, a fingerprint of the question in the others. The
// numbers are in tokens that clients hold and are never given out again.
type Listing uint64

// The listings, with the fields of their positions.
const (
	Relations Listing = 1 // after user id
	Sessions  Listing = 2 // after session id
	Members   Listing = 3 // after user id
	Readers   Listing = 4 // after user id
	Offline   Listing = 5 // after session id, seq

	WebhookDeliveries Listing = 16 // before position, chunk
)

// For returns the listing narrowed to a question: a token made for one scope is refused for every other. Pass what
// decides which rows are listed, such as filters and whose rows they are, in a fixed order.
func (l Listing) For(scope ...string) Listing {
	h := sha256.New()
	var size [8]byte
	for _, s := range scope {
		binary.BigEndian.PutUint64(size[:], uint64(len(s))) // keeps a byte from moving between two parts unseen
		h.Write(size[:])
		h.Write([]byte(s))
	}
	return Listing(binary.BigEndian.Uint64(h.Sum(nil)))<<8 | l&0xff
}

// invalid is one value: what is wrong with a token is of no use to a client.
var invalid = refusal.New(refusal.PageTokenInvalid, "This page token was not made for this request; start at the first page.")

// Encode makes the token for a position. Its fields are strings in valid UTF-8 without zero bytes, int64 that are not
// negative, and uuid.UUID; it panics at other types, which is a mistake in the program and not in its input.
func Encode(l Listing, position ...any) string {
	b := binary.BigEndian.AppendUint64([]byte{version}, uint64(l))
	for _, field := range position {
		switch v := field.(type) {
		case string:
			b = binary.AppendUvarint(b, uint64(len(v)))
			b = append(b, v...)
		case int64:
			b = binary.AppendUvarint(b, uint64(v)) //nolint:gosec // a negative one makes a token that Decode refuses
		case uuid.UUID:
			b = append(b, v[:]...)
		default:
			panic(fmt.Sprintf("page: a position cannot hold a %T", field)) //nolint:forbidigo // documented: a bug in the caller
		}
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// Decode reads a token that Encode made for the same listing, with pointers to the same types in the same order:
// *string, *int64, *uuid.UUID. The empty token, which asks for the first page, leaves them as they are. Anything else
// is refused as PAGE_TOKEN_INVALID, and then they are left as they are too. It panics at pointers to other types.
func Decode(l Listing, token string, position ...any) error {
	if token == "" {
		return nil
	}
	if len(token) > MaxBytes {
		return invalid
	}
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) < 9 || b[0] != version || Listing(binary.BigEndian.Uint64(b[1:])) != l {
		return invalid
	}
	fields, assign, ok := parse(b[9:], position)
	// Encoding again leaves each position exactly one token: other spellings (line ends and stray bits in base64, long
	// forms of numbers) are nothing that this package ever made.
	if !ok || Encode(l, fields...) != token {
		return invalid
	}
	for _, set := range assign {
		set()
	}
	return nil
}

// parse reads one field for each pointer, and nothing may be left over. assign sets the pointers.
func parse(b []byte, position []any) (fields []any, assign []func(), ok bool) {
	for _, p := range position {
		switch p := p.(type) {
		case *string:
			var v string
			v, b, ok = parseString(b)
			fields, assign = append(fields, v), append(assign, func() { *p = v })
		case *int64:
			var v int64
			v, b, ok = parseInt(b)
			fields, assign = append(fields, v), append(assign, func() { *p = v })
		case *uuid.UUID:
			var v uuid.UUID
			v, b, ok = parseUUID(b)
			fields, assign = append(fields, v), append(assign, func() { *p = v })
		default:
			panic(fmt.Sprintf("page: a position cannot be read into a %T", p)) //nolint:forbidigo // documented: a bug in the caller
		}
		if !ok {
			return nil, nil, false
		}
	}
	return fields, assign, len(b) == 0
}

// parseString refuses what PostgreSQL would not take as text.
func parseString(b []byte) (s string, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) { //nolint:gosec // at most len(b) bytes were read
		return "", nil, false
	}
	end := n + int(size) //nolint:gosec // at most len(b)
	s = string(b[n:end])
	return s, b[end:], utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}

func parseInt(b []byte) (v int64, rest []byte, ok bool) {
	u, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	v = int64(u) //nolint:gosec // past the largest it turns negative, which is refused
	return v, b[n:], v >= 0
}

func parseUUID(b []byte) (id uuid.UUID, rest []byte, ok bool) {
	if len(b) < len(id) {
		return id, nil, false
	}
	copy(id[:], b)
	return id, b[len(id):], true
}
