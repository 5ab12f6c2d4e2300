package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jonboulle/clockwork"
	"github.com/redis/go-redis/v9"

	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/committer"
	"github.com/parley-im/parley/server/cursor"
	"github.com/parley-im/parley/server/device"
	"github.com/parley-im/parley/server/feed"
	"github.com/parley-im/parley/server/hints"
	"github.com/parley-im/parley/server/offline"
	"github.com/parley-im/parley/server/presence"
	"github.com/parley-im/parley/server/rate"
	"github.com/parley-im/parley/server/reading"
	"github.com/parley-im/parley/server/roster"
	"github.com/parley-im/parley/server/rpc"
	"github.com/parley-im/parley/server/state"
	"github.com/parley-im/parley/server/statecache"
	"github.com/parley-im/parley/server/storage"
	"github.com/parley-im/parley/server/stream"
)

// App is a node of Parley: New connects it, Run serves until its context ends, then takes it down.
//
// The shutdown has one deadline and this order: readiness goes off, and everything is served for a grace time in which
// balancers notice; streams end with a hint when to come back; the API takes no new calls and lets running ones finish; waiting sends are committed; cursors and sightings are written; workers stop; the
// pools close.
type App struct {
	cfg   Config
	log   *slog.Logger
	clock clockwork.Clock

	pool     *pgxpool.Pool
	hookPool *pgxpool.Pool // of webhooks
	hooks    *webhooks
	life     *epoch
	feed     *feed.Feed
	commits  *committer.Committer
	streams  *stream.Manager
	acks     *cursor.Acks
	seen     *device.Sightings
	roster   *roster.Roster        // nil: none is kept
	redis    redis.UniversalClient // nil without Redis
	keeper   *offline.Keeper
	cached   *statecache.Store
	states   *state.Service
	hints    *hints.Hints
	presence *presence.Tracker
	readings *reading.Teller
	health   *health
	drain    *drain
	verifier *auth.Verifier
	rates    *rate.Limiter
	conns    *rpc.Conns
	source   interface{ Close() } // of keys, nil when there is nothing to close
	tracing  func(context.Context) error

	api, ops       *http.Server
	apiLn, opsLn   net.Listener
	tls            bool
	cancelRequests context.CancelFunc
}

// New connects a node: it waits for PostgreSQL, migrates, and listens; it serves nothing before Run.
func New(ctx context.Context, cfg Config, log *slog.Logger) (_ *App, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	a := &App{cfg: cfg, log: log, clock: cfg.Clock}
	if a.clock == nil {
		a.clock = clockwork.NewRealClock()
	}
	defer func() {
		if err != nil {
			a.release()
		}
	}()
	log.InfoContext(ctx, "starting", "version", Version, "settings", cfg)
	a.life = &epoch{}
	if a.pool, err = openPostgres(ctx, cfg.Postgres, log, a.life.observe); err != nil {
		return nil, err
	}
	if cfg.Redis.URL != "" {
		if a.redis, err = storage.OpenRedis(cfg.Redis.URL); err != nil {
			return nil, err
		}
		if cluster, ok := a.redis.(*storage.Cluster); ok {
			cluster.Tell(log)
		}
	}
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a.cancelRequests = cancel
	handler, ops, err := a.connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.listen(base, handler, ops); err != nil {
		return nil, err
	}
	return a, nil
}

// Addr is where the API listens.
func (a *App) Addr() string { return a.apiLn.Addr().String() }

// AdminAddr is where metrics, health and pprof are; empty for nowhere.
func (a *App) AdminAddr() string {
	if a.opsLn == nil {
		return ""
	}
	return a.opsLn.Addr().String()
}

func (a *App) listen(base context.Context, handler, ops http.Handler) (err error) {
	var certs *rpc.Certificates
	if a.cfg.TLSCert != "" {
		if certs, err = rpc.LoadCertificates(a.cfg.TLSCert, a.cfg.TLSKey, a.clock, a.log); err != nil {
			return err
		}
	}
	a.tls = certs != nil
	a.drain = &drain{next: handler}
	a.api = rpc.NewHTTPServer(base, a.drain, certs, a.log)
	var lc net.ListenConfig
	if a.apiLn, err = lc.Listen(base, "tcp", a.cfg.Listen); err != nil {
		return fmt.Errorf("PARLEY_LISTEN: %w", err)
	}
	a.conns.Watch(a.api)
	a.apiLn = a.conns.Listen(a.apiLn)
	if a.cfg.AdminListen == "" {
		return nil
	}
	a.ops = &http.Server{Handler: ops, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
	if a.opsLn, err = lc.Listen(base, "tcp", a.cfg.AdminListen); err != nil {
		return fmt.Errorf("PARLEY_ADMIN_LISTEN: %w", err)
	}
	return nil
}

// Run serves until ctx ends or a listener fails, then shuts down. It returns nil after a clean shutdown.
func (a *App) Run(ctx context.Context) error {
	defer a.release()
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	var workers sync.WaitGroup
	workers.Go(func() { a.feed.Run(work) })
	workers.Go(func() { a.acks.Run(work) })
	workers.Go(func() { a.seen.Run(work) })
	workers.Go(func() { a.keeper.Run(work) })
	workers.Go(func() { a.hints.Run(work) })
	workers.Go(func() { a.presence.Run(work) })
	workers.Go(func() { a.readings.Run(work) })
	workers.Go(func() { a.cached.Run(work) })
	workers.Go(func() { a.rates.Run(work) })
	workers.Go(func() { a.watch(work) })
	workers.Go(func() { a.hooks.runner.Run(work) })
	if a.roster != nil {
		workers.Go(func() { a.roster.Run(work) })
	}

	failed := make(chan error, 2)
	serve := func(s *http.Server, ln net.Listener, tls bool) {
		var err error
		if tls {
			err = s.ServeTLS(ln, "", "")
		} else {
			err = s.Serve(ln)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}
	go serve(a.api, a.apiLn, a.tls)
	if a.ops != nil {
		go serve(a.ops, a.opsLn, false)
	}
	a.health.setServing(true)
	a.log.InfoContext(ctx, "serving", "addr", a.Addr(), "admin_addr", a.AdminAddr())

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	return errors.Join(err, a.shutDown(ctx, stopWork, &workers))
}

// watchInterval is how often live streams' tokens are looked at. A withdrawn key in a file is seen within a second of it,
// so that its streams have ended within two.
const watchInterval = 500 * time.Millisecond

// watch ends streams whose token no longer holds: its time is over, or its key was withdrawn. It settles those that opened late.
func (a *App) watch(ctx context.Context) {
	tick := a.clock.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.Chan():
			keys := a.verifier.AcceptedKeys()
			a.streams.EndLapsed(func(key [32]byte) error { return keys.Check(key) })
			a.streams.Settle()
		}
	}
}

func (a *App) shutDown(ctx context.Context, stopWork context.CancelFunc, workers *sync.WaitGroup) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.DrainTimeout)
	defer cancel()
	a.log.InfoContext(ctx, "shutting down")
	a.health.setServing(false)
	a.drain.wait(ctx, a.clock, min(a.cfg.DrainGrace, a.cfg.DrainTimeout/3))
	errs := []error{wrap("end streams", a.streams.Drain(ctx)), wrap("finish calls", a.api.Shutdown(ctx))}
	a.cancelRequests()
	a.commits.Close()
	a.states.Close()
	stopWork()
	workers.Wait()
	if a.ops != nil {
		errs = append(errs, wrap("end the admin listener", a.ops.Shutdown(ctx)))
	}
	return errors.Join(errs...)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// release lets go of what New opened. It may be called more than once.
func (a *App) release() {
	for _, s := range []*http.Server{a.api, a.ops} {
		if s != nil {
			_ = s.Close()
		}
	}
	for _, ln := range []net.Listener{a.apiLn, a.opsLn} {
		if ln != nil {
			_ = ln.Close()
		}
	}
	if a.cancelRequests != nil {
		a.cancelRequests()
	}
	if a.commits != nil {
		a.commits.Close()
	}
	if a.source != nil {
		a.source.Close()
	}
	if a.tracing != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_ = a.tracing(ctx)
		cancel()
	}
	if a.redis != nil {
		_ = a.redis.Close()
	}
	if a.hooks != nil {
		a.hooks.sender.Close()
	}
	for _, p := range []*pgxpool.Pool{a.hookPool, a.pool} {
		if p != nil {
			p.Close()
		}
	}
}

// tokens returns who verifies tokens, and who mints them (nil where Parley has no signing key).
func (a *App) tokens() (*auth.Verifier, *auth.Signer, error) {
	var issuers []auth.Issuer
	var signer *auth.Signer
	c := a.cfg.Auth
	if c.SigningKey != "" {
		s, err := auth.LoadOrCreateSigner(c.SigningKey, auth.SignerConfig{Issuer: ownIssuer, Audience: c.Audience, Clock: a.clock, Log: a.log})
		if err != nil {
			return nil, nil, err
		}
		signer = s
		issuers = append(issuers, auth.Issuer{Name: ownIssuer, Audience: c.Audience, Source: s})
	}
	switch {
	case c.JWKSURL != "":
		s, err := auth.NewURLSource(auth.URLSourceConfig{URL: c.JWKSURL, AllowHTTP: c.JWKSHTTP, Clock: a.clock, Log: a.log})
		if err != nil {
			return nil, nil, err
		}
		a.source = s
		issuers = append(issuers, auth.Issuer{Name: c.Issuer, Audience: c.Audience, Source: s})
	case c.JWKSFile != "":
		s, err := auth.NewFileSource(auth.FileSourceConfig{Path: c.JWKSFile, Clock: a.clock, Log: a.log})
		if err != nil {
			return nil, nil, err
		}
		issuers = append(issuers, auth.Issuer{Name: c.Issuer, Audience: c.Audience, Source: s})
	}
	v, err := auth.NewVerifier(auth.VerifierConfig{Issuers: issuers, Clock: a.clock})
	return v, signer, err
}
