package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/parley-im/parley/bench/check"
	"github.com/parley-im/parley/bench/latency"
	"github.com/parley-im/parley/bench/load"
	"github.com/parley-im/parley/bench/report"
	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// bodyBytes is the length of every message's text.
const bodyBytes = 100

var padding = strings.Repeat("x", bodyBytes)

// stamps says when each message of a call was due.
type stamps func(i int) time.Time

// all stamps every message with the same time.
func all(t time.Time) stamps { return func(int) time.Time { return t } }

// sender sends messages of one device over one connection. Not safe for concurrent use.
type sender struct {
	actor
	caller *load.Caller
	ledger *check.Ledger
	items  []*parleyv1.SendMessageRequest
	// answered, when set, is told of each answer, as the ledger is.
	answered func(session string, seq int64)
}

func newSender(a actor, addr string, ledger *check.Ledger, batch int) *sender {
	s := &sender{actor: a, caller: load.NewCaller(addr), ledger: ledger}
	for range batch {
		s.items = append(s.items, &parleyv1.SendMessageRequest{Content: &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{}}}})
	}
	return s
}

// send sends n messages in one call, each stamped with its time, to the sessions that pick names. It returns how many
// failed.
func (s *sender) send(ctx context.Context, n int, stamp stamps, pick func() string) (failed int64, err error) {
	for i, m := range s.items[:n] {
		id, err := uuid.NewV7()
		if err != nil {
			return int64(n), err
		}
		m.Target = &parleyv1.SendMessageRequest_SessionId{SessionId: pick()}
		m.MessageId = id.String()
		m.GetContent().GetText().Body = string(append(latency.AppendStamp(make([]byte, 0, bodyBytes), stamp(i)), padding[:bodyBytes-16]...))
	}
	if n == 1 {
		var res parleyv1.SendMessageResponse
		if err := s.caller.Call(ctx, s.token, "MessageService/SendMessage", s.items[0], &res); err != nil {
			return 1, err
		}
		s.note(&res)
		return 0, nil
	}
	var res parleyv1.SendMessagesResponse
	if err := s.caller.Call(ctx, s.token, "MessageService/SendMessages", &parleyv1.SendMessagesRequest{Messages: s.items[:n]}, &res); err != nil {
		return int64(n), err
	}
	for _, r := range res.GetResults() {
		if sent := r.GetSent(); sent != nil {
			s.note(sent)
			continue
		}
		failed++
		err = errors.New(r.GetError().GetMessage())
	}
	if got := len(res.GetResults()); got != n {
		failed += int64(n - got)
		err = errors.Join(err, fmt.Errorf("%d answers for %d messages", got, n))
	}
	return failed, err
}

func (s *sender) note(sent *parleyv1.SendMessageResponse) {
	s.ledger.Answered(sent.GetSessionId(), sent.GetSeq())
	if s.answered != nil {
		s.answered(sent.GetSessionId(), sent.GetSeq())
	}
}

// sending is W1's part: devices that send to sessions that all of them are in.
type sending struct {
	b        *Bench
	senders  []actor
	sessions []string
	ledger   check.Ledger
}

// newSending makes the devices and the sessions.
func (b *Bench) newSending(ctx context.Context) (*sending, error) {
	sc := b.cfg.Scale
	b.say("making %d sessions of %d members", sc.Sessions, sc.Senders)
	senders, err := b.actors(ctx, sc.Senders)
	if err != nil {
		return nil, err
	}
	s := &sending{b: b, senders: senders, sessions: make([]string, sc.Sessions)}
	err = b.each(ctx, sc.Sessions, parallel, func(ctx context.Context, c *load.Caller, i int) error {
		id, head, err := group(ctx, c, senders[0], senders[1:])
		s.sessions[i] = id
		s.ledger.Start(id, head)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("make sessions: %w", err)
	}
	return s, nil
}

// sent is what a stretch of sending came to.
type sent struct {
	rate    float64
	latency latency.Summary
	cpu     report.CPU
	beside  report.Shares
	count   int64
	waits   waits
}

// run sends for a while with batch messages in flight by each sender: as fast as answers come, or if offered is not 0 at
// that many messages per second, whose latency then counts from when each was due.
func (s *sending) run(ctx context.Context, batch int, offered float64, fail *failures) (out sent, err error) {
	rec := latency.NewRecorder()
	var stop atomic.Bool
	var slot atomic.Int64
	began := time.Now()
	due := func() time.Time { // of the next batch
		if offered == 0 {
			return time.Now()
		}
		n := slot.Add(1) - 1
		return began.Add(time.Duration(float64(n) * float64(batch) / offered * float64(time.Second)))
	}
	var running sync.WaitGroup
	for i, a := range s.senders {
		running.Go(func() {
			c := newSender(a, s.b.stack.Addr(), &s.ledger, batch)
			defer c.caller.Close()
			pick := func() string { return s.sessions[rand.IntN(len(s.sessions))] } //nolint:gosec // spreads load
			for !stop.Load() && ctx.Err() == nil {
				at := due()
				if pause(ctx, time.Until(at)) != nil || stop.Load() {
					return
				}
				failed, err := c.send(ctx, batch, all(at), pick)
				if err != nil && ctx.Err() == nil {
					fail.add(failed, err)
					_ = pause(ctx, 50*time.Millisecond) // not to fail a thousand times over
				}
				rec.Record(i, time.Since(at), int64(batch)-failed)
			}
		})
	}
	out, err = s.measure(ctx, rec)
	stop.Store(true)
	running.Wait()
	if wrong, said := s.ledger.Settle(); wrong > 0 {
		fail.add(int64(wrong), errors.New(strings.Join(said, "; ")))
	}
	return out, err
}

// measure waits out the warm-up and then counts.
func (s *sending) measure(ctx context.Context, rec *latency.Recorder) (out sent, err error) {
	if err := pause(ctx, s.b.cfg.Warmup); err != nil {
		return out, err
	}
	stop, err := s.b.sampleWaits(ctx)
	if err != nil {
		return out, err
	}
	rec.Begin()
	from, err := s.b.times(s.b.stack.PIDs.Server)
	if err == nil {
		err = pause(ctx, s.b.cfg.Duration)
	}
	out.latency = rec.End()
	seen, e := stop()
	out.waits = seen
	if err = errors.Join(err, e); err != nil {
		return out, err
	}
	to, err := s.b.times(s.b.stack.PIDs.Server)
	if err != nil {
		return out, err
	}
	out.count = out.latency.Count
	out.rate = float64(out.count) / to.at.Sub(from.at).Seconds()
	out.cpu, out.beside = per(from, to, out.count), shares(from, to)
	return out, nil
}
