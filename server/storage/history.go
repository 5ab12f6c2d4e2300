package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/message"
)

// ListRanges implements offline.Source: one query for all ranges. Rows are read from the bytes in which they come, since
// scanning each column cost the node more than most else that it does with an entry. They come in the binary format: the
// modes of execution that would ask for text cannot send the arguments, and a row in another format is an error.
func (s *Messages) ListRanges(ctx context.Context, ranges []message.Range) ([][]message.Entry, error) {
	p := sqlc.MessageListRangesParams{MaxEntries: math.MaxInt32}
	for _, r := range ranges {
		p.SessionIds = append(p.SessionIds, r.SessionID)
		p.FromSeqs = append(p.FromSeqs, r.From)
		p.ToSeqs = append(p.ToSeqs, r.To)
	}
	rows, err := s.pool.Query(ctx, sqlc.MessageListRanges, p.SessionIds, p.FromSeqs, p.ToSeqs, p.MaxEntries)
	if err != nil {
		return nil, Fault(err)
	}
	defer rows.Close()
	out, err := gatherRanges(rows, ranges)
	return out, Fault(err)
}

func gatherRanges(rows pgx.Rows, ranges []message.Range) ([][]message.Entry, error) {
	out := make([][]message.Entry, len(ranges))
	var raw rawEntries
	for rows.Next() {
		r, err := raw.row(rows.RawValues())
		if err != nil {
			return nil, err
		}
		i := r.Ord - 1
		if out[i] == nil {
			out[i] = make([]message.Entry, 0, ranges[i].To-ranges[i].From)
		}
		out[i] = append(out[i], entry(ranges[i].SessionID, r))
	}
	return out, rows.Err()
}

func entry(session uuid.UUID, r sqlc.MessageListRangesRow) message.Entry {
	return message.Entry{SessionID: session, Seq: r.SeqID, MessageID: r.MsgID, SenderID: r.UserID,
		SenderDevice: r.DeviceID, Type: message.Type(r.Type), Body: r.Content, IsDeleted: r.Content == nil, CreatedAt: r.CreatedAt.UTC()}
}

// rawEntries reads rows of MessageListRanges in the binary format. Bodies share memory, and neighbours their texts.
type rawEntries struct {
	sender, device string
	room           []byte
}

// rawColumns are the sizes of the columns, 0 for those that vary.
var rawColumns = [...]int{4, 8, 16, 0, 0, 2, 0, 8}

// How much memory for bodies is asked for at a time, in bytes: twice as much each time.
const (
	bodiesAtFirst = 512
	bodiesAtMost  = 32 << 10
)

var errRow = errors.New("a row of msg is not in the binary format")

// row reads a row; v is not kept.
func (w *rawEntries) row(v [][]byte) (r sqlc.MessageListRangesRow, err error) {
	if len(v) != len(rawColumns) {
		return r, errRow
	}
	for i, size := range rawColumns {
		if size > 0 && len(v[i]) != size {
			return r, errRow
		}
	}
	//nolint:gosec // two's complement is the encoding
	r.Ord, r.SeqID, r.Type = int32(binary.BigEndian.Uint32(v[0])), int64(binary.BigEndian.Uint64(v[1])), int16(binary.BigEndian.Uint16(v[5]))
	r.MsgID = uuid.UUID(v[2])
	if w.sender != string(v[3]) {
		w.sender = string(v[3])
	}
	if w.device != string(v[4]) {
		w.device = string(v[4])
	}
	r.UserID, r.DeviceID = w.sender, w.device
	r.Content = w.body(v[6])
	r.CreatedAt = time.UnixMicro(pgEpoch + int64(binary.BigEndian.Uint64(v[7]))) //nolint:gosec // two's complement is the encoding
	return r, nil
}

// pgEpoch is where PostgreSQL's timestamps begin, 2000-01-01, in microseconds.
const pgEpoch = 946_684_800_000_000

// body returns a copy; nil for NULL.
func (w *rawEntries) body(v []byte) []byte {
	if v == nil {
		return nil
	}
	if len(v) > cap(w.room)-len(w.room) {
		w.room = make([]byte, 0, max(bodiesAtFirst, len(v), min(2*cap(w.room), bodiesAtMost)))
	}
	at := len(w.room)
	w.room = append(w.room, v...)
	return w.room[at:len(w.room):len(w.room)]
}
