package rpc

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/wire"
)

// BenchmarkWrapped compares a call through the whole handler, in which REST is one more path beside those of the RPCs, with
// the same call through a handler that has no REST at all. Both run in turn within each round of the benchmark, so that
// what else the machine does falls on both; wrapped/bare is the median over rounds of the ratio.
func BenchmarkWrapped(b *testing.B) {
	f := &fakes{send: sent}
	cfg := f.config(b)
	whole, err := New(cfg)
	require.NoError(b, err)
	bare := withoutREST(b, cfg)
	body, err := proto.Marshal(&parleyv1.SendMessageRequest{
		Target:    &parleyv1.SendMessageRequest_SessionId{SessionId: uuid.NewString()},
		MessageId: uuid.NewString(), Content: textTo("bob", "hi").Content})
	require.NoError(b, err)
	framed := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body))), body...) //nolint:gosec // small
	for name, c := range map[string]struct {
		contentType string
		body        []byte
	}{"connect": {"application/proto", body}, "grpc": {"application/grpc+proto", framed}} {
		b.Run(name, func(b *testing.B) {
			call := func(h http.Handler) {
				r := httptest.NewRequest(http.MethodPost, sendPath, bytes.NewReader(c.body))
				r.ProtoMajor, r.ProtoMinor = 2, 0
				r.Header.Set("Content-Type", c.contentType)
				r.Header.Set("Authorization", "Bearer "+aliceToken)
				r.Header.Set("Te", "trailers")
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					b.Fatal(w.Code)
				}
			}
			const calls = 200
			round := func(h http.Handler) time.Duration {
				began := realNow()
				for range calls {
					call(h)
				}
				return realNow().Sub(began)
			}
			round(whole)
			round(bare)
			var ratios []float64
			for i := range b.N {
				var with, without time.Duration
				if i%2 == 0 {
					with, without = round(whole), round(bare)
				} else {
					without, with = round(bare), round(whole)
				}
				ratios = append(ratios, float64(with)/float64(without))
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "wrapped/bare")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// withoutREST is New but for REST, the stream of events and the pages.
func withoutREST(b *testing.B, cfg Config) http.Handler {
	b.Helper()
	rules, err := newValidation()
	require.NoError(b, err)
	g := &gate{table: declared, verifier: cfg.Verifier, key: cfg.APIKey, devices: cfg.Gate, timeout: cfg.UnaryTimeout}
	mux := http.NewServeMux()
	mux.Handle(parleyv1connect.NewMessageServiceHandler(cfg.Services.Message, connect.WithRequestGate(g.admit),
		marking(wire.Codecs()), transportOptions(), connect.WithInterceptors(cfg.interceptors(rules)...)))
	return &front{next: mux, obs: newObserver(cfg.Log, nil), timeout: cfg.UnaryTimeout}
}
