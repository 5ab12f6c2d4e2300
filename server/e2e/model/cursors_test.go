package model

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// How many acks and reads the devices race with; PARLEY_MODEL_CALLS sets another number, such as the 10,000 of a long run.
const (
	raceCalls      = 2_500
	raceCallsShort = 500
	raceDevices    = 8
)

// race is one user's devices marking one group, of which the user sees seqs 1 to 40 and, after leaving and coming back,
// 81 to the end.
type race struct {
	n       *node
	session string // the group
	foreign string // one that the user is not in
	devices []*racer
	log     []bool // by seq-1: counts as unread for the user
	cut     int64  // the last seq of the first membership
	joined  int64
	head    int64
}

// racer is one device with what it was told and answered. Its stream is read all the time.
type racer struct {
	api
	live     *stream
	readSeq  int64 // highest watermark that was answered
	acked    int64 // highest ack that was taken
	upTo     int64 // highest up_to_seq that was taken
	read     map[int64]bool
	problems []string
}

// Eight devices race with acks and reads that are stale, new, ahead, foreign and invisible: cursors end at the highest
// valid position, nobody sees them move back, what is not valid is refused, and unread is what the definition says.
func TestCursorsAreMonotone(t *testing.T) {
	calls := raceCalls
	if testing.Short() {
		calls = raceCallsShort
	}
	if n, err := strconv.Atoi(os.Getenv("PARLEY_MODEL_CALLS")); err == nil {
		calls = n
	}
	r := newRace(t)
	var wg sync.WaitGroup
	for i, d := range r.devices {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 11)) //nolint:gosec // a test's choices
			for range calls / raceDevices {
				r.step(d, rng)
			}
		})
	}
	wg.Wait()
	for _, d := range r.devices {
		require.Empty(t, d.problems)
	}
	r.check(t)
}

func newRace(t *testing.T) *race {
	r := &race{n: run(t)}
	ctx := t.Context()
	client := func(user, device string) api {
		token, err := r.n.token(ctx, user, device)
		require.NoError(t, err)
		return r.n.api(token)
	}
	ann, dot := client("ann", "phone"), client("dot", "phone")
	for i := range raceDevices {
		r.devices = append(r.devices, &racer{api: client("bob", fmt.Sprint("d", i)), read: map[int64]bool{}})
	}
	group := func(a api, members ...string) string {
		res, err := a.CreateSession(ctx, &parleyv1.CreateSessionRequest{Group: &parleyv1.Group{}, MemberIds: members})
		require.NoError(t, err)
		return res.GetSession().GetSessionId()
	}
	r.session, r.foreign = group(ann, "bob"), group(dot)
	r.log = append(r.log, false)
	send := func(n int) {
		req := &parleyv1.SendMessagesRequest{}
		for range n {
			req.Messages = append(req.Messages, message{session: r.session, id: uuid.NewString(), body: "x"}.request())
			r.log = append(r.log, true)
		}
		_, err := ann.SendMessages(ctx, req)
		require.NoError(t, err)
	}
	send(38)
	out, err := ann.RemoveMember(ctx, &parleyv1.RemoveMemberRequest{SessionId: r.session, UserId: "bob"})
	require.NoError(t, err)
	r.log, r.cut = append(r.log, false), out.GetSeq()
	send(40)
	in, err := ann.AddMembers(ctx, &parleyv1.AddMembersRequest{SessionId: r.session, UserIds: []string{"bob"}})
	require.NoError(t, err)
	r.log, r.joined = append(r.log, false), in.GetSeq()
	send(200)
	send(200)
	for seq := r.joined + 5; seq < r.joined+400; seq += 37 {
		_, err := ann.RecallMessage(ctx, &parleyv1.RecallMessageRequest{SessionId: r.session, Seq: seq})
		require.NoError(t, err)
		r.log[seq-1] = false
		r.log = append(r.log, false)
	}
	r.head = int64(len(r.log))
	for _, d := range r.devices {
		d.live = subscribe(d.api, &parleyv1.SubscribeRequest{Cursors: []*parleyv1.Cursor{{SessionId: r.session}}})
		t.Cleanup(d.live.close)
		require.NoError(t, d.await(func(ev *parleyv1.Event) bool { return ev.GetCaughtUp() != nil }))
	}
	return r
}

// await takes in events until one is what ok is after.
func (d *racer) await(ok func(*parleyv1.Event) bool) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		events, err := d.live.wait(time.Until(deadline))
		if err != nil {
			return err
		}
		if slices.ContainsFunc(events, ok) {
			return nil
		}
	}
	return errors.New("the event did not come")
}

// wrong is a position that must be refused, with the reason.
func (r *race) wrong(rng *rand.Rand) (session string, seq int64, why parleyv1.ErrorReason) {
	switch rng.IntN(3) {
	case 0:
		return r.session, r.head + 1 + rng.Int64N(50), parleyv1.ErrorReason_ERROR_REASON_CURSOR_BEYOND_HEAD
	case 1:
		return r.foreign, 1, parleyv1.ErrorReason_ERROR_REASON_SESSION_UNAVAILABLE
	default:
		return uuid.NewString(), 1, parleyv1.ErrorReason_ERROR_REASON_SESSION_UNAVAILABLE
	}
}

// right is a visible position: stale ones, and ones that come nearer to the head as the race goes on.
func (r *race) right(d *racer, rng *rand.Rand) int64 {
	if rng.IntN(4) == 0 {
		return 1 + rng.Int64N(r.cut)
	}
	ahead := max(d.readSeq, d.acked, r.joined) + rng.Int64N(3) - 1
	return min(max(ahead, r.joined), r.head-20) // never to the end, so that something is left to count
}

func (r *race) step(d *racer, rng *rand.Rand) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	invalid := rng.IntN(4) == 0
	switch kind := rng.IntN(12); {
	case kind < 8:
		r.ack(ctx, d, rng, invalid)
	case kind == 8 && invalid:
		// An invisible seq among good ones: all are refused.
		seqs := []int64{r.joined + 1, r.cut + 1 + rng.Int64N(r.joined-r.cut-1)}
		_, err := d.MarkRead(ctx, &parleyv1.MarkReadRequest{SessionId: r.session, Seqs: seqs})
		d.refused(err, parleyv1.ErrorReason_ERROR_REASON_CURSOR_INVISIBLE)
	case kind == 8:
		seq := r.joined + 1 + rng.Int64N(r.head-r.joined-20)
		res, err := d.MarkRead(ctx, &parleyv1.MarkReadRequest{SessionId: r.session, Seqs: []int64{seq}})
		d.answered(res, err, func() { d.read[seq] = true })
	case invalid:
		session, seq, why := r.wrong(rng)
		_, err := d.MarkRead(ctx, &parleyv1.MarkReadRequest{SessionId: session, UpToSeq: seq})
		d.refused(err, why)
	default:
		seq := r.right(d, rng)
		res, err := d.MarkRead(ctx, &parleyv1.MarkReadRequest{SessionId: r.session, UpToSeq: seq})
		d.answered(res, err, func() { d.upTo = max(d.upTo, seq) })
	}
}

func (r *race) ack(ctx context.Context, d *racer, rng *rand.Rand, invalid bool) {
	seq := r.right(d, rng)
	acks := []*parleyv1.Cursor{{SessionId: r.session, Seq: seq}}
	if invalid {
		session, seq, why := r.wrong(rng)
		_, err := d.Ack(ctx, &parleyv1.AckRequest{Acks: append(acks, &parleyv1.Cursor{SessionId: session, Seq: seq})})
		d.refused(err, why)
		return
	}
	if _, err := d.Ack(ctx, &parleyv1.AckRequest{Acks: acks}); err != nil {
		d.problem("an ack was refused: %v", err)
		return
	}
	d.acked = max(d.acked, seq)
}

func (d *racer) problem(format string, a ...any) {
	d.problems = append(d.problems, fmt.Sprintf(format, a...))
}

func (d *racer) refused(err error, want parleyv1.ErrorReason) {
	if got, code := reason(err); err == nil || got != want || code != codes[want] {
		d.problem("want %v, got %v", want, err)
	}
}

// answered sees that a device's own answers never move back.
func (d *racer) answered(res *parleyv1.MarkReadResponse, err error, note func()) {
	if err != nil {
		d.problem("a mark was refused: %v", err)
		return
	}
	note()
	if res.GetReadSeq() < d.readSeq {
		d.problem("answered %d after %d", res.GetReadSeq(), d.readSeq)
	}
	d.readSeq = res.GetReadSeq()
}
