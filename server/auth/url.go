package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

const (
	// DefaultRefreshInterval is how often a URLSource reads its URL unless told otherwise.
	DefaultRefreshInterval = 5 * time.Minute
	// DefaultFetchTimeout bounds one reading of the URL, redirects and body included, unless told otherwise.
	DefaultFetchTimeout = 5 * time.Second
	// MissInterval is the least time between two readings that unknown kids bring about.
	MissInterval = 10 * time.Second
	// retryInterval is the time to the next reading after a failed one, if the refresh interval is not shorter.
	retryInterval = 15 * time.Second
	// minRefreshInterval keeps a mistyped setting from hammering somebody's server.
	minRefreshInterval = time.Second
)

// URLSourceConfig says what a URLSource reads and how.
type URLSourceConfig struct {
	// URL of the JWKS document. Required; https, or http on a loopback address. It comes from the configuration, never
	// from a token. It has no user name or password in it.
	URL string
	// AllowHTTP permits plain http on any address: for a network in which nobody can change what is on the wire.
	AllowHTTP bool
	// RefreshInterval is the time between two regular readings. 0 means DefaultRefreshInterval; at least one second.
	RefreshInterval time.Duration
	// Timeout bounds one reading. 0 means DefaultFetchTimeout.
	Timeout time.Duration
	// Transport does the requests, for a private certificate authority or a proxy. nil means http.DefaultTransport's
	// settings on connections of its own.
	Transport http.RoundTripper
	// Clock; nil means the real one. It drives intervals, not Timeout.
	Clock clockwork.Clock
	// Log gets failures and changes; nil means none. No key material and no query of the URL is logged.
	Log *slog.Logger
}

// URLSource is a JWKS document behind a URL of the configuration. It reads at start, then once per RefreshInterval,
// after a failure 15 s later, and for an unknown kid at once but at most once per MissInterval. A failed reading (see
// fetcher) changes nothing: the last good set stays for KeepKeys.
type URLSource struct {
	held
	fetch    *fetcher
	interval time.Duration

	stop context.CancelFunc
	done chan struct{} // closed when the goroutine has ended
	wake chan struct{} // holds one token while a reading is asked for

	flights  sync.Mutex
	flight   chan struct{} // closed at the end of the reading under way or asked for; nil if there is none
	lastMiss time.Time     // when an unknown kid last asked for a reading
}

// NewURLSource checks the configuration and starts the first reading without waiting for it. Close ends it.
func NewURLSource(cfg URLSourceConfig) (*URLSource, error) {
	address, err := checkURL(cfg.URL, cfg.AllowHTTP)
	if err != nil {
		return nil, err
	}
	if cfg.RefreshInterval == 0 {
		cfg.RefreshInterval = DefaultRefreshInterval
	}
	if cfg.RefreshInterval < minRefreshInterval {
		return nil, fmt.Errorf("key set URL: the refresh interval is shorter than %s", minRefreshInterval)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultFetchTimeout
	}
	if cfg.Timeout < 0 {
		return nil, errors.New("key set URL: the timeout is negative")
	}
	// The first reading is a flight like any other, so that the first tokens wait for it.
	s := &URLSource{
		fetch: newFetcher(address, cfg.Timeout, cfg.Transport), interval: cfg.RefreshInterval,
		done: make(chan struct{}), wake: make(chan struct{}, 1), flight: make(chan struct{}),
	}
	s.clock, s.log = orReal(cfg.Clock), orSilent(cfg.Log).With("jwks_host", address.Host)
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo // a life of its own, which Close ends.
	s.stop = cancel
	go s.run(ctx)
	return s, nil
}

// Close ends a reading under way and waits for the goroutine. Keys and Refresh answer from what is there afterwards.
func (s *URLSource) Close() {
	s.stop()
	<-s.done
}

// Keys returns the last good set, at most KeepKeys old.
func (s *URLSource) Keys() (*KeySet, error) { return s.current() }

// Refresh waits for the reading under way, or starts one and waits for it, unless an unknown kid started one less than
// MissInterval ago. It waits for at most the timeout of a reading, and no longer than ctx.
func (s *URLSource) Refresh(ctx context.Context) (*KeySet, error) {
	if flight := s.join(); flight != nil {
		select {
		case <-flight:
		case <-s.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrKeysUnavailable, ctx.Err())
		}
	}
	return s.looked()
}

// join returns the reading to wait for, asking for one if that is permitted, or nil.
func (s *URLSource) join() chan struct{} {
	s.flights.Lock()
	defer s.flights.Unlock()
	if s.flight != nil {
		return s.flight
	}
	now := s.clock.Now()
	if !s.lastMiss.IsZero() && now.Sub(s.lastMiss) < MissInterval {
		return nil
	}
	s.lastMiss = now
	s.flight = make(chan struct{})
	select {
	case s.wake <- struct{}{}:
	default: // It is awake already.
	}
	return s.flight
}

// begin makes the reading that now starts the one to join.
func (s *URLSource) begin() {
	s.flights.Lock()
	defer s.flights.Unlock()
	if s.flight == nil {
		s.flight = make(chan struct{})
		return
	}
	select { // The reading was asked for; it may have been the timer that was seen first.
	case <-s.wake:
	default:
	}
}

func (s *URLSource) end() {
	s.flights.Lock()
	defer s.flights.Unlock()
	close(s.flight)
	s.flight = nil
}

func (s *URLSource) run(ctx context.Context) {
	defer close(s.done)
	defer s.fetch.close()
	for {
		s.begin()
		set, err := s.fetch.read(ctx)
		if ctx.Err() == nil { // A reading that Close cut short says nothing about the server.
			s.keep(set, err)
		}
		// The timer is made before waiters go on, so that whoever drives the clock finds it.
		timer := s.clock.NewTimer(s.pause(err))
		s.end()
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.Chan():
		case <-s.wake:
			timer.Stop()
		}
	}
}

// pause is the time to the next regular reading.
func (s *URLSource) pause(err error) time.Duration {
	if err != nil {
		return min(retryInterval, s.interval)
	}
	return s.interval
}

// checkURL parses the address of a key set and refuses what would be unsafe.
func checkURL(raw string, allowHTTP bool) (*url.URL, error) {
	address, err := url.Parse(raw)
	switch {
	case err != nil || address.Host == "" || address.Opaque != "":
		return nil, errors.New("key set URL: not an absolute URL")
	case address.User != nil:
		return nil, fmt.Errorf("key set URL of %s: it must not have a user name or password", address.Host)
	case address.Scheme == "https", address.Scheme == "http" && (allowHTTP || isLoopback(address)):
		return address, nil
	default:
		return nil, fmt.Errorf("key set URL of %s: https is needed, unless http is allowed explicitly", address.Host)
	}
}
