package app

import (
	"context"
	"fmt"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/parley-im/parley/server/account"
	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/committer"
	"github.com/parley-im/parley/server/cursor"
	"github.com/parley-im/parley/server/device"
	"github.com/parley-im/parley/server/feed"
	"github.com/parley-im/parley/server/hub"
	"github.com/parley-im/parley/server/messaging"
	"github.com/parley-im/parley/server/offline"
	"github.com/parley-im/parley/server/presence"
	"github.com/parley-im/parley/server/rate"
	"github.com/parley-im/parley/server/reading"
	"github.com/parley-im/parley/server/relation"
	"github.com/parley-im/parley/server/ring"
	"github.com/parley-im/parley/server/rpc"
	"github.com/parley-im/parley/server/session"
	"github.com/parley-im/parley/server/state"
	"github.com/parley-im/parley/server/statecache"
	"github.com/parley-im/parley/server/storage"
	"github.com/parley-im/parley/server/stream"
	"github.com/parley-im/parley/server/web"
)

// connect makes all parts and joins them: from storage over the delivery path and the domain to the transport. It returns
// the API and the admin listener's handler.
func (a *App) connect(ctx context.Context) (api, ops http.Handler, err error) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	db := storage.New(a.pool)
	logs, positions := storage.NewMessages(db), storage.Positions{DB: db}
	logs.LimitSessions(a.cfg.MaxSessions)
	life := a.life
	local := hub.New()

	recent := ring.New(a.cfg.Cache.RingBytes, reg)
	var cache offline.Cache // stays nil without Redis
	if a.redis != nil {
		cache = storage.NewOfflineCache(a.redis, life.Current, a.cfg.Cache.RedisLength, a.cfg.Cache.RedisTTL)
	}
	a.keeper = offline.NewKeeper(cache, a.clock, a.log, reg)
	a.cached = a.stateCache(db, life, reg)
	sink := &feedSink{hub: local, epoch: life, log: a.log, states: storage.States{DB: db}, cached: a.cached, ring: recent, keeper: a.keeper, underway: newUnderway(), owed: newOwed()}
	sink.underway.tell = sink.tellAdvanced
	a.feed = feed.New(storage.Feed{DB: db}, sink, a.clock, a.log, reg)
	fleet := a.tellOthers(db, local, recent, life, reg)
	if a.hooks, err = a.connectWebhooks(ctx, life, reg); err != nil {
		return nil, nil, err
	}
	a.commits = committer.New(a.cfg.Committers, countedLog{logs, sink.underway},
		toldPublisher{publisher{&offline.Publisher{Ring: recent, Hub: fleet, Keeper: a.keeper}, life, a.cached, sink.underway}, a.hooks.runner.Wake}, a.clock, a.log, committer.NewMetrics(reg))
	a.acks = cursor.New(positions, positions, life, a.clock, a.log)
	a.seen = device.NewSightings(storage.Devices{DB: db}, a.clock, a.log)
	reader := offline.NewReader(recent, a.keeper, logs, reg)

	ends := &streamEnds{hints: a.hints}
	relmap := a.relationMap(db, reg)
	gate := device.NewGate(relmap.access, a.clock)
	memory := deviceMemory{gate, a.roster}
	devices := device.NewService(storage.Devices{DB: db}, ends, memory, a.clock)
	accounts := account.NewService(storage.Accounts{DB: db}, ends, memory, a.clock)
	relations := relation.NewService(storage.Relations{DB: db}, relationNotifier{fleet}, a.clock)
	sessions := session.NewService(logs.Sessions, a.commits, fleet, life, a.clock)
	sessions.LimitSessions(a.cfg.MaxSessions)
	a.readings = reading.NewTeller(storage.ReadAudience{DB: db}, fleet, a.clock, a.log)
	states := state.NewService(a.cached, stateNotifier{fleet, a.feed, a.readings})
	states.Register(reg)
	a.states = states
	a.rates = a.rateLimiter(life, reg)
	messages := messaging.NewService(rate.Sends{Limiter: a.rates,
		Committer: messaging.Moderated{Committer: a.commits, Moderator: a.hooks.moderator}}, reader, positions, a.clock)

	a.streams = stream.NewManager(stream.Config{Heartbeat: a.cfg.Stream.Heartbeat, RoamBacklog: a.cfg.Stream.RoamBacklog},
		stream.Ports{Hub: local, Starter: streamStarts{positions, a.acks}, Sessions: streamSessions{relmap.active, positions, a.acks, sessions},
			Devices: streamDevices{positions, a.seen, a.acks, a.hints, a.clock}, Reader: reader, States: streamStates{states},
			Epoch: life, Clock: a.clock, Log: a.log, Metrics: stream.NewMetrics(reg)})
	ends.Manager = a.streams
	sink.streams, sink.devices, sink.gate, sink.relations, sink.roster = a.streams, devices, gate, relations, a.roster
	sink.presence = a.presence
	fleet.sink.streams = a.streams

	life.changed = func(from, to string) {
		a.log.WarnContext(context.WithoutCancel(ctx), "the database was promoted or restored: all streams start afresh", "from", from, "to", to)
		a.newLife(sink, logs)
	}
	now, err := a.feed.Start(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("start the feed: %w", err)
	}
	life.set(now)

	verifier, signer, err := a.tokens()
	if err != nil {
		return nil, nil, fmt.Errorf("tokens: %w", err)
	}
	a.verifier = verifier
	var minter device.Minter
	var published rpc.KeyPublisher
	if signer != nil {
		minter, published = signer, signer
	}
	keys := []string{a.cfg.Auth.AdminKey}
	if a.cfg.Auth.AdminKeyOld != "" {
		keys = append(keys, a.cfg.Auth.AdminKeyOld)
	}
	key, err := auth.NewAPIKey(keys...)
	if err != nil {
		return nil, nil, fmt.Errorf("PARLEY_ADMIN_KEY: %w", err)
	}
	tracing, err := a.openTracing(ctx)
	if err != nil {
		return nil, nil, err
	}
	a.health = newHealth(a.pool.Ping, a.feed.Age, a.clock)
	syncer := &rpc.SyncServer{Streams: a.streams, Acks: a.acks, Sessions: sessions, Signals: fleet, Epoch: life}
	pages, err := web.New(web.Config{Logins: a.cfg.DevLogins})
	if err != nil {
		return nil, nil, err
	}
	proxies, err := rpc.ParseProxies(a.cfg.Proxies)
	if err != nil {
		return nil, nil, err
	}
	a.conns = rpc.NewConns(a.cfg.MaxConns, a.cfg.MaxConnsIP, proxies, reg)
	tokens := device.NewTokens(devices, minter)
	api, err = rpc.New(rpc.Config{
		Services: rpc.Services{
			Relation: &rpc.RelationServer{Relations: relations},
			Device:   &rpc.DeviceServer{Devices: devices},
			Session:  ratedSessions{&rpc.SessionServer{Sessions: sessions, Epoch: life}, a.rates},
			Message:  &rpc.MessageServer{Messages: messages, States: streamStates{states}, Epoch: life},
			State:    &rpc.StateServer{States: states},
			Sync:     syncer,
			Presence: &rpc.PresenceServer{Presences: presence.NewService(a.presence, storage.PresenceAudience{DB: db})},
			Admin: &rpc.AdminServer{Accounts: accounts, Tokens: tokens, Webhooks: a.hooks.service,
				Node: nodeStats{a.streams, a.commits}, Epoch: life, StartedAt: a.clock.Now(), Version: Version},
		},
		Subscriber: syncer, Verifier: verifier, PublicKeys: published, APIKey: key, Gate: ratedGate{gate, a.rates}, Health: a.health, Log: a.log, Metrics: reg,
		Tracing: tracing, UnaryTimeout: a.cfg.UnaryTimeout, CORSOrigins: a.cfg.CORSOrigins, Reflection: a.cfg.Reflection,
		Pages: pages, Addresses: ratedAddresses{a.rates}, Proxies: proxies,
	})
	if err != nil {
		return nil, nil, err
	}
	if len(a.cfg.DevLogins) > 0 {
		api = &devTokens{tokens: tokens, next: api}
	}
	return api, a.health.handler(reg, relmap.report), nil
}

// stateCache returns the store of states with a cache over it, without Redis or with a TTL of 0 only in name.
func (a *App) stateCache(db *storage.DB, life *epoch, reg prometheus.Registerer) *statecache.Store {
	cfg := statecache.Config{Lease: statecache.DefaultLease, TTL: a.cfg.Cache.StateTTL}
	var cache statecache.Cache
	if a.redis != nil && cfg.TTL > 0 {
		cache = storage.NewStateCache(a.redis, life.Current, cfg.Lease, cfg.TTL)
	}
	return statecache.New(storage.States{DB: db}, cache, a.keeper.Breaker(), cfg, a.clock, reg)
}
