package webhook

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
)

func TestAddressesThatWebhooksMayReach(t *testing.T) {
	denied := []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.255.0.1",
		"169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1",
		"198.19.255.255", "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1",
		"64:ff9b:1::1", "100::1", "2001::1", "2001:0:4136:e378::1", "2001:db8::1", "2002:7f00:1::1", "3fff::1", "5f00::1",
		"fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
	}
	for _, a := range denied {
		require.False(t, Addresses{}.permits(netip.MustParseAddr(a)), a)
	}
	for _, a := range []string{"1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "193.0.0.1",
		"223.255.255.255", "2606:4700::1111", "2a00:1450::1", "::ffff:8.8.8.8"} {
		require.True(t, Addresses{}.permits(netip.MustParseAddr(a)), a)
	}
	some, err := ParseAddresses([]string{"10.1.0.0/16", "fd00::/8"}, false)
	require.NoError(t, err)
	for a, want := range map[string]bool{"10.1.2.3": true, "::ffff:10.1.2.3": true, "10.2.0.1": false, "fd12::1": true, "127.0.0.1": false, "8.8.8.8": true} {
		require.Equal(t, want, some.permits(netip.MustParseAddr(a)), a)
	}
	for _, bad := range []string{"10.1.2.3/16", "10.1.2.3", "", "all", "::ffff:10.0.0.0/104"} {
		_, err := ParseAddresses([]string{bad}, false)
		require.Error(t, err, bad)
	}
}

func TestURLsOfWebhooks(t *testing.T) {
	for _, good := range []string{"https://hooks.example/", "https://hooks.example:8443/a?b=c", "https://8.8.8.8/"} {
		require.NoError(t, Addresses{}.checkURL(good), good)
	}
	for _, bad := range []string{"", "hooks.example", "/path", "http://hooks.example/", "https:///x", "https://:443/", "https://u@x/", "https://x/#f",
		"https://127.0.0.1/", "https://[::1]/", "https://[::ffff:10.0.0.1]/", "https://[fe80::1%25eth0]/", "gopher://x/", "https:x",
		"https://x/" + strings.Repeat("a", 2048), "https://x/\x7f"} {
		require.Error(t, Addresses{}.checkURL(bad), bad)
	}
	require.NoError(t, Addresses{AllowHTTP: true}.checkURL("http://hooks.example/"))
}

// hook is a webhook with a secret sealed by sealer.
func hook(t *testing.T, url string) (Webhook, *Sealer) {
	t.Helper()
	sealer, err := NewSealer(strings.Repeat("a7", KeyBytes))
	require.NoError(t, err)
	return Webhook{ID: uuid.New(), URL: url, Enabled: true, Timeout: time.Second, Secret: sealer.Seal(vectorSecret)}, sealer
}

// loopback lets a sender reach test servers.
func loopback(t *testing.T) Addresses {
	t.Helper()
	a, err := ParseAddresses([]string{"127.0.0.0/8", "::1/128"}, true)
	require.NoError(t, err)
	return a
}

// What a receiver answers, and where it sends on to, is not followed, and no more of it is read than wanted.
func TestSenderIsNotLedElsewhere(t *testing.T) {
	reached := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer elsewhere.Close()
	mux := http.NewServeMux()
	mux.Handle("/redirect", http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	mux.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, MaxAnswerBytes+1)) })
	mux.HandleFunc("/most", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, MaxAnswerBytes)) })
	mux.HandleFunc("/headers", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X", strings.Repeat("x", maxHeaderBytes*2))
	})
	mux.HandleFunc("/broken", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("/no", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	release := make(chan struct{})
	mux.HandleFunc("/slow", func(http.ResponseWriter, *http.Request) { <-release })
	srv := httptest.NewServer(mux)
	defer srv.Close()
	defer close(release)
	w, sealer := hook(t, "")
	s := NewSender(loopback(t), sealer, clockwork.NewRealClock(), "test")
	defer s.Close()
	tr, ok := s.client.Transport.(*http.Transport)
	require.True(t, ok)
	require.Nil(t, tr.Proxy, "a proxy would dial for us")
	for path, want := range map[string]string{"/redirect": ErrRedirect, "/big": ErrProtocol, "/most": "", "/broken": ErrConnect, "/no": ErrStatus, "/slow": ErrTimeout} {
		w.URL = srv.URL + path
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		if path != "/slow" {
			cancel()
			ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		}
		a, _ := s.Post(ctx, w, uuid.New(), []byte("{}"), true)
		cancel()
		require.Equal(t, want, a.Error, path)
	}
	w.URL = srv.URL + "/headers"
	a, _ := s.Post(t.Context(), w, uuid.New(), []byte("{}"), true)
	require.NotEmpty(t, a.Error)
	require.False(t, reached)

	w.URL = srv.URL + "/most"
	strict := NewSender(Addresses{AllowHTTP: true}, sealer, clockwork.NewRealClock(), "test")
	a, _ = strict.Post(t.Context(), w, uuid.New(), []byte("{}"), false)
	require.Equal(t, ErrDenied, a.Error)
	a, _ = NewSender(loopback(t), nil, clockwork.NewRealClock(), "test").Post(t.Context(), w, uuid.New(), nil, false)
	require.Equal(t, ErrSecret, a.Error)
	tlsServer := httptest.NewTLSServer(mux)
	defer tlsServer.Close()
	w.URL = tlsServer.URL
	a, _ = s.Post(t.Context(), w, uuid.New(), nil, false)
	require.Equal(t, ErrTLS, a.Error, "a certificate of nobody's")
}

func TestControlSeesOnlyTCP(t *testing.T) {
	a := loopback(t)
	require.NoError(t, a.control("tcp4", "127.0.0.1:80", nil))
	for network, address := range map[string]string{"udp4": "127.0.0.1:80", "unix": "/run/x", "tcp4": "localhost:80", "tcp6": "[fe80::1%lo]:80"} {
		require.ErrorIs(t, a.control(network, address, nil), errDenied)
	}
	require.Equal(t, ErrDNS, classify(&net.OpError{Err: &net.DNSError{}}))
	require.Equal(t, ErrProtocol, classify(errors.New("something else")))
}
