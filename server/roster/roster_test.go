package roster

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/device"
	"github.com/parley-im/parley/server/feed"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/relation"
)

var (
	realClock = clockwork.NewRealClock()
	discard   = slog.New(slog.DiscardHandler)
)

// tables is PostgreSQL as far as the map sees it. While hold is set, a scan that has taken its snapshot reports on
// scanned and waits.
type tables struct {
	mu      sync.Mutex
	rows    map[feed.Relation]uint8
	err     error
	scanned chan struct{}
	hold    chan struct{}
	asked   int
}

func (s *tables) Scan(ctx context.Context, v Visitor, _ bool) (Sums, error) {
	s.mu.Lock()
	snapshot, err, hold := make(map[feed.Relation]uint8), s.err, s.hold
	for key, traits := range s.rows {
		snapshot[key] = traits
	}
	s.mu.Unlock()
	if hold != nil {
		s.scanned <- struct{}{}
		select {
		case <-hold:
		case <-ctx.Done():
			return Sums{}, ctx.Err()
		}
	}
	for key, traits := range snapshot {
		other := []byte(key.OtherID)
		if key.Kind == feed.UserToSession {
			id := uuid.MustParse(key.OtherID)
			other = id[:]
		}
		if err := v.Row(key.Kind, []byte(key.UserID), other, traits); err != nil {
			return Sums{}, err
		}
	}
	return Sums{}, err
}

func (s *tables) Again(_ context.Context, _ feed.RelationKind, keys []feed.Relation) (out []Row, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		if traits, ok := s.rows[key]; ok {
			out = append(out, Row{key, traits})
		}
	}
	return out, s.err
}

func (s *tables) put(key feed.Relation, traits uint8) feed.Relation {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows[key] = traits
	return key
}

func (s *tables) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *tables) Access(context.Context, string, string) (device.Access, error) {
	s.asked++
	return device.Access{Known: true, Revoked: true}, nil
}

func (s *tables) ActiveSessionIDs(context.Context, string) ([]uuid.UUID, error) {
	s.asked++
	return []uuid.UUID{uuid.Max}, nil
}

var (
	room    = uuid.UUID{1}
	alice   = feed.Relation{Kind: feed.User, UserID: "alice"}
	phone   = feed.Relation{Kind: feed.UserToDevice, UserID: "alice", OtherID: "phone"}
	inRoom  = feed.Relation{Kind: feed.UserToSession, UserID: "alice", OtherID: room.String()}
	friends = feed.Relation{Kind: feed.UserToUser, UserID: "alice", OtherID: "bob"}
)

func newTables() *tables {
	return &tables{rows: map[feed.Relation]uint8{alice: 0, phone: 0, inRoom: 1, friends: 1},
		scanned: make(chan struct{}, 1)}
}

func newRoster(t *testing.T, s *tables) (*Roster, *clockwork.FakeClock) {
	t.Helper()
	clock := clockwork.NewFakeClock()
	return New(s, Config{}, clock, discard, prometheus.NewRegistry()), clock
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	s := newTables()
	r, _ := newRoster(t, s)
	fresh, yes := r.IsMember("alice", room)
	require.False(t, fresh || yes, "nothing before it is loaded")
	require.NoError(t, r.Load(t.Context()))

	fresh, yes = r.IsMember("alice", room)
	require.True(t, fresh && yes)
	fresh, yes = r.IsMember("bob", room)
	require.True(t, fresh)
	require.False(t, yes)
	ids, fresh := r.Sessions("alice")
	require.True(t, fresh)
	require.Equal(t, []uuid.UUID{room}, ids)
	users, fresh := r.Members(room)
	require.True(t, fresh)
	require.Equal(t, []string{"alice"}, users)
	mark, fresh := r.Relation("alice", "bob")
	require.True(t, fresh)
	require.Equal(t, relation.MarkFriend, mark)
	mark, _ = r.Relation("bob", "alice")
	require.Equal(t, relation.Unmarked, mark)

	allowed, _, known := r.Device("alice", "phone")
	require.True(t, allowed && known)
	_, _, known = r.Device("alice", "tablet")
	require.False(t, known)
	r.Apply(t.Context(), []feed.Relation{s.put(phone, TraitRevoked), s.put(inRoom, 1|TraitLeft)})
	allowed, why, known := r.Device("alice", "phone")
	require.False(t, allowed)
	require.True(t, known)
	require.Equal(t, refusal.DeviceRevoked, why)
	_, yes = r.IsMember("alice", room)
	require.False(t, yes)
	ids, _ = r.Sessions("alice")
	users, _ = r.Members(room)
	require.Empty(t, ids)
	require.Empty(t, users)
	r.Apply(t.Context(), []feed.Relation{s.put(alice, TraitDeactivated)})
	_, why, _ = r.Device("alice", "phone")
	require.Equal(t, refusal.UserDeactivated, why)
}

// When the feed stops, so do the answers, and they come back with it.
func TestFailsClosedWhenTheFeedStops(t *testing.T) {
	t.Parallel()
	r, clock := newRoster(t, newTables())
	require.NoError(t, r.Load(t.Context()))
	allowed := func() bool {
		ok, _, known := r.Device("alice", "phone")
		return ok && known
	}
	member := func() bool {
		fresh, yes := r.IsMember("alice", room)
		return fresh && yes
	}
	clock.Advance(MaxDeviceAge)
	require.True(t, allowed() && member())
	clock.Advance(1)
	require.False(t, allowed())
	clock.Advance(MaxAge - MaxDeviceAge - 1)
	require.True(t, member())
	require.Equal(t, MaxAge, r.Age())
	clock.Advance(1)
	require.False(t, member())
	ids, fresh := r.Sessions("alice")
	require.Empty(t, ids)
	require.False(t, fresh)
	_, fresh = r.Members(room)
	require.False(t, fresh)
	_, fresh = r.Relation("alice", "bob")
	require.False(t, fresh)
	_, ok := r.Sums()
	require.False(t, ok)

	r.Polled(t.Context(), clock.Now().Add(-time.Second))
	require.True(t, allowed() && member())
	require.Equal(t, time.Second, r.Age(), "counted from before the poll")
}

func TestGapStopsAnswersUntilReload(t *testing.T) {
	t.Parallel()
	s := newTables()
	r, clock := newRoster(t, s)
	require.NoError(t, r.Load(t.Context()))
	r.Lost()
	r.Polled(t.Context(), clock.Now())
	fresh, _ := r.IsMember("alice", room)
	require.False(t, fresh)

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { r.Run(ctx); close(done) }()
	require.Eventually(t, func() bool { fresh, yes := r.IsMember("alice", room); return fresh && yes }, time.Minute, time.Millisecond)
	r.Lost()
	require.Eventually(t, func() bool { fresh, yes := r.IsMember("alice", room); return fresh && yes }, time.Minute, time.Millisecond)
	stop()
	<-done
}

// A gap that comes while loading voids the load.
func TestGapWhileLoading(t *testing.T) {
	t.Parallel()
	s := newTables()
	s.hold = make(chan struct{})
	r, _ := newRoster(t, s)
	result := make(chan error, 1)
	go func() { result <- r.Load(t.Context()) }()
	<-s.scanned
	r.Lost()
	close(s.hold)
	require.ErrorIs(t, <-result, errSuperseded)
	fresh, _ := r.IsMember("alice", room)
	require.False(t, fresh)
}

// What is told while a load is under way, whose snapshot does not have it, is not lost; nor by a load beside a map in use.
func TestChangesWhileLoading(t *testing.T) {
	t.Parallel()
	for _, loaded := range []bool{false, true} {
		s := newTables()
		r, _ := newRoster(t, s)
		if loaded {
			require.NoError(t, r.Load(t.Context()))
		}
		s.hold = make(chan struct{})
		result := make(chan error, 1)
		go func() { result <- r.Load(t.Context()) }()
		<-s.scanned
		r.Apply(t.Context(), []feed.Relation{s.put(inRoom, 1|TraitLeft), s.put(phone, TraitRevoked)})
		if loaded {
			_, yes := r.IsMember("alice", room)
			require.False(t, yes)
		}
		close(s.hold)
		require.NoError(t, <-result)
		fresh, yes := r.IsMember("alice", room)
		require.True(t, fresh)
		require.False(t, yes)
		_, why, _ := r.Device("alice", "phone")
		require.Equal(t, refusal.DeviceRevoked, why)
	}
}

// A change whose row cannot be read holds all answers back until it can.
func TestUnreadChangeHoldsAnswersBack(t *testing.T) {
	t.Parallel()
	s := newTables()
	r, clock := newRoster(t, s)
	require.NoError(t, r.Load(t.Context()))
	s.fail(errors.New("down"))
	r.Apply(t.Context(), []feed.Relation{s.put(phone, TraitRevoked)})
	r.Polled(t.Context(), clock.Now())
	_, _, known := r.Device("alice", "phone")
	require.False(t, known)
	fresh, _ := r.IsMember("alice", room)
	require.False(t, fresh)
	s.fail(nil)
	r.Polled(t.Context(), clock.Now())
	allowed, _, known := r.Device("alice", "phone")
	require.True(t, known)
	require.False(t, allowed)
}

// What this node changed itself is in doubt until a later poll, however fresh the map is.
func TestDoubt(t *testing.T) {
	t.Parallel()
	r, clock := newRoster(t, newTables())
	require.NoError(t, r.Load(t.Context()))
	r.Doubt("alice")
	r.Polled(t.Context(), clock.Now())
	_, _, known := r.Device("alice", "phone")
	require.False(t, known, "that poll may have begun before")
	clock.Advance(time.Millisecond)
	r.Polled(t.Context(), clock.Now())
	_, _, known = r.Device("alice", "phone")
	require.True(t, known)

	for range 3 {
		for i := range maxDoubts {
			r.Doubt(uuid.UUID{0: byte(i), 1: byte(i >> 8)}.String())
		}
	}
	r.Doubt("somebody")
	_, _, known = r.Device("alice", "phone")
	require.False(t, known, "too many to tell apart: all are in doubt")
	require.LessOrEqual(t, len(r.doubts), maxDoubts)
	clock.Advance(time.Millisecond)
	r.Polled(t.Context(), clock.Now())
	_, _, known = r.Device("alice", "phone")
	require.True(t, known)
	require.Empty(t, r.doubts)
}

func TestTooLargeLetsGo(t *testing.T) {
	t.Parallel()
	s := newTables()
	r := New(s, Config{MaxBytes: 1}, clockwork.NewFakeClock(), discard, nil)
	require.ErrorIs(t, r.Load(t.Context()), ErrTooLarge)
	fresh, _ := r.IsMember("alice", room)
	require.False(t, fresh)
}

// Only yes is answered from the map; everything else is asked of the store.
func TestDecorators(t *testing.T) {
	t.Parallel()
	s := newTables()
	r, clock := newRoster(t, s)
	require.NoError(t, r.Load(t.Context()))
	access, active := Access{r, s}, ActiveSessions{r, s}
	ctx := t.Context()
	a, err := access.Access(ctx, "alice", "phone")
	require.NoError(t, err)
	require.Equal(t, device.Access{Known: true}, a)
	ids, err := active.ActiveSessionIDs(ctx, "alice")
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{room}, ids)
	require.Zero(t, s.asked)

	_, err = access.Access(ctx, "alice", "tablet")
	require.NoError(t, err)
	ids, err = active.ActiveSessionIDs(ctx, "nobody")
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{uuid.Max}, ids)
	require.Equal(t, 2, s.asked)
	clock.Advance(MaxAge + 1)
	a, err = access.Access(ctx, "alice", "phone")
	require.NoError(t, err)
	require.True(t, a.Revoked)
	_, err = active.ActiveSessionIDs(ctx, "alice")
	require.NoError(t, err)
	require.Equal(t, 4, s.asked)
	count := func(kind, result string) float64 {
		var m dto.Metric
		require.NoError(t, r.metrics.lookups.WithLabelValues(kind, result).Write(&m))
		return m.GetCounter().GetValue()
	}
	require.InDelta(t, 1, count("device", "hit"), 0)
	require.InDelta(t, 2, count("sessions", "miss"), 0)
}
