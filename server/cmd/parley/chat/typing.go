package chat

import (
	"context"
	"slices"
	"time"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

const (
	// typingLasts is how long somebody counts as typing without another sign; the proto says so.
	typingLasts = 10 * time.Second
	// typingEvery is how often typing is told.
	typingEvery = 4 * time.Second
)

// typing knows who is typing, and when the others were last told that this user is. Names of at most maxTyping are kept.
type typing struct {
	since map[string]time.Time
	told  time.Time
}

const maxTyping = 64

func (t *typing) started(name string, now time.Time) {
	if t.since == nil {
		t.since = make(map[string]time.Time)
	}
	if _, ok := t.since[name]; ok || len(t.since) < maxTyping {
		t.since[name] = now
	}
}

func (t *typing) stopped(name string) { delete(t.since, name) }

// said makes the next key be told at once.
func (t *typing) said() { t.told = time.Time{} }

// names returns who is typing, in order, and forgets those who gave no sign for long.
func (t *typing) names(now time.Time) (names []string) {
	for name, at := range t.since {
		if now.Sub(at) < typingLasts {
			names = append(names, clean(name))
		} else {
			delete(t.since, name)
		}
	}
	slices.Sort(names)
	return names
}

// signal takes what others signal.
func (c *Chat) signal(s *parleyv1.SignalEvent) {
	t, ok := s.GetSignal().GetKind().(*parleyv1.Signal_Typing)
	if !ok || s.GetSessionId() != c.sessionID || s.GetSenderId() == c.cfg.User {
		return
	}
	c.receipts.stir(time.Now()) // who is typing has likely read what came before
	if t.Typing.GetIsTyping() {
		c.typing.started(s.GetSenderId(), time.Now())
	} else {
		c.typing.stopped(s.GetSenderId())
	}
}

// tellTyping tells the others that somebody writes here. It may be lost.
func (c *Chat) tellTyping(ctx context.Context) {
	if time.Since(c.typing.told) < typingEvery || !c.connected || c.thread.shown == 0 {
		return
	}
	c.typing.told = time.Now()
	c.beside(ctx, func(ctx context.Context) error {
		_, err := c.api.sync.SendSignal(ctx, &parleyv1.SendSignalRequest{SessionId: c.sessionID,
			Signal: &parleyv1.Signal{Kind: &parleyv1.Signal_Typing{Typing: &parleyv1.Typing{IsTyping: true}}}})
		return err
	}, func(error) {})
}
