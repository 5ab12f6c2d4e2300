package stream_test

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/hub"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/state"
	"github.com/parley-im/parley/server/stream"
	"github.com/parley-im/parley/server/wire"
)

// world is a log in memory with the ports that streams stand on.
type world struct {
	hub *hub.Hub
	mgr *stream.Manager

	mu      sync.Mutex
	logs    map[uuid.UUID][]message.Entry
	members map[string]map[uuid.UUID]*stream.Position
	cursors map[string]map[uuid.UUID]int64 // by user and device
	synced  map[string]bool
	silent  bool // entries are committed and not published

	read     map[uuid.UUID]int64     // watermarks, everybody's
	asked    []message.Range         // what StatesOf was asked for
	number   int64                   // of the stream that started last
	told     []int64                 // numbers that other nodes were told of
	noStates bool                    // Starts tells no states
	pages    func(n int, from int64) // called for each page that is read
	cold     bool                    // nothing is in memory
	reads    int
	starts   func(ctx context.Context, asks []stream.Ask) error
	rereads  func() // called before memberships are read again
	reread   func() // called after that
	unlisted bool   // the list of sessions is behind: it has none
	past     bool   // who comes sees what was before
}

func newWorld(t testing.TB, cfg stream.Config) *world { return newWorldOf(t, cfg, nil) }

func newWorldOf(t testing.TB, cfg stream.Config, metrics *stream.Metrics) *world {
	return newWorldAt(t, cfg, metrics, clockwork.NewRealClock())
}

func newWorldAt(t testing.TB, cfg stream.Config, metrics *stream.Metrics, clock clockwork.Clock) *world {
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = time.Hour // none among what is looked at, however long that takes
	}
	w := &world{hub: hub.New(), logs: map[uuid.UUID][]message.Entry{}, members: map[string]map[uuid.UUID]*stream.Position{},
		cursors: map[string]map[uuid.UUID]int64{}, synced: map[string]bool{}, read: map[uuid.UUID]int64{}}
	w.mgr = stream.NewManager(cfg, stream.Ports{Hub: w.hub, Starter: w, Sessions: w, Devices: w, Reader: w, States: w, Epoch: w,
		Clock: clock, Log: slog.New(slog.DiscardHandler), Metrics: metrics})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		require.NoError(t, w.mgr.Drain(ctx))
	})
	return w
}

func (w *world) Current() string { return "epoch-1" }

func (w *world) ActiveSessionIDs(_ context.Context, user string) (ids []uuid.UUID, _ error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, p := range w.members[user] {
		if p.Active && !w.unlisted {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func (w *world) Positions(_ context.Context, user, device string, ids []uuid.UUID) (out []stream.Position, _ error) {
	if w.rereads != nil {
		w.rereads()
	}
	w.mu.Lock()
	for id := range w.members[user] {
		if slices.Contains(ids, id) {
			out = append(out, w.position(user, device, id))
		}
	}
	w.mu.Unlock()
	if w.reread != nil {
		w.reread()
	}
	return out, nil
}

// position is where a member stands. The lock is held.
func (w *world) position(user, device string, id uuid.UUID) stream.Position {
	q := *w.members[user][id]
	q.Visible = append(session.Visibility(nil), q.Visible...)
	q.Head = int64(len(w.logs[id]))
	q.Acked, q.HasCursor = w.cursors[user+"/"+device][id]
	return q
}

// Starts implements stream.Starter. What it tells of states holds what the world's read says.
func (w *world) Starts(ctx context.Context, asks []stream.Ask) ([]stream.Start, error) {
	w.mu.Lock()
	read := maps.Clone(w.read) // as it was when the statement began
	number := w.number
	w.number += int64(len(asks))
	w.mu.Unlock()
	if w.starts != nil {
		if err := w.starts(ctx, asks); err != nil {
			return nil, err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]stream.Start, len(asks))
	for i, a := range asks {
		out[i] = stream.Start{Known: true, Number: number + int64(i) + 1, Synced: w.synced[a.UserID+"/"+a.DeviceID]}
		device := a.DeviceID
		if a.Fresh || !out[i].Synced {
			device = ""
		}
		for id := range w.members[a.UserID] {
			p := w.position(a.UserID, device, id)
			if !w.noStates {
				p.State = stream.Standing{Whole: true, View: state.View{SessionID: id, ReadSeq: read[id]}}
			}
			out[i].Positions = append(out[i].Positions, p)
		}
	}
	return out, nil
}

func (w *world) View(_ context.Context, _ string, id uuid.UUID) (*parleyv1.Session, error) {
	return &parleyv1.Session{SessionId: id.String()}, nil
}

func (w *world) StartSync(_ context.Context, user, device string, at []stream.Cursor) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.synced[user+"/"+device] = true
	m := map[uuid.UUID]int64{}
	for _, c := range at {
		m[c.SessionID] = c.Seq
	}
	w.cursors[user+"/"+device] = m
	return nil
}

func (w *world) Seen(_, _ string, number int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, number)
}

func (w *world) Read(_ context.Context, ranges []message.Range) ([][]*wire.Entry, error) {
	if w.pages != nil {
		w.reads++
		w.pages(w.reads, ranges[0].From)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([][]*wire.Entry, len(ranges))
	for i, r := range ranges {
		for _, e := range w.logs[r.SessionID][r.From:r.To] {
			out[i] = append(out[i], wire.Encode(e))
		}
	}
	return out, nil
}

func (w *world) StatesOf(_ context.Context, _ string, ranges []message.Range) (stream.StateOf, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, ranges...)
	read := maps.Clone(w.read)
	return func(e *wire.Entry) *parleyv1.MessageState {
		return stream.MessageState(e.Seq <= read[e.SessionID], false)
	}, nil
}

// append commits an entry and publishes it, unless the world is silent. The log's lock is held over both, so entries are
// published in order.
func (w *world) append(id uuid.UUID, user, device string, c *parleyv1.Content, change func(seq int64)) int64 {
	w.mu.Lock()
	seq := int64(len(w.logs[id])) + 1
	typ := message.TypeText
	switch c.GetKind().(type) {
	case *parleyv1.Content_MemberChange:
		typ = message.TypeMemberChange
	case *parleyv1.Content_Recall:
		typ = message.TypeRecall
	}
	body, err := proto.Marshal(&parleyv1.Message{Content: c})
	if err != nil {
		panic(err)
	}
	e := message.Entry{SessionID: id, Seq: seq, MessageID: uuid.New(), SenderID: user, SenderDevice: device, Type: typ,
		Body: body, CreatedAt: time.Unix(seq, 0)}
	w.logs[id] = append(w.logs[id], e)
	if change != nil {
		change(seq)
	}
	silent := w.silent
	w.mu.Unlock()
	if !silent {
		w.hub.Publish([]*wire.Entry{wire.Encode(e)})
	}
	return seq
}

func (w *world) send(id uuid.UUID, user, device, text string) int64 {
	return w.append(id, user, device, &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: text}}}, nil)
}

func memberChange(kind parleyv1.MemberChangeKind, users ...string) *parleyv1.Content {
	return &parleyv1.Content{Kind: &parleyv1.Content_MemberChange{MemberChange: &parleyv1.MemberChange{Kind: kind, UserIds: users}}}
}

func (w *world) join(id uuid.UUID, user string) int64 {
	return w.append(id, "admin", "", memberChange(parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_ADDED, user), func(seq int64) {
		if w.members[user] == nil {
			w.members[user] = map[uuid.UUID]*stream.Position{}
		}
		p := w.members[user][id]
		if p == nil {
			p = &stream.Position{SessionID: id, Role: session.RoleMember}
			w.members[user][id] = p
		}
		p.Active, p.JoinedSeq = true, seq
		p.Visible = append(p.Visible, session.Interval{From: seq, To: session.Open})
		if w.past {
			p.Visible = session.Visibility{{From: 1, To: session.Open}}
		}
	})
}

// joinQuietly makes a user a member without telling anybody, for large worlds.
func (w *world) joinQuietly(id uuid.UUID, user string) int64 {
	w.silent = true
	defer func() { w.silent = false }()
	return w.join(id, user)
}

func (w *world) kick(id uuid.UUID, user string) int64 {
	return w.append(id, "admin", "", memberChange(parleyv1.MemberChangeKind_MEMBER_CHANGE_KIND_REMOVED, user), func(seq int64) {
		p := w.members[user][id]
		p.Active = false
		p.Visible = p.Visible.CutAt(seq)
	})
}

// device is a client that keeps what it is shown.
type device struct {
	t    testing.TB
	w    *world
	stop context.CancelFunc
	done chan error

	mu     sync.Mutex
	cond   *sync.Cond
	events []*parleyv1.Event
	frames int
	hold   bool // do not read
	codec  wire.Codec
	sink   stream.Sink // instead of the device itself
}

func (w *world) subscribe(t testing.TB, user, dev string, req stream.Request, set ...func(*device)) *device {
	d := &device{t: t, w: w, done: make(chan error, 1)}
	d.sink = d
	d.cond = sync.NewCond(&d.mu)
	for _, f := range set {
		f(d)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.stop = cancel
	go func() { d.done <- w.mgr.Serve(ctx, stream.Caller{UserID: user, DeviceID: dev}, req, d.sink) }()
	t.Cleanup(func() { d.read(); cancel() })
	return d
}

func (d *device) Codec() wire.Codec { return d.codec }

func (d *device) Send(f *wire.Frame) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.hold {
		d.cond.Wait()
	}
	var res parleyv1.SubscribeResponse
	if err := proto.Unmarshal(f.Bytes(), &res); err != nil {
		return err
	}
	d.events = append(d.events, res.GetEvents()...)
	d.frames++
	d.cond.Broadcast()
	return nil
}

func (d *device) pause() {
	d.mu.Lock()
	d.hold = true
	d.mu.Unlock()
}

func (d *device) read() {
	d.mu.Lock()
	d.hold = false
	d.cond.Broadcast()
	d.mu.Unlock()
}

// wait returns all events so far once ok says that they suffice.
func (d *device) wait(what string, ok func([]*parleyv1.Event) bool) []*parleyv1.Event {
	d.t.Helper()
	var out []*parleyv1.Event
	require.Eventually(d.t, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		out = append([]*parleyv1.Event(nil), d.events...)
		return ok(out)
	}, time.Minute, time.Millisecond, what)
	return out
}

func (d *device) caughtUp() []*parleyv1.Event {
	d.t.Helper()
	return d.wait("caught up", func(evs []*parleyv1.Event) bool {
		for _, e := range evs {
			if e.GetCaughtUp() != nil {
				return true
			}
		}
		return false
	})
}

// until waits for the entry with this seq and returns the seqs shown of the session.
func (d *device) until(id uuid.UUID, seq int64) []int64 {
	d.t.Helper()
	return shown(d.wait("entry", func(evs []*parleyv1.Event) bool {
		s := shown(evs, id)
		return len(s) > 0 && s[len(s)-1] >= seq
	}), id)
}

func shown(evs []*parleyv1.Event, id uuid.UUID) (seqs []int64) {
	for _, e := range evs {
		if m := e.GetMessage(); m.GetSessionId() == id.String() {
			seqs = append(seqs, m.GetSeq())
		}
	}
	return seqs
}

func skips(evs []*parleyv1.Event, id uuid.UUID) (out [][2]int64) {
	for _, e := range evs {
		if k := e.GetSkipped(); k.GetSessionId() == id.String() {
			out = append(out, [2]int64{k.GetFromSeq(), k.GetToSeq()})
		}
	}
	return out
}

func seqs(from, to int64) (out []int64) {
	for i := from; i <= to; i++ {
		out = append(out, i)
	}
	return out
}

// Recent implements stream.Reader: all is in memory, unless a test looks at readings.
func (w *world) Recent(q message.Range) ([]*wire.Entry, bool) {
	if w.pages != nil || w.cold {
		return nil, false
	}
	found, _ := w.Read(nil, []message.Range{q}) //nolint:staticcheck // it does not look at it
	return found[0], true
}
