package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/parley-im/parley/server/e2e/rig"
)

// abuserAt has an address of its own, which the server does not take for a proxy's.
func abuserAt(n int) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(n))}} //nolint:gosec // small
}

// abuses are what one client can do to a server over HTTP, each again and again until its context ends.
var abuses = map[string]func(ctx context.Context, abuser *net.Dialer, addr, token string){
	"gzip bombs":         bombs,
	"rapid reset":        rapidReset,
	"continuation flood": continuationFlood,
	"slow preface":       slowPreface,
}

// While one address abuses HTTP as it can, another's sends go on: none fails, and in the long form their p99 is at most
// twice that of the same run's quiet phases, which lie between the others.
func TestHonestUsersUnderAbuse(t *testing.T) {
	s := rig.Start(t, "PARLEY_TRUSTED_PROXIES=127.0.0.1", "PARLEY_RATE_CALLS_IP=200/s:400", "PARLEY_MAX_CONNS_IP=100")
	honest := s.Client("alice", "a1")
	token := s.Token("mallory", "m1")
	id := honest.Group(t.Context())
	addr := strings.TrimPrefix(s.URL, "http://")
	phase := size(500*time.Millisecond, time.Second, 10*time.Second)
	// measure sends at a steady pace: what is judged is how long an answer takes, not how many fit. It returns also which part of
	// one processor the server took.
	measure := func() (took []time.Duration, load float64) {
		start, cpu := time.Now(), s.Metric("process_cpu_seconds_total")
		for end := time.Now().Add(phase); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			began := time.Now()
			honest.Send(t.Context(), id, "x")
			took = append(took, time.Since(began))
		}
		return took, (s.Metric("process_cpu_seconds_total") - cpu) / time.Since(start).Seconds()
	}
	measure() // warm
	var lines []string
	report(t, "A12b", "gzip bombs, rapid reset, CONTINUATION flood, slow prefaces from one address", "no honest send fails; p99 <= 2x quiet",
		func() string { return strings.Join(lines, "; ") })
	for name, abuse := range abuses {
		abuser := abuserAt(len(lines) + 1) // not one whose connections are refused for what was done before
		var quiet, abused []time.Duration
		var idle, busy float64
		rounds := size(1, 2, 5)
		for range rounds {
			took, load := measure()
			quiet, idle = append(quiet, took...), idle+load/float64(rounds)
			ctx, stop := context.WithCancel(t.Context())
			var all sync.WaitGroup
			all.Go(func() {
				for ctx.Err() == nil {
					abuse(ctx, abuser, addr, token)
					wait(ctx, 10*time.Millisecond) // it shares this machine's processors, as it would not elsewhere
				}
			})
			took, load = measure()
			abused, busy = append(abused, took...), busy+load/float64(rounds)
			stop()
			all.Wait()
		}
		before, meanwhile := quantile(quiet, 0.99), quantile(abused, 0.99)
		lines = append(lines, fmt.Sprintf("%s: p99 %s quiet, %s meanwhile; the server takes %.0f %% of a processor, %.0f %% meanwhile", name,
			before.Round(100*time.Microsecond), meanwhile.Round(100*time.Microsecond), 100*idle, 100*busy))
		t.Log(lines[len(lines)-1])
		if raceDetector == "off" {
			require.Less(t, busy-idle, 0.5, "%s: processors' time of the server", name)
		}
		if soaking() {
			require.LessOrEqual(t, meanwhile, 2*before, name)
		}
	}
	require.Positive(t, s.MetricWith("parley_connections_refused_total", `limit="abuse"`), "the abuser could always come back")
}

// A bomb costs the server at most 20 ms of processor time, whatever it would become: not when it is refused for its size, and
// not when it is one of many that are sent at once.
func TestBombsCostLittle(t *testing.T) {
	if raceDetector == "on" {
		t.Skip("the race detector costs more than bombs do")
	}
	s := rig.Start(t)
	token := s.Token("mallory", "m1")
	const count, most = 200, 20 * time.Millisecond
	require.Less(t, len(bomb()), 64<<10, "it is refused for what it becomes, not for what it is")
	send := func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/parley.v1.StateService/GetUnread", bytes.NewReader(bomb()))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Content-Encoding", "gzip")
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, res.Body)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusTooManyRequests, res.StatusCode)
	}
	send()
	before := s.Metric("process_cpu_seconds_total")
	for range count {
		send()
	}
	each := time.Duration((s.Metric("process_cpu_seconds_total") - before) / count * float64(time.Second))
	t.Logf("%s of processor time each", each)
	require.LessOrEqual(t, each, most)
}

var bomb = sync.OnceValue(func() []byte {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	_, _ = zip.Write(make([]byte, 60<<20))
	_ = zip.Close()
	return out.Bytes()
})

func bombs(ctx context.Context, abuser *net.Dialer, addr, token string) {
	tr := &http.Transport{DialContext: abuser.DialContext}
	defer tr.CloseIdleConnections()
	for range 20 {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/parley.v1.StateService/GetUnread", bytes.NewReader(bomb()))
		if err != nil {
			return
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Content-Encoding", "gzip")
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := tr.RoundTrip(req)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		wait(ctx, 2*time.Millisecond)
	}
}

// begin opens an HTTP/2 connection.
func begin(ctx context.Context, abuser *net.Dialer, addr string) (net.Conn, *http2.Framer) {
	conn, err := abuser.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	framer := http2.NewFramer(conn, conn)
	if _, err = io.WriteString(conn, http2.ClientPreface); err == nil {
		err = framer.WriteSettings()
	}
	if err != nil {
		_ = conn.Close()
		return nil, nil
	}
	go io.Copy(io.Discard, conn) //nolint:errcheck // until it is closed
	return conn, framer
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
func rapidReset(ctx context.Context, abuser *net.Dialer, addr, token string) {
	conn, framer := begin(ctx, abuser, addr)
	if conn == nil {
		return
	}
	defer conn.Close()
	block := headerBlock(token)
	for id := uint32(1); id < 20_000; id += 2 {
		if framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true}) != nil ||
			framer.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			return
		}
		if id%101 == 0 {
			wait(ctx, 5*time.Millisecond)
		}
	}
}

// continuationFlood is CVE-2023-45288.
func continuationFlood(ctx context.Context, abuser *net.Dialer, addr, token string) {
	conn, framer := begin(ctx, abuser, addr)
	if conn == nil {
		return
	}
	defer conn.Close()
	if framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headerBlock(token)}) != nil {
		return
	}
	var b bytes.Buffer
	_ = hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: "x-flood", Value: strings.Repeat("x", 8000), Sensitive: true})
	for range 1000 {
		if framer.WriteContinuation(1, false, b.Bytes()) != nil {
			return
		}
		wait(ctx, time.Millisecond)
	}
}

func slowPreface(ctx context.Context, abuser *net.Dialer, addr, _ string) {
	var open []net.Conn
	for i := range 200 { // more than an address may have
		conn, err := abuser.DialContext(ctx, "tcp", addr)
		if err != nil {
			break
		}
		_, _ = io.WriteString(conn, http2.ClientPreface[:i%len(http2.ClientPreface)])
		open = append(open, conn)
		wait(ctx, 2*time.Millisecond)
	}
	for _, conn := range open {
		_ = conn.Close()
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
