package storage

import (
	"context"

	"github.com/google/uuid"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/state"
	"github.com/parley-im/parley/server/stream"
)

// The bits of StartList's settings.
const (
	isMuted = 1 << iota
	notificationsMuted
	isPinned
	isArchived
)

// Starts implements stream.Starter, with one statement for all.
func (s Positions) Starts(ctx context.Context, asks []stream.Ask) ([]stream.Start, error) {
	p := sqlc.StartListParams{MostExceptions: stream.MaxExceptions + 1}
	for i, a := range asks {
		p.Numbers = append(p.Numbers, int32(i))
		p.UserIds = append(p.UserIds, a.UserID)
		p.DeviceIds = append(p.DeviceIds, a.DeviceID)
		p.Fresh = append(p.Fresh, a.Fresh)
		p.Named = append(p.Named, a.Named)
		p.Counted = append(p.Counted, a.Counted)
		p.RoamBacklog = max(p.RoamBacklog, a.RoamBacklog)
	}
	rows, err := s.q.StartList(ctx, s.pool, p)
	if err != nil {
		return nil, Fault(err)
	}
	out := make([]stream.Start, len(asks))
	for from := 0; from < len(rows); {
		first := &rows[from]
		to := from + 1
		for to < len(rows) && rows[to].Number == first.Number {
			to++
		}
		st := &out[first.Number]
		st.Known, st.Synced, st.Number = first.Known && !first.Revoked, first.Synced, first.StreamNumber
		if first.SessionID != uuid.Nil {
			st.Positions = make([]stream.Position, to-from)
			for i := range st.Positions {
				st.Positions[i] = positionOf(&rows[from+i])
			}
		}
		from = to
	}
	return out, nil
}

func positionOf(r *sqlc.StartListRow) stream.Position {
	var left *int64
	if r.LeftSeq > 0 {
		left = &r.LeftSeq
	}
	p := stream.Position{
		SessionID: r.SessionID, Visible: visibility(r.Earlier, r.VisibleSeq, left), Role: session.Role(r.Role),
		Settings: stream.Settings{Muted: r.Settings&isMuted != 0, NotificationsMuted: r.Settings&notificationsMuted != 0,
			Pinned: r.Settings&isPinned != 0, Archived: r.Settings&isArchived != 0},
		Active: left == nil, JoinedSeq: r.JoinedSeq, DeletedToSeq: r.DeletedToSeq, Head: r.LastSeq,
		State: stream.Standing{From: r.StateFrom, Exceptions: r.Exceptions, Whole: len(r.Exceptions) <= stream.MaxExceptions,
			View: state.View{SessionID: r.SessionID, Active: left == nil, ReadSeq: r.ReadSeq, DeletedToSeq: r.DeletedToSeq,
				Unread: r.Unread}},
	}
	if r.AckedSeq >= 0 {
		p.Acked, p.HasCursor = r.AckedSeq, true
	}
	return p
}
