package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// abuse is something that one client can do to a server over HTTP.
type abuse struct {
	name string
	unit string // what is counted
	// refused is the label of the connections that the server refuses whoever goes on with it; empty if it does not.
	refused string
	// once does it over one connection, or over as many as it takes, until the server ends that, a bound that no server
	// should let it reach, or the context's end.
	once func(ctx context.Context, from *net.Dialer, addr, token string) tally
}

var (
	gzipBombs = abuse{"gzip bombs", "bombs", "abuse", bombs}
	resets    = abuse{"rapid reset", "calls", "abuse", rapidReset}
	floods    = abuse{"CONTINUATION flood", "frames", "", continuationFlood}
	slow      = abuse{"slow prefaces", "prefaces", "ip", slowPrefaces}
	abuses    = []abuse{gzipBombs, resets, floods, slow}
)

// tally is what came of an abuse, as its client sees it.
type tally struct {
	Connections int // opened, also those that the server closed as they came
	Units       int // what was handed to the kernel or, of bombs, answered
	Most        int // the most of them over one connection
	Kept        int // connections that the server had not ended after a minute, or when the abuser stopped
}

func (a *tally) add(b tally) {
	*a = tally{a.Connections + b.Connections, a.Units + b.Units, max(a.Most, b.Most), a.Kept + b.Kept}
}

// address is a dialer of an address of its own, which the server does not take for a proxy's.
func address(net3, n int) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(net3), byte(n))}} //nolint:gosec // small
}

// bomb is less than 64 KiB that would become 60 MiB: refused for what it becomes, not for what it is.
var bomb = sync.OnceValue(func() []byte {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	_, _ = zip.Write(make([]byte, 60<<20))
	_ = zip.Close()
	return out.Bytes()
})

func bombs(ctx context.Context, from *net.Dialer, addr, token string) (seen tally) {
	var conns []net.Conn
	tr := &http.Transport{MaxConnsPerHost: 1, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := from.DialContext(ctx, network, addr)
		if err == nil {
			conns = append(conns, conn)
		}
		return conn, err
	}}
	defer tr.CloseIdleConnections()
	defer func() { seen.Connections, seen.Most = len(conns), seen.Units }()
	for range 100 {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/parley.v1.StateService/GetUnread", bytes.NewReader(bomb()))
		if err != nil {
			return seen
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Content-Encoding", "gzip")
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := tr.RoundTrip(req)
		if err != nil {
			return seen
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		seen.Units++
	}
	seen.Kept = 1
	return seen
}

// speaker is an HTTP/2 connection that says what it likes, and hears nothing but its end.
type speaker struct {
	net.Conn
	*http2.Framer
	out   *bufio.Writer
	ended chan struct{} // closed when the server has ended it
	stop  func() bool
}

// begin opens an HTTP/2 connection; nil if there is none to be had.
func begin(ctx context.Context, from *net.Dialer, addr string) *speaker {
	conn, err := from.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil
	}
	s := &speaker{Conn: conn, out: bufio.NewWriterSize(conn, 16<<10), ended: make(chan struct{})}
	s.stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	s.Framer = http2.NewFramer(s.out, nil)
	_, _ = io.WriteString(s.out, http2.ClientPreface)
	_ = s.WriteSettings()
	go func() {
		defer close(s.ended)
		_, _ = io.Copy(io.Discard, conn)
	}()
	return s
}

// end waits until the server has ended the connection, or the context has, and closes it.
func (s *speaker) end(ctx context.Context, units int) tally {
	seen := tally{Connections: 1, Units: units, Most: units}
	_ = s.out.Flush()
	select {
	case <-s.ended:
	case <-ctx.Done():
		seen.Kept = 1
	case <-time.After(time.Minute):
		seen.Kept = 1
	}
	s.stop()
	_ = s.Close()
	<-s.ended
	return seen
}

func headerBlock(token string) []byte {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":authority", "x"}, {":path", "/parley.v1.StateService/GetUnread"},
		{"content-type", "application/json"}, {"authorization", "Bearer " + token}} {
		_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: true}) // without an index: each block is whole
	}
	return b.Bytes()
}

// rapidReset is CVE-2023-44487.
func rapidReset(ctx context.Context, from *net.Dialer, addr, token string) tally {
	s := begin(ctx, from, addr)
	if s == nil {
		return tally{}
	}
	block, calls := headerBlock(token), 0
	for id := uint32(1); id < 2_000_000; id += 2 {
		if s.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true}) != nil ||
			s.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			break
		}
		calls++
	}
	return s.end(ctx, calls)
}

// continuationFlood is CVE-2023-45288.
func continuationFlood(ctx context.Context, from *net.Dialer, addr, token string) tally {
	s := begin(ctx, from, addr)
	if s == nil {
		return tally{}
	}
	frames := 0
	if s.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headerBlock(token)}) == nil {
		var b bytes.Buffer
		_ = hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: "x-flood", Value: strings.Repeat("x", 8000), Sensitive: true})
		for frames < 100_000 && s.WriteContinuation(1, false, b.Bytes()) == nil {
			frames++
		}
	}
	return s.end(ctx, frames)
}

// slowPrefaces begins more connections than an address may have, and goes on with none of them.
func slowPrefaces(ctx context.Context, from *net.Dialer, addr, _ string) (seen tally) {
	var ended sync.WaitGroup
	var mu sync.Mutex
	for i := range 200 {
		conn, err := from.DialContext(ctx, "tcp", addr)
		if err != nil {
			continue // one too many may be closed as early as that
		}
		_, _ = io.WriteString(conn, http2.ClientPreface[:i%len(http2.ClientPreface)])
		seen.Connections, seen.Units, seen.Most = seen.Connections+1, seen.Units+1, 1
		ended.Go(func() {
			defer conn.Close()
			stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
			defer stop()
			_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := io.Copy(io.Discard, conn); err != nil {
				if ne, ok := err.(net.Error); ok && ne.Timeout() { //nolint:errorlint // as net returns it
					mu.Lock()
					seen.Kept++
					mu.Unlock()
				}
			}
		})
	}
	ended.Wait()
	return seen
}

// abuserVariable names the environment variable that makes this program an abuser: its value is an order.
const abuserVariable = "PARLEY_TEST_ABUSER"

// order is what an abuser does until its standard input ends. It says what came of it at its beginning and after each time.
type order struct {
	Name, Addr, Token string
	Net, Host         int // the last two bytes of its address
	Workers           int // how many do it at a time
}

// abuserMain is the main function of an abuser: a process of its own, so that it does not slow the clients down that are measured.
func abuserMain(text string) {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	_ = json.NewEncoder(os.Stdout).Encode(tally{})
	var all sync.WaitGroup
	var mu sync.Mutex
	var seen tally
	what := abuses[slices.IndexFunc(abuses, func(a abuse) bool { return a.name == o.Name })]
	for range o.Workers {
		all.Go(func() {
			for ctx.Err() == nil {
				one := what.once(ctx, address(o.Net, o.Host), o.Addr, o.Token)
				mu.Lock()
				seen.add(one)
				_ = json.NewEncoder(os.Stdout).Encode(seen)
				mu.Unlock()
				pause(ctx, betweenAbuses)
			}
		})
	}
	all.Wait()
}

// betweenAbuses is how long an abuser rests between two connections: it shares this machine's processors, as it would not
// elsewhere.
const betweenAbuses = 10 * time.Millisecond

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// abuser is an abuser at work.
type abuser struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.Closer
	ended chan struct{}
	mu    sync.Mutex
	last  tally // guarded by mu
	err   error // guarded by mu
}

// startAbuser returns when an abuser has begun to do what is ordered.
func startAbuser(t *testing.T, o order) *abuser {
	text, err := json.Marshal(o)
	require.NoError(t, err)
	run := []string{os.Args[0]}
	if soaking() { // it gives way to all others: elsewhere it would have processors of its own
		run = []string{"nice", "-n", "19", os.Args[0]}
	}
	a := &abuser{t: t, cmd: exec.CommandContext(t.Context(), run[0], run[1:]...), ended: make(chan struct{})} //nolint:gosec // this program
	a.cmd.Env = append(os.Environ(), abuserVariable+"="+string(text))
	a.cmd.Stderr = os.Stderr
	out, err := a.cmd.StdoutPipe()
	require.NoError(t, err)
	a.in, err = a.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, a.cmd.Start())
	says := json.NewDecoder(out)
	require.NoError(t, says.Decode(&a.last))
	go func() {
		defer close(a.ended)
		for {
			var seen tally
			err := says.Decode(&seen)
			a.mu.Lock()
			if err != nil {
				a.err = err
				a.mu.Unlock()
				return
			}
			a.last = seen
			a.mu.Unlock()
		}
	}()
	return a
}

// seen is what came of it so far, but for what is under way.
func (a *abuser) seen() tally {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.last
}

// stop ends it and returns what came of it.
func (a *abuser) stop() tally {
	require.NoError(a.t, a.in.Close())
	<-a.ended
	require.ErrorIs(a.t, a.err, io.EOF)
	require.NoError(a.t, a.cmd.Wait())
	return a.seen()
}
