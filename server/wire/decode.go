package wire

import (
	"bytes"
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
	out := &Entry{piece: make([]byte, headRoom+size)}
	msg := out.piece[headRoom:]
	copy(msg, raw)
	if crc32.Checksum(msg, checksum) != binary.BigEndian.Uint32([]byte(raw[size:])) || !new(parser).parse(msg, &out.Entry) {
		return nil, errNoEntry
	}
	out.seal(msg)
	return out, nil
}

// parser reads entries of which many have the same session and sender. The zero value knows none yet.
type parser struct {
	session        uuid.UUID
	text           []byte // the session's, as it was written
	sender, device string
}

// parse reads a message as appendMessage wrote it: what is not the body, in order, and the body.
func (p *parser) parse(msg []byte, e *message.Entry) bool {
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
		if n < 0 || !p.field(num, v, e) {
			return false
		}
		b = b[n:]
	}
	return e.Seq >= 1
}

// field takes a field that is no number.
func (p *parser) field(num protowire.Number, v []byte, e *message.Entry) bool {
	ok := true
	switch num { //nolint:exhaustive // field numbers
	case fieldSessionID:
		if p.text == nil || !bytes.Equal(p.text, v) {
			if p.session, ok = parseID(v); !ok {
				return false
			}
			p.text = v
		}
		e.SessionID = p.session
	case fieldMessageID:
		e.MessageID, ok = parseID(v)
	case fieldSenderID:
		e.SenderID = same(&p.sender, v)
	case fieldSenderDevice:
		e.SenderDevice = same(&p.device, v)
	case fieldCreatedAt:
		e.CreatedAt, ok = parseTime(v)
	}
	return ok
}

// same returns v as text, the last one again if it is the same.
func same(last *string, v []byte) string {
	if *last != string(v) {
		*last = string(v)
	}
	return *last
}

// parseID reads an id as appendID wrote it.
func parseID(v []byte) (id uuid.UUID, ok bool) {
	if len(v) != 36 {
		return id, false
	}
	for i, at := range [...]int{0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34} {
		hi, lo := hexDigits[v[at]], hexDigits[v[at+1]]
		if hi|lo > 15 {
			return uuid.Nil, false
		}
		id[i] = hi<<4 | lo
	}
	return id, v[8] == '-' && v[13] == '-' && v[18] == '-' && v[23] == '-'
}

// hexDigits are the values of hexadecimal digits in lower case, 255 for all else.
var hexDigits = func() (of [256]byte) {
	for i := range of {
		of[i] = 255
	}
	for i, c := range []byte("0123456789abcdef") {
		of[c] = byte(i)
	}
	return of
}()

func parseTime(b []byte) (at time.Time, ok bool) {
	var of [3]int64 // by field: seconds and nanoseconds
	for len(b) > 0 {
		num, _, n := protowire.ConsumeTag(b)
		if n < 0 || num > 2 {
			return at, false
		}
		v, m := protowire.ConsumeVarint(b[n:])
		if m < 0 {
			return at, false
		}
		of[num] = int64(v) //nolint:gosec // two's complement is the encoding
		b = b[n+m:]
	}
	return time.Unix(of[1], of[2]).UTC(), true
}
