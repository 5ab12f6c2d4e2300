package statecache

import (
	"encoding/binary"
	"errors"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/state"
)

// A value starts with its kind. valueKept is followed by read_seq, deleted_to_seq, the unread flag, the number of
// exceptions and for each the distance from the one before with two bits for read and deleted, all as varints.
// valueBypass says that the session is not kept here. No kind may be "L": that is a lease.
const (
	valueKept   = 'V'
	valueBypass = "B"
)

var errValue = errors.New("a cached state cannot be read")

// encode returns the value of what PostgreSQL has; ok is false where it has nothing of the session.
func encode(k state.Kept, ok bool) string {
	if !ok || !k.Whole {
		return valueBypass
	}
	b := make([]byte, 0, 16+3*len(k.Exceptions))
	b = append(b, valueKept)
	b = binary.AppendVarint(b, k.ReadSeq)
	b = binary.AppendVarint(b, k.DeletedToSeq)
	b = binary.AppendUvarint(b, bit(k.MarkedUnread))
	b = binary.AppendUvarint(b, uint64(len(k.Exceptions)))
	last := int64(0)
	for _, e := range k.Exceptions {
		b = binary.AppendUvarint(b, uint64(e.Seq-last)<<2|bit(e.Read)<<1|bit(e.Deleted)) //nolint:gosec // seqs ascend
		last = e.Seq
	}
	return string(b)
}

func bit(on bool) uint64 {
	if on {
		return 1
	}
	return 0
}

// decode reads a value; bypass is true where the session is to be read from PostgreSQL.
func decode(id uuid.UUID, v string) (k state.Kept, bypass bool, err error) {
	if v == valueBypass {
		return k, true, nil
	}
	r := reader{rest: []byte(v)}
	if len(v) == 0 || v[0] != valueKept {
		return k, false, errValue
	}
	r.rest = r.rest[1:]
	k = state.Kept{SessionID: id, Whole: true, ReadSeq: r.signed(), DeletedToSeq: r.signed(), MarkedUnread: r.unsigned() == 1}
	n, last := r.unsigned(), int64(0)
	if n > uint64(len(r.rest)) { // each takes a byte at least
		return state.Kept{}, false, errValue
	}
	if n > 0 {
		k.Exceptions = make([]state.Exception, n)
	}
	for i := range k.Exceptions {
		x := r.unsigned()
		last += int64(x >> 2)
		k.Exceptions[i] = state.Exception{SessionID: id, Seq: last, Read: x&2 != 0, Deleted: x&1 != 0}
	}
	if r.bad || len(r.rest) > 0 {
		return state.Kept{}, false, errValue
	}
	return k, false, nil
}

// reader reads varints; bad stays true after the first that is none.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) signed() int64 {
	v, n := binary.Varint(r.rest)
	r.skip(n)
	return v
}

func (r *reader) unsigned() uint64 {
	v, n := binary.Uvarint(r.rest)
	r.skip(n)
	return v
}

func (r *reader) skip(n int) {
	if n <= 0 {
		r.bad, n = true, 0
	}
	r.rest = r.rest[n:]
}
