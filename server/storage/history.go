package storage

import (
	"context"
	"math"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/message"
)

// ListRanges implements offline.Source: one query for all ranges.
func (s *Messages) ListRanges(ctx context.Context, ranges []message.Range) ([][]message.Entry, error) {
	p := sqlc.MessageListRangesParams{MaxEntries: math.MaxInt32}
	for _, r := range ranges {
		p.SessionIds = append(p.SessionIds, r.SessionID)
		p.FromSeqs = append(p.FromSeqs, r.From)
		p.ToSeqs = append(p.ToSeqs, r.To)
	}
	rows, err := s.q.MessageListRanges(ctx, s.pool, p)
	if err != nil {
		return nil, Fault(err)
	}
	out := make([][]message.Entry, len(ranges))
	for _, r := range rows {
		i := r.Ord - 1
		if out[i] == nil {
			out[i] = make([]message.Entry, 0, ranges[i].To-ranges[i].From)
		}
		out[i] = append(out[i], entry(r))
	}
	return out, nil
}

func entry(r sqlc.MessageListRangesRow) message.Entry {
	return message.Entry{SessionID: r.SessionID, Seq: r.SeqID, MessageID: r.MsgID, SenderID: r.UserID,
		SenderDevice: r.DeviceID, Type: message.Type(r.Type), Body: r.Content, IsDeleted: r.IsDelete, CreatedAt: r.CreatedAt.UTC()}
}
