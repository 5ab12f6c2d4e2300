package balancer_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/dev/balancer"
	"github.com/parley-im/parley/server/dev/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const patience = time.Minute

// backend is a node that answers every request with its name, and says whether it is ready.
type backend struct {
	api, ops *httptest.Server
	ready    atomic.Bool
}

func newBackend(t *testing.T, name string) *backend {
	b := &backend{}
	b.ready.Store(true)
	b.api = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" { // until the connection breaks
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, name)
	}))
	b.ops = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !b.ready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(func() { b.api.CloseClientConnections(); b.api.Close(); b.ops.Close() })
	return b
}

func (b *backend) node() balancer.Node {
	return balancer.Node{Addr: strings.TrimPrefix(b.api.URL, "http://"), Ready: b.ops.URL}
}

// start runs a balancer and returns its address.
func start(t *testing.T, backends ...*backend) (*balancer.Balancer, string) {
	t.Helper()
	var nodes []balancer.Node
	for _, b := range backends {
		nodes = append(nodes, b.node())
	}
	b := balancer.New(nodes, nil)
	b.CheckWait = patience // a busy machine keeps good nodes from answering too
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return b, "http://" + ln.Addr().String()
}

// waitUp waits until exactly so many nodes are up.
func waitUp(t *testing.T, b *balancer.Balancer, want int) {
	t.Helper()
	deadline := time.After(patience)
	for {
		states, changed := b.States()
		up := 0
		for _, s := range states {
			if s.Up {
				up++
			}
		}
		if up == want {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%d nodes are up, not %d", up, want)
		}
	}
}

// get asks over a connection of its own.
func get(url string) (string, error) {
	tr := &http.Transport{DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr, Timeout: patience}).Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return string(body), err
}

func TestFewestConnectionsFirst(t *testing.T) {
	one, two := newBackend(t, "one"), newBackend(t, "two")
	b, url := start(t, one, two)
	waitUp(t, b, 2)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr}).Get(url + "/hold")
	require.NoError(t, err)
	defer res.Body.Close()
	for range 5 { // the first node has the held one
		name, err := get(url)
		require.NoError(t, err)
		require.Equal(t, "two", name)
		require.Eventually(t, func() bool {
			states, _ := b.States()
			return states[0].Conns == 1 && states[1].Conns == 0
		}, patience, time.Millisecond)
	}
}

func TestNodesThatAreNotReadyAreSkipped(t *testing.T) {
	one, two := newBackend(t, "one"), newBackend(t, "two")
	b, url := start(t, one, two)
	waitUp(t, b, 2)
	one.ready.Store(false)
	waitUp(t, b, 1)
	name, err := get(url)
	require.NoError(t, err)
	require.Equal(t, "two", name)
	two.ready.Store(false)
	waitUp(t, b, 0)
	_, err = get(url)
	require.Error(t, err, "with no node the connection is closed")
	one.ready.Store(true)
	waitUp(t, b, 1)
	name, err = get(url)
	require.NoError(t, err)
	require.Equal(t, "one", name)
}

// A node that says it is ready and takes no connection: the next one is tried at once, for the same connection.
func TestDeadNodeIsPassedOver(t *testing.T) {
	one, two := newBackend(t, "one"), newBackend(t, "two")
	b, url := start(t, one, two)
	waitUp(t, b, 2)
	one.api.Close()
	for range 5 {
		name, err := get(url)
		require.NoError(t, err)
		require.Equal(t, "two", name)
	}
}

// What breaks at the node breaks at the client, and the other way round.
func TestEndsAreToldOn(t *testing.T) {
	one := newBackend(t, "one")
	b, url := start(t, one)
	waitUp(t, b, 1)
	res, err := http.Get(url + "/hold") //nolint:noctx // ends below
	require.NoError(t, err)
	one.api.CloseClientConnections()
	_, err = io.ReadAll(res.Body)
	require.Error(t, err)
	require.NoError(t, res.Body.Close())
	require.Eventually(t, func() bool { states, _ := b.States(); return states[0].Conns == 0 }, patience, time.Millisecond)
}
