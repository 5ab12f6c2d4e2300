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

// abuser has an address of its own, which the server does not take for a proxy's.
var abuser = &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}

// abuses are what one client can do to a server over HTTP, each again and again until its context ends.
var abuses = map[string]func(ctx context.Context, addr, token string){
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
	// measure sends at a steady pace: what is judged is how long an answer takes, not how many fit.
	measure := func() (took []time.Duration) {
		for end := time.Now().Add(phase); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			began := time.Now()
			honest.Send(t.Context(), id, "x")
			took = append(took, time.Since(began))
		}
		return took
	}
	measure() // warm
	var lines []string
	report(t, "A12b", "gzip bombs, rapid reset, CONTINUATION flood, slow prefaces from one address", "no honest send fails; p99 <= 2x quiet",
		func() string { return strings.Join(lines, "; ") })
	for name, abuse := range abuses {
		var quiet, abused []time.Duration
		for range size(1, 2, 5) {
			quiet = append(quiet, measure()...)
			ctx, stop := context.WithCancel(t.Context())
			var all sync.WaitGroup
			all.Go(func() {
				for ctx.Err() == nil {
					abuse(ctx, addr, token)
					wait(ctx, 10*time.Millisecond) // it shares this machine's processors, as it would not elsewhere
				}
			})
			abused = append(abused, measure()...)
			stop()
			all.Wait()
		}
		before, meanwhile := quantile(quiet, 0.99), quantile(abused, 0.99)
		lines = append(lines, fmt.Sprintf("%s: p99 %s quiet, %s meanwhile", name, before.Round(100*time.Microsecond), meanwhile.Round(100*time.Microsecond)))
		t.Log(lines[len(lines)-1])
		if soaking() {
			require.LessOrEqual(t, meanwhile, 2*before, name)
		}
	}
	require.Positive(t, s.Metric("parley_rate_refused_total"), "the abuser was never refused")
}

var bomb = sync.OnceValue(func() []byte {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	_, _ = zip.Write(make([]byte, 60<<20))
	_ = zip.Close()
	return out.Bytes()
})

func bombs(ctx context.Context, addr, token string) {
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
func begin(ctx context.Context, addr string) (net.Conn, *http2.Framer) {
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
func rapidReset(ctx context.Context, addr, token string) {
	conn, framer := begin(ctx, addr)
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
func continuationFlood(ctx context.Context, addr, token string) {
	conn, framer := begin(ctx, addr)
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

func slowPreface(ctx context.Context, addr, _ string) {
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
