package chat

import (
	"context"
	"time"
)

const (
	// maxCursors is how many sessions' positions are kept: as many as one Subscribe, and one Ack, may name.
	maxCursors = 1000
	// tellAgain is the pause before the server is told again after it could not be.
	tellAgain = 2 * time.Second
	// goodbye bounds the last acks.
	goodbye = 2 * time.Second
)

// positions are seqs of sessions that the server is told of: only the highest counts.
type positions struct {
	want, done map[string]int64
	busy       bool
	next       time.Time
	life       int // how often it was reset
}

// reset forgets everything, what is being told included.
func (p *positions) reset() { *p = positions{busy: p.busy, life: p.life + 1} }

func (p *positions) set(sessionID string, seq int64) {
	if p.want == nil {
		p.want, p.done = make(map[string]int64), make(map[string]int64)
	}
	if at, ok := p.want[sessionID]; ok && at >= seq || !ok && len(p.want) >= maxCursors {
		return
	}
	p.want[sessionID] = seq
}

func (p *positions) forget(sessionID string) {
	delete(p.want, sessionID)
	delete(p.done, sessionID)
}

// due returns what the server does not know yet.
func (p *positions) due() map[string]int64 {
	out := make(map[string]int64)
	for id, seq := range p.want {
		if seq > p.done[id] {
			out[id] = seq
		}
	}
	return out
}

// tell runs a call that tells the server what is due, one at a time.
func (c *Chat) tell(ctx context.Context, p *positions, call func(context.Context, map[string]int64) error) {
	due := p.due()
	if len(due) == 0 || p.busy || !c.connected || time.Now().Before(p.next) {
		return
	}
	p.busy = true
	life := p.life
	c.beside(ctx, func(ctx context.Context) error { return call(ctx, due) }, func(err error) {
		p.busy = false
		switch {
		case p.life != life:
		case err != nil && problemOf(err).again:
			p.next = time.Now().Add(tellAgain)
		default: // what is refused for good is not told again: if it matters, a Resync follows
			for id, seq := range due {
				p.done[id] = max(p.done[id], seq)
			}
		}
	})
}

// keepHouse does what is due now and then.
func (c *Chat) keepHouse(ctx context.Context) {
	epoch := c.epoch
	c.tell(ctx, &c.acks, func(ctx context.Context, at map[string]int64) error { return c.api.ack(ctx, epoch, at) })
	c.tell(ctx, &c.reads, c.api.markRead)
	c.catchUp(ctx)
	if c.connected && c.receipts.due(time.Now()) {
		c.askReaders(ctx)
	}
	c.showStatus()
}

// leave tells the server what was seen, if it can be told soon.
func (c *Chat) leave(ctx context.Context) {
	if !c.connected {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	if due := c.acks.due(); len(due) > 0 {
		_ = c.api.ack(ctx, c.epoch, due)
	}
	if due := c.reads.due(); len(due) > 0 {
		_ = c.api.markRead(ctx, due)
	}
}
