package wire

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
)

// A chunk is how caches keep a stretch of one session's log: a checksum, and behind it the entries as they go to every stream, one
// after the other, which together are an encoded SubscribeResponse. So nothing is encoded or copied entry by entry when
// it is read.

// Chunk returns entries of one session, ascending and without holes, as a chunk.
func Chunk(entries []*Entry) []byte {
	size := checksumSize
	for _, e := range entries {
		size += len(e.piece)
	}
	b := make([]byte, checksumSize, size)
	for _, e := range entries {
		b = append(b, e.piece...)
	}
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[checksumSize:], checksum))
	return b
}

// OpenChunk appends to dst the entries of a chunk with seq > after, up to seq to. The bytes are not trusted: what is no chunk
// of the session is an error. The entries share raw, which must not change any more, and are let go together.
func OpenChunk(dst []*Entry, raw []byte, session uuid.UUID, after, to int64) ([]*Entry, error) {
	if len(raw) <= checksumSize {
		return dst, errNoEntry
	}
	b := raw[checksumSize:]
	if crc32.Checksum(b, checksum) != binary.BigEndian.Uint32(raw) {
		return dst, errNoEntry
	}
	n := 0
	for rest := b; len(rest) > 0; n++ {
		piece, _, ok := cutPiece(rest)
		if !ok {
			return dst, errNoEntry
		}
		rest = rest[len(piece):]
	}
	all := make([]Entry, min(n, int(max(to-after, 0))))
	var p parser
	for last := int64(0); len(b) > 0 && len(all) > 0; {
		e := &all[0]
		*e = Entry{}
		e.piece, e.offset, _ = cutPiece(b)
		b = b[len(e.piece):]
		if !p.parse(e.message(), &e.Entry) || e.SessionID != session || last > 0 && e.Seq != last+1 {
			return dst, errNoEntry
		}
		if last = e.Seq; last > after && last <= to {
			e.look()
			dst, all = append(dst, e), all[1:]
		}
	}
	return dst, nil
}

// cutPiece finds the piece that begins here, and where in it the message begins.
func cutPiece(b []byte) (piece []byte, offset int, ok bool) {
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 || num != fieldEvents || typ != protowire.BytesType {
		return nil, 0, false
	}
	event, m := protowire.ConsumeBytes(b[n:])
	if m < 0 {
		return nil, 0, false
	}
	size := n + m
	if num, typ, n = protowire.ConsumeTag(event); n < 0 || num != fieldMessage || typ != protowire.BytesType {
		return nil, 0, false
	}
	msg, m := protowire.ConsumeBytes(event[n:])
	if m < 0 || n+m != len(event) {
		return nil, 0, false
	}
	return b[:size:size], size - len(msg), true
}
