package roster

import (
	"errors"
	"hash/maphash"
	"math"

	"github.com/google/uuid"
)

// maxNumber bounds how many ids of a kind there can be: an edge holds a number and traits in 32 bits.
const maxNumber = 1 << (32 - traitBits)

// ErrTooLarge says that the relations do not fit into the memory that the map may take, or are more than it can number.
var ErrTooLarge = errors.New("the relations are too large for the map in memory")

// seed makes the hashes of this process its own, so that nobody can choose ids that collide.
var seed = maphash.MakeSeed()

// names numbers strings from 0 in the order of their coming. Numbers are never used again: an id that is gone stays
// until the map is loaded afresh. At most 4 GiB of bytes in all.
type names struct {
	text  []byte   // all of them, joined
	ends  []uint32 // where each ends in text
	index index
}

func (t *names) at(n uint32) []byte {
	from := uint32(0)
	if n > 0 {
		from = t.ends[n-1]
	}
	return t.text[from:t.ends[n]]
}

func (t *names) find(s string) (uint32, bool) {
	return t.index.find(maphash.String(seed, s), func(n uint32) bool { return string(t.at(n)) == s })
}

// intern returns the number of s, a new one where it has none.
func (t *names) intern(s []byte) (uint32, error) {
	hash := maphash.Bytes(seed, s)
	if n, ok := t.index.find(hash, func(n uint32) bool { return string(t.at(n)) == string(s) }); ok {
		return n, nil
	}
	if len(t.ends) >= maxNumber || len(t.text)+len(s) > math.MaxUint32 {
		return 0, ErrTooLarge
	}
	n := uint32(len(t.ends)) //nolint:gosec // bounded above
	t.text = append(t.text, s...)
	t.ends = append(t.ends, uint32(len(t.text))) //nolint:gosec // bounded above
	t.index.add(hash, n, func(n uint32) uint64 { return maphash.Bytes(seed, t.at(n)) })
	return n, nil
}

func (t *names) bytes() int64 { return int64(cap(t.text)) + 4*int64(cap(t.ends)) + t.index.bytes() }

// uuids is the same for session ids, which all have one length.
type uuids struct {
	ids   []uuid.UUID
	index index
}

func (t *uuids) find(id uuid.UUID) (uint32, bool) {
	return t.index.find(maphash.Bytes(seed, id[:]), func(n uint32) bool { return t.ids[n] == id })
}

func (t *uuids) intern(id uuid.UUID) (uint32, error) {
	hash := maphash.Bytes(seed, id[:])
	if n, ok := t.index.find(hash, func(n uint32) bool { return t.ids[n] == id }); ok {
		return n, nil
	}
	if len(t.ids) >= maxNumber {
		return 0, ErrTooLarge
	}
	n := uint32(len(t.ids)) //nolint:gosec // bounded above
	t.ids = append(t.ids, id)
	t.index.add(hash, n, func(n uint32) uint64 { return maphash.Bytes(seed, t.ids[n][:]) })
	return n, nil
}

func (t *uuids) bytes() int64 { return 16*int64(cap(t.ids)) + t.index.bytes() }
