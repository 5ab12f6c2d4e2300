package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/parley-im/parley/server/app"
	"github.com/parley-im/parley/server/dev"
	"github.com/parley-im/parley/server/dev/balancer"
)

const (
	maxNodes = 9
	// startPatience bounds how long the nodes may take to be ready for the first time.
	startPatience = 3 * time.Minute
)

func clusterCommand() *cobra.Command {
	cfg := app.Default()
	cfg.Reflection = true
	cfg.LogLevel = "warn"
	cfg.DrainGrace = time.Second // its balancer notices within 100 ms
	c := cluster{count: 3, revive: 5 * time.Second}
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Run several nodes behind a balancer on this machine, to try what happens when one dies",
		Long: `Starts a PostgreSQL and a Redis by itself unless PARLEY_POSTGRES_URL and PARLEY_REDIS_URL name others, several nodes
as processes of their own, and a small TCP balancer before them at PARLEY_LISTEN. It prints the nodes' process ids, two
ready logins and what to try. Kill a node, as hard as you like: its devices go on at another one, and after --revive the
node is started again. Everything is kept in PARLEY_DATA_DIR (.data), the same that parley run uses.

All settings of serve hold for every node, but for the addresses. For production use serve and a balancer of your own.`,
		Args: cobra.NoArgs,
	}
	cfg.Flags(cmd.Flags())
	settings := names(cmd.Flags())
	cmd.Flags().IntVar(&c.count, "nodes", c.count, "how many nodes, 1 to 9")
	cmd.Flags().DurationVar(&c.revive, "revive", c.revive, "after what time a node that ended is started again; 0: never")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := app.FromEnv(cmd.Flags()); err != nil {
			return err
		}
		if c.count < 1 || c.count > maxNodes || c.revive < 0 {
			return fmt.Errorf("--nodes is 1 to %d, --revive no negative time", maxNodes)
		}
		c.given = asEnv(cmd.Flags(), settings)
		return c.run(cmd, cfg)
	}
	return cmd
}

// cluster is what one call of the command runs. What happens to nodes is printed by one goroutine per node; out is locked.
type cluster struct {
	count  int
	revive time.Duration
	given  []string // settings that the user gave, as environment variables
	out    io.Writer
	nodes  []*clusterNode
}

type clusterNode struct {
	number  int
	addr    string // of the API
	ops     string // of health and metrics
	env     []string
	program *dev.Program // the watcher's own once that runs
	pid     atomic.Int64
}

func (c *cluster) run(cmd *cobra.Command, cfg app.Config) error {
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	c.out = &lockedWriter{to: cmd.OutOrStdout()}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", cfg.Listen)
	if err != nil {
		return fmt.Errorf("PARLEY_LISTEN: %w", err)
	}
	defer ln.Close() //nolint:errcheck // the balancer has closed it
	log := cfg.NewLogger(os.Stderr)
	keyFile, stopServices, err := bring(ctx, c.out, &cfg, log)
	if err != nil {
		return err
	}
	defer stopServices()
	if err := c.place(ctx, cfg); err != nil {
		return err
	}
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer cancel()
	for _, n := range c.nodes {
		if err := n.start(); err != nil {
			c.stopAll()
			return err
		}
	}
	for _, n := range c.nodes {
		watchers.Go(func() { c.watch(ctx, n) })
	}
	b := balancer.New(c.places(), log)
	served := make(chan error, 1)
	go func() { served <- b.Serve(ctx, ln) }()
	if err := c.allUp(ctx, b); err != nil {
		cancel()
		if cmd.Context().Err() != nil { // asked to stop before it had started
			return <-served
		}
		return errors.Join(err, <-served)
	}
	if err := c.greet(cmd, cfg, "http://"+ln.Addr().String(), keyFile); err != nil {
		cancel()
		return errors.Join(err, <-served)
	}
	return <-served
}

// place gives every node its addresses and settings. Addresses stay the same when it is started again.
func (c *cluster) place(ctx context.Context, cfg app.Config) error {
	own := append(os.Environ(), c.given...)
	for i := range c.count {
		addrs, err := freeAddrs(ctx, 2)
		if err != nil {
			return err
		}
		env := append(own[:len(own):len(own)], "PARLEY_LISTEN="+addrs[0], "PARLEY_ADMIN_LISTEN="+addrs[1],
			"PARLEY_POSTGRES_URL="+cfg.Postgres.URL, "PARLEY_REDIS_URL="+cfg.Redis.URL, "PARLEY_ADMIN_KEY="+cfg.Auth.AdminKey,
			"PARLEY_SIGNING_KEY="+cfg.Auth.SigningKey, "PARLEY_DATA_DIR="+cfg.DataDir, "PARLEY_LOG_LEVEL="+cfg.LogLevel, "PARLEY_DRAIN_GRACE="+cfg.DrainGrace.String(),
			"PARLEY_WEBHOOK_KEY="+cfg.Webhook.Key, "PARLEY_WEBHOOK_ALLOW_CIDRS="+strings.Join(cfg.Webhook.AllowCIDRs, ","),
			fmt.Sprintf("PARLEY_WEBHOOK_ALLOW_HTTP=%t", cfg.Webhook.AllowHTTP), fmt.Sprintf("PARLEY_REFLECTION=%t", cfg.Reflection))
		c.nodes = append(c.nodes, &clusterNode{number: i + 1, addr: addrs[0], ops: addrs[1], env: env})
	}
	return nil
}

func (c *cluster) places() []balancer.Node {
	out := make([]balancer.Node, len(c.nodes))
	for i, n := range c.nodes {
		out[i] = balancer.Node{Addr: n.addr, Ready: "http://" + n.ops + "/readyz"}
	}
	return out
}

// start runs the node's program.
func (n *clusterNode) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "serve") //nolint:gosec,noctx // this very program; watch ends it
	cmd.Env = n.env
	cmd.Stderr = os.Stderr
	if n.program, err = dev.StartProgram(cmd); err != nil {
		return err
	}
	n.pid.Store(int64(n.program.PID()))
	return nil
}

// watch starts the node again whenever it has ended, and ends it with ctx. It owns the node's program from here on.
func (c *cluster) watch(ctx context.Context, n *clusterNode) {
	for {
		select {
		case <-ctx.Done():
			stopWithin(n.program.Stop)
			return
		case <-n.program.Exited():
		}
		if ctx.Err() != nil {
			return
		}
		if c.revive == 0 {
			fmt.Fprintf(c.out, "node %d (pid %d) ended (%v)\n", n.number, n.program.PID(), n.program.Err())
			return
		}
		fmt.Fprintf(c.out, "node %d (pid %d) ended (%v); it is started again in %s\n", n.number, n.program.PID(), n.program.Err(), c.revive)
		select {
		case <-ctx.Done():
			return
		case <-time.After(c.revive):
		}
		if err := n.start(); err != nil {
			fmt.Fprintf(c.out, "node %d cannot be started: %v\n", n.number, err)
			return
		}
		fmt.Fprintf(c.out, "node %d runs again, pid %d\n", n.number, n.program.PID())
	}
}

// stopAll ends the nodes that no watcher ends.
func (c *cluster) stopAll() {
	for _, n := range c.nodes {
		if n.program != nil {
			stopWithin(n.program.Stop)
		}
	}
}

// allUp returns when every node is ready.
func (c *cluster) allUp(ctx context.Context, b *balancer.Balancer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience, errors.New("not all nodes got ready; the log above says why"))
	defer cancel()
	for {
		states, changed := b.States()
		up := 0
		for _, s := range states {
			if s.Up {
				up++
			}
		}
		if up == len(states) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c *cluster) greet(cmd *cobra.Command, cfg app.Config, base, keyFile string) error {
	fmt.Fprintf(c.out, "\n%d nodes behind the balancer at %s:\n", len(c.nodes), base)
	for _, n := range c.nodes {
		fmt.Fprintf(c.out, "  node %d   pid %-8d http://%s   health, metrics http://%s/readyz /metrics\n", n.number, n.pid.Load(), n.addr, n.ops)
	}
	if c.revive > 0 {
		fmt.Fprintf(c.out, "Kill one (kill -9 PID) and go on chatting: its devices move to another, and after %s it is started again.\n", c.revive)
	} else {
		fmt.Fprintln(c.out, "Kill one (kill -9 PID) and go on chatting: its devices move to another.")
	}
	if cfg.TLSCert != "" || cfg.Auth.SigningKey == "" {
		fmt.Fprintf(c.out, "admin key in %s\n", keyFile)
		return nil
	}
	cmd.SetOut(c.out)
	return welcome(cmd.Context(), cmd, base, cfg.Auth.AdminKey, keyFile, c.nodes[0].ops)
}

// names lists the flags.
func names(f *pflag.FlagSet) map[string]bool {
	out := make(map[string]bool)
	f.VisitAll(func(flag *pflag.Flag) { out[flag.Name] = true })
	return out
}

// asEnv returns those of the flags that were set, as environment variables for a node.
func asEnv(f *pflag.FlagSet, settings map[string]bool) (env []string) {
	f.Visit(func(flag *pflag.Flag) {
		if !settings[flag.Name] {
			return
		}
		value := flag.Value.String()
		if list, ok := flag.Value.(pflag.SliceValue); ok {
			value = strings.Join(list.GetSlice(), ",")
		}
		env = append(env, "PARLEY_"+strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))+"="+value)
	})
	return env
}

// freeAddrs returns addresses of the loopback that nobody listens at now, all different.
func freeAddrs(ctx context.Context, n int) (out []string, err error) {
	var lc net.ListenConfig
	for range n {
		ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close() //nolint:errcheck // nobody connected
		out = append(out, ln.Addr().String())
	}
	return out, nil
}

// lockedWriter lets goroutines print whole lines.
type lockedWriter struct {
	mu sync.Mutex
	to io.Writer
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}
