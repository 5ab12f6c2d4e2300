package rpc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
)

func TestCORS(t *testing.T) {
	cfg := (&fakes{}).config(t)
	cfg.CORSOrigins = []string{"https://chat.example"}
	url := serve(t, cfg)
	preflight := func(origin string) http.Header {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, url+sendPath, nil)
		require.NoError(t, err)
		req.Header.Set("Origin", origin)
		req.Header.Set("Access-Control-Request-Method", "POST")
		req.Header.Set("Access-Control-Request-Headers", "authorization,connect-protocol-version,content-type")
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		res.Body.Close()
		return res.Header
	}
	require.Equal(t, "https://chat.example", preflight("https://chat.example").Get("Access-Control-Allow-Origin"))
	require.Contains(t, preflight("https://chat.example").Get("Access-Control-Allow-Headers"), "authorization")
	require.Empty(t, preflight("https://chat.example.evil").Get("Access-Control-Allow-Origin"))
	require.Empty(t, preflight("http://chat.example").Get("Access-Control-Allow-Origin"))
	require.Empty(t, preflight("null").Get("Access-Control-Allow-Origin"))
}

func TestOriginsAreExact(t *testing.T) {
	require.NoError(t, checkOrigins([]string{"https://chat.example", "http://localhost:5173"}))
	for _, o := range []string{"*", "https://*.example", "https://chat.example/", "chat.example", "null", "", "ftp://x",
		"https://u@chat.example", "https://chat.example?x"} {
		require.Error(t, checkOrigins([]string{o}), o)
	}
	cfg := (&fakes{}).config(t)
	cfg.CORSOrigins = []string{"*"}
	_, err := New(cfg)
	require.Error(t, err)
}

func TestHealthAndReflection(t *testing.T) {
	cfg := (&fakes{}).config(t)
	cfg.Health = grpchealth.NewStaticChecker("parley.v1.SyncService", "parley.v1.SinkService")
	url := serve(t, cfg)
	status, answer := post(t, url+"/grpc.health.v1.Health/Check", "application/json", `{}`)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, answer, "SERVING_STATUS_SERVING")
	status, answer = post(t, url+"/grpc.health.v1.Health/Check", "application/json", `{"service":"parley.v1.SyncService"}`)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, answer, "SERVING_STATUS_SERVING")
	status, answer = post(t, url+"/grpc.health.v1.Health/Check", "application/json", `{"service":"parley.v1.SinkService"}`)
	require.Equal(t, http.StatusNotFound, status, "a probe with a misspelt service must not be content")
	require.Contains(t, answer, "not_found")

	names := func(url string) ([]string, error) {
		client := grpcreflect.NewClient(h2c(t), url, connect.WithGRPC())
		stream := client.NewStream(t.Context())
		defer stream.Close()
		services, err := stream.ListServices()
		out := make([]string, len(services))
		for i, s := range services {
			out[i] = string(s)
		}
		return out, err
	}
	_, err := names(url)
	require.Error(t, err, "reflection is off")

	cfg = (&fakes{}).config(t)
	cfg.Reflection = true
	got, err := names(serve(t, cfg))
	require.NoError(t, err)
	require.Contains(t, got, "parley.v1.MessageService")
	require.Contains(t, got, "grpc.health.v1.Health")
}

func writeCertificate(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{name},
		NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cert.pem"),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "key.pem"),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
}

func TestCertificateReload(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	clock := clockwork.NewFakeClock()
	log := slog.New(slog.DiscardHandler)
	_, err := LoadCertificates(cert, key, clock, log)
	require.Error(t, err)

	writeCertificate(t, dir, "one.example")
	certs, err := LoadCertificates(cert, key, clock, log)
	require.NoError(t, err)
	h, err := New((&fakes{}).config(t))
	require.NoError(t, err)
	srv := NewHTTPServer(t.Context(), h, certs, log)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go srv.ServeTLS(listener, "", "") //nolint:errcheck // ends with Close
	t.Cleanup(func() { srv.Close() })

	handshake := func() (name, protocol string) {
		conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{ //nolint:gosec // a certificate of the test's own
			InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
		require.NoError(t, err)
		defer conn.Close()
		state := conn.ConnectionState()
		return state.PeerCertificates[0].DNSNames[0], state.NegotiatedProtocol
	}
	name, protocol := handshake()
	require.Equal(t, "one.example", name)
	require.Equal(t, "h2", protocol)

	writeCertificate(t, dir, "number-two.example")
	name, _ = handshake()
	require.Equal(t, "one.example", name, "looked at too early")
	clock.Advance(certificateCheck)
	name, _ = handshake()
	require.Equal(t, "number-two.example", name)

	require.NoError(t, os.WriteFile(key, []byte("broken"), 0o600))
	clock.Advance(certificateCheck)
	name, _ = handshake()
	require.Equal(t, "number-two.example", name, "the last good one stays")
}
