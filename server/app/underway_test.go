package app

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/committer"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
)

// scripted is a committer.Store that answers what it is told to.
type scripted struct {
	during  func()
	out     []committer.Outcome
	entries []message.Entry
	err     error
}

func (s *scripted) Append(context.Context, []message.Draft, time.Time) ([]committer.Outcome, error) {
	s.during()
	return s.out, s.err
}

func (s *scripted) WithLog(context.Context, uuid.UUID, session.Change) ([]message.Entry, string, error) {
	s.during()
	return s.entries, "", s.err
}

func TestHeadsOfOwnCommitsAreToldAfterTheyWerePublished(t *testing.T) {
	busy, other := uuid.New(), uuid.New()
	entry := message.Entry{SessionID: busy}
	for name, c := range map[string]struct {
		log     scripted
		change  bool
		publish []message.Entry // nil: it is told without
	}{
		"new":                   {log: scripted{out: []committer.Outcome{{New: true}, {New: true}}}, publish: []message.Entry{entry, entry}},
		"one repeated":          {log: scripted{out: []committer.Outcome{{New: true}, {}}}, publish: []message.Entry{entry}},
		"all repeated":          {log: scripted{out: []committer.Outcome{{}, {}}}},
		"unknown outcome":       {log: scripted{err: errors.New("connection lost")}},
		"change":                {log: scripted{entries: []message.Entry{entry, entry, entry}}, change: true, publish: []message.Entry{entry, entry, entry}},
		"change without entry":  {change: true},
		"change that failed":    {log: scripted{err: errors.New("connection lost")}, change: true},
		"change with one entry": {log: scripted{entries: []message.Entry{entry}}, change: true, publish: []message.Entry{entry}},
	} {
		t.Run(name, func(t *testing.T) {
			told := map[uuid.UUID]int64{}
			u := newUnderway()
			u.tell = func(_ string, id uuid.UUID, head int64) { told[id] = head }
			c.log.during = func() {
				u.advanced("life", busy, 7)
				u.advanced("life", busy, 6)
				u.advanced("life", other, 3)
				require.Equal(t, map[uuid.UUID]int64{other: 3}, told)
			}
			log := countedLog{&c.log, u}
			if c.change {
				_, _, _ = log.WithLog(t.Context(), busy, nil)
			} else {
				_, _ = log.Append(t.Context(), []message.Draft{{SessionID: busy}, {SessionID: busy}}, time.Time{})
			}
			if c.publish != nil {
				require.NotContains(t, told, busy)
				u.published(c.publish)
			}
			require.EqualValues(t, 7, told[busy])
			require.Empty(t, u.count)
			require.Empty(t, u.heads)
		})
	}
}
