package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/redis/go-redis/v9"

	"github.com/parley-im/parley/server/breaker"
)

const (
	// lookEvery is how often a cluster is asked which servers are its masters.
	lookEvery = time.Second
	// maxProbeKeys is how many keys are tried to find one that is on a certain master.
	maxProbeKeys = 4096
)

// Cluster is a client of a Redis Cluster that leaves each master alone by itself: what is on others goes on being served.
// It implements breaker.Parts. What the adapters ask goes straight to the master that has the key, and is neither repeated
// nor sent on: a key that has moved counts as not there until the client knows where it is.
//
// A master is known by its address while it is one. When a replica takes its place, or it comes back after that, this is
// another server than before, and Turns changes before anything is asked of it.
type Cluster struct {
	*redis.ClusterClient
	log *slog.Logger

	turns, lefts atomic.Uint64
	probes       sync.WaitGroup

	mu      sync.RWMutex
	masters map[string]*master // by address
	running context.Context    //nolint:containedctx // Run's; nil while it does not run: masters found later are probed by it too
}

// master is one server of a cluster.
type master struct {
	client  *redis.Client
	breaker *breaker.Breaker
	trips   atomic.Uint64 // of breaker, as counted in Cluster.turns and lefts
	up      atomic.Bool   // as breaker.Allows, likewise
	clock   serverClock
	probe   atomic.Pointer[string] // a key that it has
	end     context.CancelFunc     // of its probing; nil while nobody probes
}

func newCluster(c *redis.ClusterClient) *Cluster {
	return &Cluster{ClusterClient: c, log: slog.New(slog.DiscardHandler), masters: make(map[string]*master)}
}

// Tell makes the cluster say which masters are left alone. To be called before it is used.
func (c *Cluster) Tell(log *slog.Logger) { c.log = log }

// Lefts implements breaker.Parts.
func (c *Cluster) Lefts() uint64 { c.tally(); return c.lefts.Load() }

// Turns implements breaker.Parts.
func (c *Cluster) Turns() uint64 { c.tally(); return c.turns.Load() }

// tally takes notice of masters that are left alone, or answer again.
func (c *Cluster) tally() {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, m := range c.masters {
		c.tallyOne(m)
	}
}

func (c *Cluster) tallyOne(m *master) {
	if trips := m.breaker.Trips(); m.trips.Swap(trips) < trips {
		c.lefts.Add(1)
		c.turns.Add(1)
	}
	if up := m.breaker.Allows(); m.up.Swap(up) != up {
		c.turns.Add(1)
	}
}

// Serves implements breaker.Parts.
func (c *Cluster) Serves() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, m := range c.masters {
		if m.breaker.Allows() {
			return true
		}
	}
	return len(c.masters) == 0
}

// whole reports whether no master is left alone.
func (c *Cluster) whole() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, m := range c.masters {
		if !m.breaker.Allows() {
			return false
		}
	}
	return true
}

// Run implements breaker.Parts. It also finds out when a server is no master any more.
func (c *Cluster) Run(ctx context.Context) {
	c.mu.Lock()
	c.running = ctx
	for _, m := range c.masters {
		c.watch(m)
	}
	c.mu.Unlock()
	tick := clockwork.NewRealClock().NewTicker(lookEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		c.look(ctx)
		select {
		case <-ctx.Done():
		case <-tick.Chan():
		}
	}
	c.mu.Lock()
	c.running = nil
	c.mu.Unlock()
	c.probes.Wait()
}

// watch probes a master until it is none, or Run ends. The lock is held, and Run runs.
func (c *Cluster) watch(m *master) {
	ctx, end := context.WithCancel(c.running)
	m.end = end
	c.probes.Go(func() { m.breaker.Run(ctx) })
}

// look asks the cluster for its masters.
func (c *Cluster) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	var mu sync.Mutex
	now := make(map[string]*redis.Client)
	err := c.ForEachMaster(ctx, func(_ context.Context, client *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		now[client.Options().Addr] = client
		return nil
	})
	if err != nil || len(now) == 0 {
		return
	}
	for _, client := range now {
		c.known(client)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for addr, m := range c.masters {
		if now[addr] == nil {
			c.forget(addr, m)
		}
	}
}

// forget lets go of a server that is no master. The lock is held.
func (c *Cluster) forget(addr string, m *master) {
	delete(c.masters, addr)
	c.turns.Add(1)
	if m.end != nil {
		m.end()
	}
}

// at returns the master that has a key. It fails while it is not known which one that is.
func (c *Cluster) at(ctx context.Context, key string) (*master, error) {
	client, err := c.MasterForKey(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	return c.known(client), nil
}

// known returns what is known of a master, which is another one than before if its client is.
func (c *Cluster) known(client *redis.Client) *master {
	addr := client.Options().Addr
	c.mu.RLock()
	m := c.masters[addr]
	c.mu.RUnlock()
	if m != nil && m.client == client {
		return m
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if m = c.masters[addr]; m != nil {
		if m.client == client {
			return m
		}
		c.forget(addr, m)
	}
	m = &master{client: client}
	m.up.Store(true)
	m.breaker = breaker.NewPart(func(ctx context.Context) error { return c.ping(ctx, addr, m) }, clockwork.NewRealClock(),
		c.log.With("server", addr))
	c.masters[addr] = m
	c.turns.Add(1)
	if c.running != nil {
		c.watch(m)
	}
	return m
}

var errNoKey = errors.New("the server has no slot that a key was found for")

// ping writes to a master.
func (c *Cluster) ping(ctx context.Context, addr string, m *master) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	for n := 0; m.probe.Load() == nil; n++ {
		key := "parley:probe:" + strconv.Itoa(n)
		client, err := c.MasterForKey(ctx, key)
		if err != nil || n == maxProbeKeys {
			return errors.Join(err, errNoKey)
		}
		if client.Options().Addr == addr {
			m.probe.Store(&key)
		}
	}
	err := m.client.Set(ctx, *m.probe.Load(), "", time.Minute).Err()
	if err != nil {
		c.ReloadState(ctx)
	}
	if moved(err) { // it is in order, only the key is elsewhere now
		m.probe.Store(nil)
		return nil
	}
	return err
}

// moved reports whether a server that is in order has refused a key that is not its own at the moment.
func moved(err error) bool {
	return redis.HasErrorPrefix(err, "MOVED") || redis.HasErrorPrefix(err, "ASK") || redis.HasErrorPrefix(err, "TRYAGAIN") ||
		redis.HasErrorPrefix(err, "CLUSTERDOWN Hash slot not served")
}

// each calls do once for each master that may be asked, all at the same time, with the places of those of the n items whose
// keys it has. The error is a *breaker.PartError that names the items that were not done, or tells why nothing is known.
func (c *Cluster) each(ctx context.Context, use breaker.Use, n int, key func(i int) string, do func(m *master, items []int) error) error {
	finding, cancel := context.WithTimeout(ctx, redisTimeout) // takes time only while nothing is known of the cluster
	defer cancel()
	parts := make(map[*master][]int)
	part := &breaker.PartError{}
	for i := range n {
		m, err := c.at(finding, key(i))
		switch {
		case err != nil:
			return err
		case m.breaker.Allows():
			parts[m] = append(parts[m], i)
		default:
			part.Failed = append(part.Failed, i)
		}
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for m, items := range parts {
		all.Go(func() {
			err := do(m, items)
			if err != nil {
				c.ReloadState(ctx)
			}
			if !moved(err) {
				m.breaker.Done(ctx, use, err)
				c.tallyOne(m)
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				part.Failed, part.Err = append(part.Failed, items...), err
			}
		})
	}
	all.Wait()
	if len(part.Failed) == 0 {
		return nil
	}
	slices.Sort(part.Failed)
	return part
}

// some returns those of items at places.
func some[T any](items []T, places []int) []T {
	out := make([]T, len(places))
	for n, i := range places {
		out[n] = items[i]
	}
	return out
}
