package check

import (
	"fmt"
	"slices"
	"sync"
)

// Ledger collects the seqs that sends were answered with. It is safe for concurrent use.
type Ledger struct {
	mu       sync.Mutex
	sessions map[string]*answers
	total    int64
}

type answers struct {
	base int64 // head before the run
	seqs []int64
}

// Start says that a session's head is seq.
func (l *Ledger) Start(session string, seq int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sessions == nil {
		l.sessions = make(map[string]*answers)
	}
	l.sessions[session] = &answers{base: seq}
}

// Answered notes the seq of a send.
func (l *Ledger) Answered(session string, seq int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sessions[session]
	if a == nil {
		a = &answers{}
		if l.sessions == nil {
			l.sessions = make(map[string]*answers)
		}
		l.sessions[session] = a
	}
	a.seqs = append(a.seqs, seq)
	l.total++
}

// Total is how many answers there were.
func (l *Ledger) Total() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total
}

// Head returns the highest seq known of a session.
func (l *Ledger) Head(session string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.sessions[session]
	if a == nil {
		return 0
	}
	if len(a.seqs) == 0 {
		return a.base
	}
	return slices.Max(a.seqs)
}

// Settle proves that each session's seqs go on from its head without a hole or a repeat, and moves the heads. Call it
// when no send is under way. It returns how many are wrong, and the first of them in words.
func (l *Ledger) Settle() (wrong int, said []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, a := range l.sessions {
		slices.Sort(a.seqs)
		for _, seq := range a.seqs {
			if seq != a.base+1 {
				if wrong++; len(said) < maxProblems {
					said = append(said, fmt.Sprintf("session %s: a send got seq %d after %d", id, seq, a.base))
				}
			}
			a.base = seq
		}
		a.seqs = nil
	}
	l.total = 0
	return wrong, said
}
