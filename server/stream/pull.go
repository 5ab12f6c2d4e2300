package stream

import (
	"bytes"
	"context"
	"fmt"

	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/wire"
)

// Mark is where a page of backlog ended: sessions before SessionID are done, and SessionID up to Seq. The zero value
// stands before the first page.
type Mark struct {
	SessionID uuid.UUID
	Seq       int64
}

// Pulled is a page of a device's backlog.
type Pulled struct {
	Entries []*wire.Entry // ascending by seq within a session, one session after the other
	StateOf StateOf
	Skipped []*parleyv1.Skipped
	Epoch   string
	Next    Mark // the zero value on the last page
}

// Pull returns at most limit entries of the device's backlog after mark: what Subscribe would send before CaughtUp. It
// moves no cursor, but a new device's starting positions are stored with the first page.
func (m *Manager) Pull(ctx context.Context, caller Caller, after Mark, limit int64) (Pulled, error) {
	out := Pulled{Epoch: m.epoch.Current()}
	at, err := m.arrivals.get(ctx, Ask{UserID: caller.UserID, DeviceID: caller.DeviceID, RoamBacklog: m.cfg.RoamBacklog})
	if err != nil {
		return out, fmt.Errorf("read positions: %w", err)
	}
	if !at.Synced {
		if err := m.roam(ctx, caller, at.Positions, &out); err != nil {
			return out, err
		}
	}
	ranges := chooseBacklog(at.Positions, after, limit, &out)
	if len(ranges) == 0 {
		return out, nil
	}
	release, err := m.admit(ctx)
	if err != nil {
		return Pulled{}, err
	}
	defer release()
	pages, err := m.reader.Read(ctx, ranges)
	if err != nil {
		return out, fmt.Errorf("read backlog: %w", err)
	}
	for _, page := range pages {
		out.Entries = append(out.Entries, page...)
	}
	out.StateOf, err = m.statesOfPage(ctx, caller.UserID, at.Positions, ranges)
	return out, err
}

// statesOfPage returns what tells the states of a page: what was read with the positions, and what that does not hold.
func (m *Manager) statesOfPage(ctx context.Context, userID string, positions []Position, ranges []message.Range) (StateOf, error) {
	known := make(map[uuid.UUID]Position, len(positions))
	for _, p := range positions {
		known[p.SessionID] = p
	}
	of := make(map[uuid.UUID]StateOf, len(ranges))
	var rest []message.Range
	for _, q := range ranges {
		p := known[q.SessionID]
		if !p.State.covers(q, p.Head) {
			rest = append(rest, q)
		} else if of[q.SessionID] == nil {
			of[q.SessionID] = p.State.stateOf(userID)
		}
	}
	if len(rest) > 0 {
		read, err := m.states.StatesOf(ctx, userID, rest)
		if err != nil {
			return nil, fmt.Errorf("read states: %w", err)
		}
		for _, q := range rest {
			of[q.SessionID] = read
		}
	}
	return func(e *wire.Entry) *parleyv1.MessageState { return of[e.SessionID](e) }, nil
}

// roam gives a new device its starting positions.
func (m *Manager) roam(ctx context.Context, caller Caller, positions []Position, out *Pulled) error {
	begin := make([]Cursor, len(positions))
	for i, p := range positions {
		last := p.Visible.Last(p.Head)
		from := p.start(true)
		at := max(from, last-m.cfg.RoamBacklog, min(p.DeletedToSeq, last))
		if at > from {
			out.Skipped = append(out.Skipped, skipped(p.SessionID, from+1, at))
		}
		begin[i] = Cursor{p.SessionID, at}
		positions[i].Acked, positions[i].HasCursor = at, true
	}
	if err := m.devices.StartSync(ctx, caller.UserID, caller.DeviceID, begin); err != nil {
		return fmt.Errorf("store starting positions: %w", err)
	}
	return nil
}

// chooseBacklog picks the ranges of one page, in the order of session ids.
func chooseBacklog(positions []Position, after Mark, limit int64, out *Pulled) (ranges []message.Range) {
	for _, p := range positions {
		order := bytes.Compare(p.SessionID[:], after.SessionID[:])
		if order < 0 {
			continue
		}
		at := p.start(false)
		if order == 0 {
			at = max(at, after.Seq)
		}
		for {
			lo, hi, ok := p.Visible.Next(at, p.Head)
			if !ok {
				break
			}
			if limit == 0 {
				return ranges
			}
			if lo > at {
				out.Skipped = append(out.Skipped, skipped(p.SessionID, at+1, lo))
			}
			hi = min(hi, lo+limit)
			limit -= hi - lo
			ranges = append(ranges, message.Range{SessionID: p.SessionID, From: lo, To: hi})
			out.Next = Mark{p.SessionID, hi}
			at = hi
		}
	}
	out.Next = Mark{}
	return ranges
}

func skipped(id uuid.UUID, from, to int64) *parleyv1.Skipped {
	return &parleyv1.Skipped{SessionId: id.String(), FromSeq: from, ToSeq: to}
}
