package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// statements counts what is executed over connections to PostgreSQL: it stands between the server and the database and
// reads the wire protocol, so that it needs no extension and misses nothing.
type statements struct {
	network, addr string
	ln            net.Listener
	wg            sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
	n     map[string]int // by the query's name, or by its first words
}

// countStatements returns a counter and the URL of the same database through it.
func countStatements(t testing.TB, url string) (*statements, string) {
	cfg, err := pgconn.ParseConfig(url)
	require.NoError(t, err)
	c := &statements{n: map[string]int{}}
	c.network, c.addr = pgconn.NetworkAddress(cfg.Host, cfg.Port)
	c.ln, err = net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	require.NoError(t, err)
	c.wg.Go(c.accept)
	t.Cleanup(c.close)
	return c, "postgres://" + cfg.User + ":" + cfg.Password + "@" + c.ln.Addr().String() + "/" + cfg.Database + "?sslmode=disable"
}

func (c *statements) accept() {
	for {
		client, err := c.ln.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial(c.network, c.addr) //nolint:noctx // a test's proxy
		if err != nil {
			_ = client.Close()
			continue
		}
		c.mu.Lock()
		c.conns = append(c.conns, client, server)
		c.mu.Unlock()
		c.wg.Go(func() { c.forward(server, client); _ = server.Close() })
		c.wg.Go(func() { _, _ = io.Copy(client, server); _ = client.Close() })
	}
}

func (c *statements) close() {
	_ = c.ln.Close()
	c.mu.Lock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
}

// forward passes a client's messages on and counts: a Bind runs a prepared statement, a Query runs its text.
func (c *statements) forward(server io.Writer, client io.Reader) {
	in, out := bufio.NewReaderSize(client, 64<<10), bufio.NewWriterSize(server, 64<<10)
	names := map[string]string{} // of prepared statements
	feeds := false               // in a transaction of the feed's
	for first := true; ; first = false {
		head := make([]byte, 5)
		if first { // the start-up message has no type
			head = head[:4]
		}
		if _, err := io.ReadFull(in, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[len(head)-4:])-4)
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		if !first {
			c.count(head[0], body, names, &feeds)
		}
		_, _ = out.Write(head)
		_, _ = out.Write(body)
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
	}
}

func (c *statements) count(kind byte, body []byte, names map[string]string, feeds *bool) {
	word := func() string {
		w, rest, _ := bytes.Cut(body, []byte{0})
		body = rest
		return string(w)
	}
	var name string
	switch kind {
	case 'P':
		id := word()
		names[id] = queryName(word())
		return
	case 'B':
		_ = word()
		name = names[word()]
	case 'Q':
		name = queryName(word())
	default:
		return
	}
	switch {
	case strings.HasPrefix(name, "begin isolation level repeatable read"): // only the feed's are
		*feeds = true
		return
	case *feeds && name == "commit":
		*feeds = false
		return
	}
	c.mu.Lock()
	c.n[name]++
	c.mu.Unlock()
}

func queryName(sql string) string {
	if rest, ok := strings.CutPrefix(sql, "-- name: "); ok {
		name, _, _ := strings.Cut(rest, " ")
		return name
	}
	return sql[:min(len(sql), 40)]
}

// take returns the counts since the last call, without what the node asks by itself each second whoever comes, or when its job
// queue starts or elects a leader, or a connection is opened.
func (c *statements) take() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.n
	c.n = map[string]int{}
	maps.DeleteFunc(out, func(name string, _ int) bool {
		return strings.HasPrefix(name, "Feed") || strings.HasPrefix(name, "CommitLog") || strings.HasPrefix(name, "WebhookReader") ||
			strings.HasPrefix(name, "WebhookTrim") || strings.HasPrefix(name, "Leader") || name == "show transaction_read_only" || strings.HasPrefix(name, `LISTEN "river`) ||
			strings.HasPrefix(name, "-- ping") || name == ";"
	})
	return out
}

// trips counts commands to Redis and the round trips that they took.
type trips struct {
	mu sync.Mutex
	n  tripCount
}

type tripCount struct {
	commands, round, failed int
	names                   []string // of the commands
}

func (c *trips) add(err error, cmds ...redis.Cmder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n.commands += len(cmds)
	for _, cmd := range cmds {
		c.n.names = append(c.n.names, cmd.Name())
	}
	c.n.round++
	if err != nil {
		c.n.failed++
	}
}

func (c *trips) take() tripCount {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.n
	c.n = tripCount{}
	return n
}

func (c *trips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		switch cmd.Name() {
		case "hello", "client": // a new connection, of which there may be one at any time: idle ones are given back
		case "set", "ping": // the keeper's own probe
		default:
			c.add(err, cmd)
		}
		return err
	}
}

func (c *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		switch cmds[0].Name() {
		case "hello", "client": // a new connection
		case "set", "spublish": // the node's own probes, every second or two
		default:
			c.add(err, cmds...)
		}
		return err
	}
}
