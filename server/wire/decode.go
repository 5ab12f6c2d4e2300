package wire

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/parley-im/parley/server/message"
)

// checksum of what caches keep: it tells bytes that Encoded gave from all others, so that they need not be decoded whole
// to be trusted. Processors have an instruction for this one.
var checksum = crc32.MakeTable(crc32.Castagnoli)

const checksumSize = 4

// Encoded returns the entry as caches keep it: an encoded parley.v1.Message and a checksum of it. The caller's to keep.
func (e *Entry) Encoded() []byte {
	msg := e.message()
	b := make([]byte, 0, len(msg)+checksumSize)
	b = append(b, msg...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(msg, checksum))
}

var errNoEntry = errors.New("the bytes are no log entry")

// Decode turns what Encoded gave back into an entry. The bytes are not trusted: what Encoded did not give is an error.
func Decode[T string | []byte](raw T) (*Entry, error) {
	size := len(raw) - checksumSize
	if size < 0 {
		return nil, errNoEntry
	}
	out := &Entry{}
	var msg []byte
	out.piece, msg = newPiece(size + checksumSize)
	msg = append(msg, raw...)
	sum := binary.BigEndian.Uint32(msg[size:])
	if msg = msg[:size]; crc32.Checksum(msg, checksum) != sum || !parse(msg, &out.Entry) {
		return nil, errNoEntry
	}
	out.seal(msg)
	return out, nil
}

// parse reads a message as appendMessage wrote it: what is not the body, in order, and the body.
func parse(msg []byte, e *message.Entry) bool {
	var err error
	for b := msg; len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return false
		}
		if num == fieldContent || num > fieldCreatedAt {
			e.Body = b[:len(b):len(b)]
			break
		}
		b = b[n:]
		if typ == protowire.VarintType {
			var v uint64
			if v, n = protowire.ConsumeVarint(b); n < 0 {
				return false
			}
			switch num { //nolint:exhaustive // field numbers
			case fieldSeq:
				e.Seq = int64(v) //nolint:gosec // as it was written
			case fieldType:
				e.Type = message.Type(v) //nolint:gosec // as it was written
			case fieldIsDeleted:
				e.IsDeleted = v == 1
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return false
		}
		switch num { //nolint:exhaustive // field numbers
		case fieldSessionID:
			e.SessionID, err = uuid.ParseBytes(v)
		case fieldMessageID:
			e.MessageID, err = uuid.ParseBytes(v)
		case fieldSenderID:
			e.SenderID = string(v)
		case fieldSenderDevice:
			e.SenderDevice = string(v)
		case fieldCreatedAt:
			e.CreatedAt, err = parseTime(v)
		}
		if err != nil {
			return false
		}
		b = b[n:]
	}
	return e.Seq >= 1
}

func parseTime(b []byte) (time.Time, error) {
	var at [3]int64 // by field: seconds and nanoseconds
	for len(b) > 0 {
		num, _, n := protowire.ConsumeTag(b)
		if n < 0 || num > 2 {
			return time.Time{}, errNoEntry
		}
		v, m := protowire.ConsumeVarint(b[n:])
		if m < 0 {
			return time.Time{}, errNoEntry
		}
		at[num] = int64(v) //nolint:gosec // two's complement is the encoding
		b = b[n+m:]
	}
	return time.Unix(at[1], at[2]).UTC(), nil
}
