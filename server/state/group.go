package state

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
)

// Bounds of the group commit.
const (
	// MaxBatch is how many changes one transaction takes at most.
	MaxBatch = 256
	// MaxWaiting is how many changes may wait in one group; more are refused with OVERLOADED.
	MaxWaiting = 16 * MaxBatch
	// groups commit side by side; a user's changes are all in the same one.
	groups = 2
	// maxAlone is how many transactions may wait for a row's lock at the same time.
	maxAlone = 8
	// commitTimeout bounds one transaction. After it the outcome is unknown and the callers are told so.
	commitTimeout = 10 * time.Second
)

var (
	overloaded = refusal.New(refusal.Overloaded, "Too many marks wait to be committed; repeat the call later.",
		"retry_after_ms", "500")
	closing      = refusal.New(refusal.ShuttingDown, "This node is going down; repeat the call.", "retry_after_ms", "100")
	errUncertain = refusal.New(refusal.Unavailable, "The commit was not confirmed in time; its outcome is unknown.")
)

// mark is one change that waits. The outcome is the group's until done is closed, and the caller's from then on.
type mark struct {
	rule
	ctx  context.Context
	by   session.Actor
	key  Key
	done chan struct{}

	moved bool
	made  Changes
	view  View
	err   error
}

// group is a queue of changes with a goroutine of its own while there are any. mu guards all fields.
type group struct {
	s       *Service
	mu      sync.Mutex
	waiting []*mark
	pending int // waiting or in a transaction
	running bool
	closed  bool
}

// change has a rule applied by the next transaction of the user's group. Where it changed nothing, nothing is written and
// nobody is told.
func (s *Service) change(ctx context.Context, by session.Actor, sessionID uuid.UUID, r rule) (View, error) {
	m := &mark{rule: r, ctx: ctx, by: by, key: Key{by.UserID, sessionID}, done: make(chan struct{})}
	if err := s.groups[maphash.String(s.seed, by.UserID)%groups].put(m); err != nil {
		return View{}, err
	}
	select {
	case <-m.done:
		return m.view, m.err
	case <-ctx.Done():
		return View{}, ctx.Err()
	}
}

// Close lets what waits be committed, refuses what comes later, and returns when nothing is under way any more.
func (s *Service) Close() {
	for i := range s.groups {
		s.groups[i].mu.Lock()
		s.groups[i].closed = true
		s.groups[i].mu.Unlock()
	}
	s.wg.Wait()
}

func (g *group) put(m *mark) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return closing
	}
	if g.pending >= MaxWaiting {
		return overloaded
	}
	g.waiting = append(g.waiting, m)
	g.pending++
	if !g.running {
		g.running = true
		g.s.wg.Go(g.run)
	}
	return nil
}

// run commits until nothing waits.
func (g *group) run() {
	for {
		turns := g.take()
		if turns == nil {
			return
		}
		g.commit(turns)
	}
}

// take takes what waits: at most MaxBatch changes, each key's in order. nil means that nothing did, and ends the run.
func (g *group) take() []*turn {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.waiting) == 0 {
		g.running, g.waiting = false, nil
		return nil
	}
	turns := make(map[Key]*turn, min(len(g.waiting), MaxBatch))
	order := make([]*turn, 0, min(len(g.waiting), MaxBatch))
	rest, n := g.waiting[:0:0], 0
	for _, m := range g.waiting {
		t := turns[m.key]
		if n == MaxBatch || (t != nil && !t.takes(m)) {
			rest = append(rest, m)
			continue
		}
		if t == nil {
			t = &turn{key: m.key}
			turns[m.key] = t
			order = append(order, t)
		}
		t.marks = append(t.marks, m)
		n++
	}
	g.waiting = rest
	slices.SortFunc(order, func(a, b *turn) int { return a.key.Compare(b.key) })
	return order
}

// commit commits turns without waiting for anybody's lock. Those whose row is locked, by a send of the same user mostly,
// wait for it each in a transaction of its own, so that nobody else waits with them.
func (g *group) commit(turns []*turn) {
	err := g.s.apply(turns, false)
	if reason, refused := refusal.Of(err); err != nil && len(turns) > 1 && !(refused && reason == refusal.Unavailable) {
		// Something that one of them holds broke the transaction: the others must not suffer.
		for i := range turns {
			g.commit(turns[i : i+1])
		}
		return
	}
	for _, t := range turns {
		if err != nil || !t.busy {
			g.answer(t, err)
			continue
		}
		g.s.wg.Go(func() {
			g.s.alone <- struct{}{}
			defer func() { <-g.s.alone }()
			g.answer(t, g.s.apply([]*turn{t}, true))
		})
	}
}

// answer gives the callers their outcomes. err is what befell all of the turn.
func (g *group) answer(t *turn, err error) {
	g.mu.Lock()
	g.pending -= len(t.marks)
	g.mu.Unlock()
	for _, m := range t.marks {
		if err != nil {
			m.err = err
		}
		close(m.done)
	}
}
