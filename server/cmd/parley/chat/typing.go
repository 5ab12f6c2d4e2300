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
	// typingLate is how long after a message a sign of typing counts as one of that message, which overtook it.
	typingLate = 500 * time.Millisecond
	// maxTyping is how many names are kept.
	maxTyping = 64
)

// typing knows who is typing, and when the others were last told that this user is.
type typing struct {
	signs map[string]sign
	told  time.Time
}

// sign is the last that is known of one who types or has just stopped.
type sign struct {
	typing bool
	at     time.Time
}

func (t *typing) started(name string, now time.Time) {
	if last, ok := t.signs[name]; ok && !last.typing && now.Sub(last.at) < typingLate {
		return
	}
	t.set(name, sign{true, now})
}

func (t *typing) stopped(name string, now time.Time) { t.set(name, sign{false, now}) }

func (t *typing) set(name string, s sign) {
	if t.signs == nil {
		t.signs = make(map[string]sign)
	}
	if _, ok := t.signs[name]; ok || len(t.signs) < maxTyping {
		t.signs[name] = s
	}
}

// said makes the next key be told at once.
func (t *typing) said() { t.told = time.Time{} }

// names returns who is typing, in order, and forgets those who gave no sign for long.
func (t *typing) names(now time.Time) (names []string) {
	for name, s := range t.signs {
		switch {
		case now.Sub(s.at) >= typingLasts:
			delete(t.signs, name)
		case s.typing:
			names = append(names, clean(name))
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
		c.typing.stopped(s.GetSenderId(), time.Now())
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
