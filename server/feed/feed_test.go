package feed_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/parley-im/parley/server/feed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script answers polls one after the other and notes what it was asked.
type script struct {
	batches chan feed.Batch
	fail    chan error
	since   chan string
	trims   chan string
	lost    chan error // of asking for the recalls
}

func newScript() *script {
	return &script{batches: make(chan feed.Batch, 1), fail: make(chan error, 1), since: make(chan string, 10), trims: make(chan string, 10),
		lost: make(chan error, 1)}
}

func (s *script) Poll(ctx context.Context, since string) (feed.Batch, error) {
	s.since <- since
	select {
	case err := <-s.fail: // it was there before the poll, which the next batch may not have been
		return feed.Batch{}, err
	default:
	}
	select {
	case <-ctx.Done():
		return feed.Batch{}, ctx.Err()
	case b := <-s.batches:
		return b, nil
	}
}

func (s *script) Recalls(context.Context) ([]uuid.UUID, error) {
	select {
	case err := <-s.lost:
		return nil, err
	default:
		return []uuid.UUID{{1}}, nil
	}
}

func (s *script) Trim(_ context.Context, until string) (int64, error) {
	s.trims <- until
	return 0, nil
}

type told struct{ events chan string }

func (t told) Advanced(epoch string, _ uuid.UUID, head int64) {
	t.events <- fmt.Sprint("advanced ", head, " of ", epoch)
}
func (t told) Recalled(id uuid.UUID) { t.events <- "recalled " + string('0'+rune(id[0])) }
func (t told) StreamStarted(epoch, user, device string, number int64) {
	t.events <- fmt.Sprint("stream ", user, "/", device, " ", number, " of ", epoch)
}
func (t told) StateChanged(_ context.Context, user string, _ uuid.UUID) {
	t.events <- "state " + user
}
func (t told) RelationsChanged(_ context.Context, r []feed.Relation) {
	t.events <- "relation " + r[0].UserID
}
func (t told) Moved(_ context.Context, keys []feed.Key) {
	users := "moved"
	for _, k := range keys {
		users += " " + k.UserID
	}
	t.events <- users
}
func (t told) Lost()                 { t.events <- "lost" }
func (t told) EpochChanged(e string) { t.events <- "epoch " + e }

func TestFeed(t *testing.T) {
	clock := clockwork.NewFakeClock()
	s := newScript()
	sink := told{make(chan string, 100)}
	f := feed.New(s, sink, clock, slog.New(slog.DiscardHandler), nil)
	s.batches <- feed.Batch{Snapshot: "s0", Epoch: "e1"}
	epoch, err := f.Start(t.Context())
	require.NoError(t, err)
	require.Equal(t, "e1", epoch)
	require.Empty(t, <-s.since)
	require.Equal(t, "recalled 1", <-sink.events)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { f.Run(ctx); close(done) }()
	require.NoError(t, clock.BlockUntilContext(ctx, 1))
	tick := func() string {
		clock.Advance(feed.Interval)
		return <-s.since
	}

	id := uuid.New()
	f.Handled(8)
	s.batches <- feed.Batch{Snapshot: "s1", Epoch: "e1", Commits: []feed.Commit{
		{ID: 6, Recalls: []uuid.UUID{{2}}},
		{ID: 7, Sessions: []uuid.UUID{id}, Heads: []int64{3}},
		{ID: 5, StreamUsers: []string{"fay"}, StreamDevices: []string{"phone"}, StreamNumbers: []int64{12}},
		{ID: 8, StateUsers: []string{"told here"}, StateSessions: []uuid.UUID{id}},
		{ID: 9, StateUsers: []string{"bob"}, StateSessions: []uuid.UUID{id}, SentUsers: []string{"bob", "dave"},
			SentSessions: []uuid.UUID{id, id}},
	}, Relations: []feed.Relation{{Kind: feed.User, UserID: "carol"}, {Kind: feed.UserToSession, UserID: "erin", OtherID: id.String()}}}
	require.Equal(t, "s0", tick())
	for _, want := range []string{"moved told here bob dave erin", "recalled 2", "advanced 3 of e1", "stream fay/phone 12 of e1", "state bob", "relation carol"} {
		require.Equal(t, want, <-sink.events)
	}

	// A failed poll moves nothing: the next one starts where it would have.
	s.fail <- errors.New("away")
	require.Equal(t, "s1", tick())
	s.batches <- feed.Batch{Snapshot: "s2", Epoch: "e2"}
	require.Equal(t, "s1", tick())
	require.Equal(t, "epoch e2", <-sink.events)

	// A wake polls at once.
	s.batches <- feed.Batch{Snapshot: "s3", Epoch: "e2"}
	f.Wake()
	require.Equal(t, "s2", <-s.since)

	// After half the retention without a poll rows may be gone: everything counts as changed. A poll counts from when it began,
	// and one that cannot tell which messages were recalled has not succeeded.
	clock.Advance(feed.Retention)
	s.lost <- errors.New("away")
	s.batches <- feed.Batch{Snapshot: "s4", Epoch: "e2"}
	require.Empty(t, <-s.since, "only the present snapshot is asked for")
	s.batches <- feed.Batch{Snapshot: "s5", Epoch: "e2"}
	require.Empty(t, tick())
	require.Equal(t, "lost", <-sink.events)
	require.Equal(t, "recalled 1", <-sink.events)
	cancel()
	<-done
	require.Empty(t, sink.events)
}

// What was told here is remembered until a poll that began later has succeeded, and no longer: a row that a poll found before it
// was noted would stay for good, and the memory be full some day.
func TestHandledRowsAreForgottenOnceNobodyCanAsk(t *testing.T) {
	clock := clockwork.NewFakeClock()
	s := newScript()
	sink := told{make(chan string, 100)}
	f := feed.New(s, sink, clock, slog.New(slog.DiscardHandler), nil)
	s.batches <- feed.Batch{Snapshot: "s0", Epoch: "e1"}
	_, err := f.Start(t.Context())
	require.NoError(t, err)
	<-s.since
	<-sink.events // the recalls of before
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { f.Run(ctx); close(done) }()
	poll := func(commits ...feed.Commit) {
		s.batches <- feed.Batch{Snapshot: "s", Epoch: "e1", Commits: append(commits, feed.Commit{Sessions: []uuid.UUID{{9}}, Heads: []int64{1}})}
		f.Wake()
		<-s.since
		if len(commits) > 0 {
			require.Equal(t, "moved told twice", <-sink.events)
		}
		require.Equal(t, "advanced 1 of e1", <-sink.events, "nothing else is told")
	}
	commit := func(id int64) feed.Commit {
		return feed.Commit{ID: id, StateUsers: []string{"told twice"}, StateSessions: []uuid.UUID{{3}}}
	}
	// Noted when they were polled already, more than are remembered at once.
	for id := range int64(100_000) {
		f.Handled(id)
	}
	poll()
	poll() // the former one is wholly over
	f.Handled(200_000)
	poll(commit(200_000))

	// A poll that failed found nothing.
	f.Handled(200_001)
	s.fail <- errors.New("away")
	f.Wake()
	<-s.since
	f.Handled(200_002)
	poll(commit(200_001), commit(200_002))
	cancel()
	<-done
	require.Empty(t, sink.events)
}
