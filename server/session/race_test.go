package session_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/storage"
)

// newRace is a world on PostgreSQL without a committer in front: every change and every batch contends for the row's
// lock, as those of several nodes do.
func newRace(t *testing.T) (*world, *postgres) {
	t.Parallel()
	p := newPostgres(t)
	return newWorld(p), p
}

// atOnce runs fn n times at the same moment and returns their errors.
func atOnce(n int, fn func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = fn(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

// tally counts the errors that are none, and those with a refusal; anything else fails.
func tally(t *testing.T, errs []error, reason refusal.Reason) (passed, refused int) {
	t.Helper()
	for _, err := range errs {
		if err == nil {
			passed++
			continue
		}
		requireRefused(t, reason, err)
		refused++
	}
	return passed, refused
}

// Members are removed and added again while they and others send, from many connections at once. The log then has no hole,
// nobody has an entry while cut off, and every seq that a call answered is what the log says.
func TestKickAgainstSend(t *testing.T) {
	w, p := newRace(t)
	const senders, rounds = 6, 12
	names := []string{"owner"}
	for i := range senders {
		names = append(names, fmt.Sprintf("sender-%d", i))
	}
	id := w.group(t, session.Group{}, names...)
	messages := storage.NewMessages(p.DB)
	var stop atomic.Bool
	var sent, declined atomic.Int64
	var wg sync.WaitGroup
	for _, name := range names[1:] {
		template := p.draft(t, id, name, "")
		wg.Go(func() {
			for !stop.Load() {
				drafts := make([]message.Draft, 3)
				for i := range drafts {
					drafts[i] = template
					drafts[i].MessageID = uuid.New()
				}
				out, err := messages.Append(context.Background(), drafts, time.Unix(5, 0))
				if err != nil {
					t.Error(err)
					return
				}
				for _, o := range out {
					switch {
					case o.Err == nil:
						sent.Add(1)
					case errors.Is(o.Err, session.Unavailable):
						declined.Add(1)
					default:
						t.Error(o.Err)
					}
				}
			}
		})
	}
	cuts := make([][]int64, senders)
	errs := atOnce(senders, func(i int) error {
		name := names[i+1]
		for range rounds {
			cut, err := w.RemoveMember(t.Context(), as("owner"), id, name)
			if err != nil {
				return err
			}
			back, err := w.AddMembers(t.Context(), as("owner"), id, []string{name})
			if err != nil {
				return err
			}
			cuts[i] = append(cuts[i], cut, back)
		}
		return nil
	})
	stop.Store(true)
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	require.Positive(t, sent.Load())

	all := p.entries(t, id)
	require.Len(t, all, 1+int(sent.Load())+2*senders*rounds)
	out := map[string]bool{}
	answered := map[int64]bool{}
	for _, list := range cuts {
		for _, seq := range list {
			answered[seq] = true
		}
	}
	for i, e := range all {
		require.EqualValues(t, i+1, e.Seq, "a hole in the log")
		require.False(t, out[e.SenderID], "entry %d is by somebody who was cut off", e.Seq)
		if e.Type != message.TypeMemberChange || e.Seq == 1 {
			continue
		}
		var m parleyv1.Message
		require.NoError(t, proto.Unmarshal(e.Body, &m))
		require.True(t, answered[e.Seq])
		change := m.GetContent().GetMemberChange()
		out[change.GetUserIds()[0]] = change.GetKind() == parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_REMOVED
	}
	s, _ := w.locked(t, id)
	require.EqualValues(t, len(all), s.LastSeq)
	require.Equal(t, sent.Load(), s.CountableTotal)
	require.EqualValues(t, len(names), s.MemberCount)
	// The commit log names every head that a transaction left behind, once.
	require.Zero(t, p.number(t, `SELECT count(*) - count(DISTINCT h) FROM commit_log, unnest(heads) h`))
	require.EqualValues(t, len(all), p.number(t, `SELECT max(h) FROM commit_log, unnest(heads) h`))
	t.Logf("%d sent, %d declined, %d entries", sent.Load(), declined.Load(), len(all))
}

// The same removal from many sides at once is one entry, and all get its seq.
func TestRemoveAtOnce(t *testing.T) {
	w, _ := newRace(t)
	id := w.group(t, session.Group{}, "owner", "bob")
	for _, err := range atOnce(8, func(int) error {
		cut, err := w.RemoveMember(t.Context(), as("owner"), id, "bob")
		if err == nil && cut != 2 {
			return fmt.Errorf("cut at %d", cut)
		}
		return err
	}) {
		require.NoError(t, err)
	}
	require.Len(t, w.entries(t, id), 2)
}

// Nodes that make the same requested group at once make one.
func TestCreateAtOnce(t *testing.T) {
	w, p := newRace(t)
	w.addUsers(t, "alice", "bob")
	for range 5 {
		key := uuid.New()
		var ids sync.Map
		for _, err := range atOnce(8, func(int) error {
			v, err := w.Create(t.Context(), as("alice"), &key, session.Group{}, []string{"bob"})
			ids.Store(v.Session.ID, true)
			return err
		}) {
			require.NoError(t, err)
		}
		id := session.RequestedID("alice", key)
		ids.Range(func(got, _ any) bool { return assertEqual(t, id, got) })
		require.Len(t, w.entries(t, id), 1)
		s, _ := w.locked(t, id)
		require.EqualValues(t, 2, s.MemberCount)
	}
	require.Equal(t, 5, p.sessionCount(t))
}

func assertEqual(t *testing.T, want, got any) bool {
	t.Helper()
	require.Equal(t, want, got)
	return true
}

func TestOwnersLeaveAtOnce(t *testing.T) {
	w, _ := newRace(t)
	const owners = 5
	for range 5 {
		names := make([]string, owners)
		for i := range names {
			names[i] = fmt.Sprintf("owner-%d", i)
		}
		id := w.group(t, session.Group{}, slices.Concat(names, []string{"member"})...)
		for _, name := range names {
			_, err := w.SetMember(t.Context(), as(names[0]), id, name, session.Standing{Role: session.RoleOwner})
			require.NoError(t, err)
		}
		left, refused := tally(t, atOnce(owners, func(i int) error {
			if i%2 == 0 {
				_, err := w.Leave(t.Context(), as(names[i]), id)
				return err
			}
			_, err := w.SetMember(t.Context(), as(names[i]), id, names[i], session.Standing{Role: session.RoleMember})
			return err
		}), refusal.LastOwner)
		require.Equal(t, owners-1, left)
		require.Equal(t, 1, refused)
	}
}

func TestLastPlaceAtOnce(t *testing.T) {
	w, p := newRace(t)
	id := w.group(t, session.Group{}, "owner")
	p.fill(t, id, session.MaxMembers-1)
	var names []string
	for i := range 8 {
		names = append(names, fmt.Sprintf("user-%d", i))
	}
	w.addUsers(t, names...)
	added, refused := tally(t, atOnce(len(names), func(i int) error {
		_, err := w.AddMembers(t.Context(), as("owner"), id, names[i:i+1])
		return err
	}), refusal.GroupFull)
	require.Equal(t, 1, added)
	require.Equal(t, len(names)-1, refused)
}
