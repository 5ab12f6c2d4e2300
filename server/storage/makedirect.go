package storage

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/committer"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
)

// making are the direct sessions that a batch asks for, each once, and what PostgreSQL said of their users.
type making struct {
	ids         []uuid.UUID
	lows, highs []string
	full        sqlc.SessionMakeDirectRow
}

// queueMake queues the making of direct sessions that are not known to exist, in the order of the drafts. Those that only an
// answer asks for come last: a session without entries has nothing to answer to, so they would take a place for nothing.
func (s *Messages) queueMake(ctx context.Context, batch *pipeline, drafts []message.Draft, now time.Time) (m making) {
	var asked []*message.Draft
	for i := range drafts {
		if d := &drafts[i]; d.Peer != "" && !s.direct.Contains(d.SessionID) {
			asked = append(asked, d)
		}
	}
	if len(asked) == 0 {
		return m
	}
	slices.SortStableFunc(asked, func(a, b *message.Draft) int { return cmp.Compare(min(a.ReplyTo, 1), min(b.ReplyTo, 1)) })
	known := make(map[uuid.UUID]struct{}, len(asked))
	for _, d := range asked {
		if _, again := known[d.SessionID]; again {
			continue
		}
		known[d.SessionID] = struct{}{}
		_, low, high := session.DirectID(d.SenderID, d.Peer)
		m.ids, m.lows, m.highs = append(m.ids, d.SessionID), append(m.lows, low), append(m.highs, high)
	}
	_, queued := s.q.SessionMakeDirect(ctx, batch, sqlc.SessionMakeDirectParams{
		SessionIds: m.ids, Lows: m.lows, Highs: m.highs, Now: now,
		Most: int32(s.maxSessions)}) //nolint:gosec // LimitSessions bounds it
	batch.queued(queued)
	return m
}

// tell gives senders who are in too many sessions themselves that answer. To parley_append a session that was not made is one
// with somebody who cannot be reached, which is all that is said of the other user's sessions.
func (m *making) tell(drafts []message.Draft, out []committer.Outcome) error {
	if len(m.full.LowFull) != len(m.ids) || len(m.full.HighFull) != len(m.ids) {
		return errors.New("the making of sessions was answered in part")
	}
	place := make(map[uuid.UUID]int, len(m.ids))
	for at, id := range m.ids {
		place[id] = at
	}
	for i, d := range drafts {
		at, asked := place[d.SessionID]
		if !asked || d.Peer == "" || !errors.Is(out[i].Err, session.PeerUnavailable) {
			continue
		}
		if d.SenderID == m.lows[at] && m.full.LowFull[at] || d.SenderID == m.highs[at] && m.full.HighFull[at] {
			out[i].Err = session.TooMany
		}
	}
	return nil
}
