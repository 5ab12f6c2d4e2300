package rig

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// Device is a client with a stream that behaves as an SDK does: it drops what it was shown before, takes the place of its
// own sends from their answers, reconnects with its own cursors, and notes every break of the promises.
type Device struct {
	*Client
	mu        sync.Mutex
	cond      *sync.Cond
	cursors   map[string]int64 // last seq shown, by session
	shown     map[string][]*parleyv1.Message
	own       map[string]map[int64]bool // seqs of own sends whose answers came
	events    []*parleyv1.Event
	epoch     string
	Repeats   int // raw entries that were known already
	Raw       int
	problems  []string
	caughtUps int
	lastErr   error
	stop      context.CancelFunc
	done      chan struct{}

	lost      time.Time
	resumes   []time.Duration
	asked     []time.Duration // what the server asked to wait, of a Patient device
	lastFrame time.Time

	// Silence, if set before Connect, is how long the stream may be silent before the device gives it up and goes on at
	// its next address, as SDKs do.
	Silence time.Duration
	// Patient, if set before Connect, makes the device come back no earlier than the server asks for, as SDKs do.
	Patient bool
	// Arrived, if set before Connect, is told of each entry that is shown, with the device locked.
	Arrived func(*parleyv1.Message)
}

// NewDevice makes a device that is not online yet.
func (s *Server) NewDevice(user, device string, opts ...connect.ClientOption) *Device {
	s.t.Helper()
	return s.NewDeviceWith(user, device, "", opts...)
}

// NewDeviceWith is NewDevice with a token that is there; an empty one is made.
func (s *Server) NewDeviceWith(user, device, token string, opts ...connect.ClientOption) *Device {
	s.t.Helper()
	if token == "" {
		token = s.Token(user, device)
	}
	d := &Device{Client: s.ClientWith(user, device, token, opts...), cursors: map[string]int64{}, shown: map[string][]*parleyv1.Message{},
		own: map[string]map[int64]bool{}}
	d.cond = sync.NewCond(&d.mu)
	s.t.Cleanup(d.Offline)
	return d
}

// Online makes a device that is online and caught up.
func (s *Server) Online(user, device string, opts ...connect.ClientOption) *Device {
	s.t.Helper()
	d := s.NewDevice(user, device, opts...)
	d.Connect()
	d.WaitCaughtUp(1)
	return d
}

// Connect opens the stream and keeps it open, reconnecting, until Offline.
func (d *Device) Connect() {
	ctx, cancel := context.WithCancel(context.Background())
	d.mu.Lock()
	d.stop, d.done = cancel, make(chan struct{})
	done := d.done
	d.mu.Unlock()
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			err := d.Once(ctx)
			d.mu.Lock()
			d.lastErr = err
			if d.lost.IsZero() && d.caughtUps > 0 {
				d.lost = time.Now()
			}
			d.cond.Broadcast()
			d.mu.Unlock()
			if code := connect.CodeOf(err); err != nil && (code == connect.CodeUnauthenticated || code == connect.CodeFailedPrecondition) {
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(d.pause(err)):
			}
		}
	}()
}

// pause is how long the device waits before it comes back.
func (d *Device) pause(err error) time.Duration {
	var refused *connect.Error
	if d.Patient && errors.As(err, &refused) {
		for _, detail := range refused.Details() {
			v, err := detail.Value()
			if info, ok := v.(*parleyv1.ErrorDetail); ok && err == nil {
				if ms, err := strconv.Atoi(info.GetMetadata()["retry_after_ms"]); err == nil {
					asked := time.Duration(ms) * time.Millisecond
					d.mu.Lock()
					d.asked = append(d.asked, asked)
					d.mu.Unlock()
					return asked
				}
			}
		}
	}
	return 20 * time.Millisecond
}

// Offline closes the stream and waits for its end.
func (d *Device) Offline() {
	d.mu.Lock()
	stop, done := d.stop, d.done
	d.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
}

// Ended waits until the stream has ended for good and returns why.
func (d *Device) Ended() error {
	select {
	case <-d.done:
	case <-time.After(patience):
		return fmt.Errorf("the stream is still open after %s", patience)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lastErr
}

// Live reports whether the stream is open, or about to be, and not ended for good.
func (d *Device) Live() bool {
	select {
	case <-d.done:
		return false
	default:
		return true
	}
}

// Once runs one stream to its end.
func (d *Device) Once(ctx context.Context) error {
	req := &parleyv1.SubscribeRequest{}
	d.mu.Lock()
	req.Epoch = d.epoch
	for id, seq := range d.cursors {
		req.Cursors = append(req.Cursors, &parleyv1.Cursor{SessionId: id, Seq: seq})
	}
	d.mu.Unlock()
	heard := func() {}
	if d.Silence > 0 {
		var giveUp context.CancelFunc
		ctx, giveUp = context.WithCancel(ctx)
		defer giveUp()
		watch := time.AfterFunc(d.Silence, func() { giveUp(); d.Move() })
		defer watch.Stop()
		heard = func() { watch.Reset(d.Silence) }
	}
	stream, err := d.Sync.Subscribe(ctx, req)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		heard()
		d.mu.Lock()
		d.lastFrame = time.Now()
		for _, ev := range stream.Msg().GetEvents() {
			d.take(ev)
		}
		d.cond.Broadcast()
		d.mu.Unlock()
	}
	return stream.Err()
}

func (d *Device) take(ev *parleyv1.Event) {
	d.events = append(d.events, ev)
	switch k := ev.GetKind().(type) {
	case *parleyv1.Event_Opened:
		d.epoch = k.Opened.GetEpoch()
	case *parleyv1.Event_CaughtUp:
		d.caughtUps++
		if !d.lost.IsZero() {
			d.resumes, d.lost = append(d.resumes, time.Since(d.lost)), time.Time{}
		}
	case *parleyv1.Event_Resync:
		if id := k.Resync.GetSessionId(); id != "" {
			delete(d.cursors, id)
		} else { // of another epoch, which is the one to come back with, should the stream end before it says so once more
			clear(d.cursors)
			d.epoch = k.Resync.GetEpoch()
		}
	case *parleyv1.Event_Skipped:
		id := k.Skipped.GetSessionId()
		if at, ok := d.cursors[id]; ok && d.bridge(id, at) != k.Skipped.GetFromSeq()-1 {
			d.problem("session %s: skipped from %d after %d", id, k.Skipped.GetFromSeq(), at)
		}
		d.cursors[id] = k.Skipped.GetToSeq()
	case *parleyv1.Event_Message:
		d.takeMessage(k.Message)
	}
}

// bridge moves past own sends, whose answers took their places.
func (d *Device) bridge(id string, at int64) int64 {
	for d.own[id][at+1] {
		at++
	}
	return at
}

func (d *Device) takeMessage(m *parleyv1.Message) {
	id := m.GetSessionId()
	d.Raw++
	at, known := d.cursors[id]
	switch {
	case known && m.GetSeq() <= at:
		d.Repeats++
		return
	case known && d.bridge(id, at) < m.GetSeq()-1:
		// An own send whose answer is still on its way may explain one that is missing; Problems judges that at the end.
		d.problems = append(d.problems, fmt.Sprintf("gap %s %d %d", id, at, m.GetSeq()))
	}
	d.cursors[id] = m.GetSeq()
	d.shown[id] = append(d.shown[id], m)
	if d.Arrived != nil {
		d.Arrived(m)
	}
}

func (d *Device) problem(format string, a ...any) {
	d.problems = append(d.problems, fmt.Sprintf(format, a...))
}

// Sent notes that a seq is the device's own send, whose answer came.
func (d *Device) Sent(id string, seq int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.own[id] == nil {
		d.own[id] = map[int64]bool{}
	}
	d.own[id][seq] = true
}

// Problems lists the breaks of the promises: entries out of order, missing, or skipped without a word. Own sends whose
// answers came late explain gaps.
func (d *Device) Problems() (out []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.problems {
		var id string
		var at, seq int64
		if n, _ := fmt.Sscanf(p, "gap %s %d %d", &id, &at, &seq); n == 3 {
			if d.bridge(id, at) >= seq-1 {
				continue
			}
		}
		out = append(out, p)
	}
	return out
}

// Seqs returns the seqs shown of a session, own sends included, ascending.
func (d *Device) Seqs(id string) []int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []int64
	for _, m := range d.shown[id] {
		out = append(out, m.GetSeq())
	}
	for seq := range d.own[id] {
		out = append(out, seq)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Shown returns the entries shown of a session.
func (d *Device) Shown(id string) []*parleyv1.Message {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.shown[id])
}

// Resumes returns how long it took each time from the loss of a stream until the device had caught up on another one.
func (d *Device) Resumes() []time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.resumes)
}

// Asked returns how long a Patient device was asked to wait each time that its stream had ended.
func (d *Device) Asked() []time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked)
}

// LastFrame is when the device received anything last.
func (d *Device) LastFrame() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lastFrame
}

// Count returns how many entries were received, and how many of them were known already.
func (d *Device) Count() (raw, repeats int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.Raw, d.Repeats
}

// Events returns all events so far.
func (d *Device) Events() []*parleyv1.Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.events)
}

// patience bounds each wait for what must happen: far longer than it takes, since a test does not judge by the clock, and
// what never happens is told a minute later.
const patience = time.Minute

// wait waits until ok holds; ok runs with the device locked against changes and must not call its methods.
func (d *Device) wait(what string, ok func() bool) {
	d.s.t.Helper()
	timer := time.AfterFunc(patience, d.cond.Broadcast)
	defer timer.Stop()
	end := time.Now().Add(patience)
	d.mu.Lock()
	defer d.mu.Unlock()
	for !ok() {
		if time.Now().After(end) {
			require.Failf(d.s.t, "timeout", "%s/%s: %s (last error: %v)", d.User, d.Device, what, d.lastErr)
		}
		d.cond.Wait()
	}
}

// CaughtUps is how often the device has caught up.
func (d *Device) CaughtUps() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.caughtUps
}

// WaitCaughtUp waits for the nth CaughtUp.
func (d *Device) WaitCaughtUp(n int) {
	d.s.t.Helper()
	d.wait("caught up", func() bool { return d.caughtUps >= n })
}

// WaitSeq waits until the device was shown seq of a session (or past it).
func (d *Device) WaitSeq(id string, seq int64) {
	d.s.t.Helper()
	d.wait(fmt.Sprintf("seq %d", seq), func() bool { return d.bridge(id, d.cursors[id]) >= seq })
}

// WaitEvent waits for an event that ok accepts.
func (d *Device) WaitEvent(what string, ok func(*parleyv1.Event) bool) {
	d.s.t.Helper()
	d.wait(what, func() bool { return slices.ContainsFunc(d.events, ok) })
}
