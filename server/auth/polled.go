package auth

import (
	"context"
	"sync"
	"time"
)

// How often a source on disk is read at most. Reading the few kilobytes anew and comparing them finds every change,
// which modification times do not (coarse clocks, copies that keep times, replaced links).
const (
	// pollInterval is the time between reads that calls for tokens bring about.
	pollInterval = time.Second
	// missInterval is the time between reads that unknown kids bring about.
	missInterval = 100 * time.Millisecond
)

// polled is a source on a local disk. It has no goroutine: those who ask for keys look at the disk now and then.
type polled struct {
	held
	// load reads the disk. Calls do not overlap.
	load func() (*KeySet, error)

	loading  sync.Mutex // held during load; lock order: loading, times
	times    sync.Mutex
	lastPoll time.Time
	lastMiss time.Time
}

// Keys returns the current set, which is at most a second older than the file.
func (p *polled) Keys() (*KeySet, error) {
	// While another caller reads the disk, this one goes by what is there: a hanging disk holds up one caller only.
	if p.due(&p.lastPoll, pollInterval) && p.loading.TryLock() {
		p.keep(p.load())
		p.loading.Unlock()
	}
	return p.current()
}

// Refresh reads the disk at once, unless an unknown kid did so in the last 100 ms.
func (p *polled) Refresh(context.Context) (*KeySet, error) {
	if p.due(&p.lastMiss, missInterval) {
		p.loading.Lock()
		p.keep(p.load())
		p.loading.Unlock()
	}
	return p.looked()
}

// due reports whether gap has passed since *last, and if so sets it to now.
func (p *polled) due(last *time.Time, gap time.Duration) bool {
	p.times.Lock()
	defer p.times.Unlock()
	now := p.clock.Now()
	if !last.IsZero() && now.Sub(*last) < gap {
		return false
	}
	*last = now
	return true
}

// start reads the disk for the first time. Unlike later, a failure is the caller's to deal with.
func (p *polled) start() error {
	p.loading.Lock()
	defer p.loading.Unlock()
	set, err := p.load()
	if err != nil {
		return err
	}
	p.due(&p.lastPoll, 0)
	p.keep(set, nil)
	return nil
}
