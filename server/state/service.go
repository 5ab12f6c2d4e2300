package state

import (
	"bytes"
	"context"
	"hash/maphash"
	"strings"
	"sync"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
)

// Key is one user's part in one session: what a change locks, and what a cache keeps.
type Key struct {
	UserID    string
	SessionID uuid.UUID
}

// Compare orders keys by user, then session, bytewise: the order in which rows are locked.
func (k Key) Compare(o Key) int {
	if c := strings.Compare(k.UserID, o.UserID); c != 0 {
		return c
	}
	return bytes.Compare(k.SessionID[:], o.SessionID[:])
}

// Store keeps states. Implemented by storage; safe for concurrent use.
type Store interface {
	// Change runs fn in one transaction that holds the locks of the keys' rows, and commits unless fn fails, whose errors
	// come back as they are. The keys ascend and are distinct. It waits for a lock only if told to, which is for a single
	// key: who waited with other locks in hand could be part of a deadlock. fn may run again from the start after a lost
	// race, so it must not keep state from an earlier run.
	Change(ctx context.Context, keys []Key, wait bool, fn func(ctx context.Context, l Ledger) error) error
	// Standing returns what the user can see of the session; ok is false when there is no such session or the user never
	// was in it.
	Standing(ctx context.Context, userID string, sessionID uuid.UUID) (s Standing, ok bool, err error)
	// Views returns a view for each of the sessions that the user is or was in, ascending by session id.
	Views(ctx context.Context, userID string, sessionIDs []uuid.UUID) ([]View, error)
	// Unread returns the views of the user's current sessions that have something unread or are flagged as unread,
	// ascending by session id.
	Unread(ctx context.Context, userID string) ([]View, error)
	// Kept returns what is kept of the user's states in the sessions of the ranges, ascending by session id; sessions that
	// the user never was in are left out. Of the exceptions it returns at least those within the ranges, which must not
	// overlap.
	Kept(ctx context.Context, userID string, ranges []message.Range) ([]Kept, error)
	// Entries returns the entries of one session within disjoint intervals, ascending by seq, with what decides the user's
	// state of each. The cursors belong to the same moment; ok is false when there are no entries.
	Entries(ctx context.Context, userID string, sessionID uuid.UUID, in []session.Interval) (e Entries, ok bool, err error)
	// Readers returns the members who have read an entry that exists: how many, and the first max of those whose id comes
	// after a user id, in byte order.
	Readers(ctx context.Context, sessionID uuid.UUID, seq int64, after string, maxUsers int) (count int64, users []string, err error)
}

// Ledger is the states of some keys inside an open transaction that holds their rows' locks. Each method is one round
// trip, whatever the number of keys. Not safe for concurrent use.
type Ledger interface {
	// Standing returns the standing of one of the keys as locked, and whether there is one.
	Standing(k Key) (Standing, Hold)
	// Except makes exceptions, then looks for what is unread; a Found for each Want, in order.
	Except(ctx context.Context, wants []Want) ([]Found, error)
	// Save stores cursors and flags, drops the exceptions that the cursors now cover, and notes all of it in one row of
	// the commit log, whose id it returns; 0 where there was nothing to store. Last it counts what is unread for the keys
	// that are asked for.
	Save(ctx context.Context, moves []Move, asked []Key) (unread map[Key]int64, commitLogID int64, err error)
}

// Hold says what a transaction has of a key.
type Hold int

// The holds.
const (
	Missing Hold = iota // there is no such session, or the user never was in it
	Held
	Busy // somebody else has the lock
)

// Want asks for exceptions of one key: "read", or "read and deleted", of those of the entries that lie above a seq (for
// "read" only the countable ones). All entries must exist; they ascend. In are disjoint intervals to look for the first
// unread entry in.
type Want struct {
	Key     Key
	Seqs    []int64
	Above   int64
	Deleted bool
	In      []session.Interval
}

// Found answers a Want.
type Found struct {
	// Changed are the seqs that were not so before, ascending.
	Changed []int64
	// FirstUnread is the first entry that is countable, not recalled, of another sender and not read by an exception; 0
	// means none.
	FirstUnread int64
}

// Move is what becomes of one key's cursors.
type Move struct {
	Key           Key
	Before, After Standing
	// Made is true where exceptions were made.
	Made bool
}

// Notifier tells the user's other devices, and others. Its methods never block, cannot fail and are safe for concurrent use.
type Notifier interface {
	// NotifyUser gives an event to the user's live devices on this node but one.
	NotifyUser(userID, exceptDevice string, ev *parleyv1.Event)
	// Read says that a member's watermark has moved in a session. It is not told of messages that the user sends.
	Read(userID string, sessionID uuid.UUID, readSeq int64)
	// Handled says that this node has told its devices what the row of the commit log stands for.
	Handled(commitLogID int64)
}

// Service has the rules. Safe for concurrent use.
type Service struct {
	store  Store
	notify Notifier
	seed   maphash.Seed
	groups [groups]group
	alone  chan struct{} // room for those who wait for a lock
	size   prometheus.Histogram
	wg     sync.WaitGroup
}

// NewService returns the service. States carry no time, so it needs no clock.
func NewService(store Store, notify Notifier) *Service {
	s := &Service{store: store, notify: notify, seed: maphash.MakeSeed(), alone: make(chan struct{}, maxAlone),
		size: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "parley_mark_batch_keys",
			Help: "States changed per group commit of marks.", Buckets: prometheus.ExponentialBuckets(1, 2, 9)})}
	for i := range s.groups {
		s.groups[i].s = s
	}
	return s
}

// Register adds the service's metrics to a registry.
func (s *Service) Register(reg prometheus.Registerer) { reg.MustRegister(s.size) }

func (s Standing) sameCursors(o Standing) bool {
	return s.ReadSeq == o.ReadSeq && s.DeletedToSeq == o.DeletedToSeq && s.MarkedUnread == o.MarkedUnread
}
