package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/refusal"
)

// sending is one request, as the two ways get it.
type sending struct {
	body   []byte
	header http.Header
	send   func(context.Context) (*parleyv1.SendMessageResponse, error)
	gate   error
}

func plainBody(t testing.TB, change func(*parleyv1.SendMessageRequest)) []byte {
	m := plainMessage(uuid.Nil.String(), "01890a5d-ac96-774b-bcce-b302099a8057", "hi")
	if change != nil {
		change(m)
	}
	raw, err := proto.Marshal(m)
	require.NoError(t, err)
	return raw
}

func expressHeader(pairs ...string) http.Header {
	h := http.Header{"Content-Type": {"application/proto"}, "Authorization": {"Bearer " + aliceToken}, "Connect-Protocol-Version": {"1"}}
	for i := 0; i < len(pairs); i += 2 {
		if h.Del(pairs[i]); pairs[i+1] != "" {
			h.Set(pairs[i], pairs[i+1])
		}
	}
	return h
}

// Whatever is asked and answered, the short way and the long one (which a body in chunks takes) give the same status, header
// and body, and count the same call.
func TestShortWayAnswersLikeTheLongOne(t *testing.T) {
	ok := func(ctx context.Context) (*parleyv1.SendMessageResponse, error) {
		return &parleyv1.SendMessageResponse{SessionId: uuid.Nil.String(), Seq: 7, Epoch: PrincipalFrom(ctx).UserID,
			CreatedAt: &timestamppb.Timestamp{Seconds: 1}}, nil
	}
	fails := func(err error) func(context.Context) (*parleyv1.SendMessageResponse, error) {
		return func(context.Context) (*parleyv1.SendMessageResponse, error) { return nil, err }
	}
	plainly := plainBody(t, nil)
	twice := expressHeader()
	twice.Add("Authorization", "Bearer other")
	for name, s := range map[string]sending{
		"text":         {plainly, expressHeader(), ok, nil},
		"no version":   {plainly, expressHeader("Connect-Protocol-Version", ""), ok, nil},
		"other":        {plainly, expressHeader("Connect-Protocol-Version", "2"), ok, nil},
		"timeout":      {plainly, expressHeader("Connect-Timeout-Ms", "60000"), ok, nil},
		"bad timeout":  {plainly, expressHeader("Connect-Timeout-Ms", "-1"), ok, nil},
		"long timeout": {plainly, expressHeader("Connect-Timeout-Ms", "12345678901"), ok, nil},
		"no answer in time": {plainly, expressHeader("Connect-Timeout-Ms", "200"), func(ctx context.Context) (*parleyv1.SendMessageResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}, nil},
		"offers gzip":  {plainly, expressHeader("Accept-Encoding", "gzip"), ok, nil},
		"gzip":         {plainly, expressHeader("Content-Encoding", "gzip"), ok, nil},
		"json":         {[]byte("{}"), expressHeader("Content-Type", "application/json"), ok, nil},
		"refused":      {plainly, expressHeader(), fails(refusal.New(refusal.Muted, "You are muted.", "k", "v")), nil},
		"overloaded":   {plainly, expressHeader(), fails(refusal.New(refusal.Overloaded, "Later.", "retry_after_ms", "500")), nil},
		"broken":       {plainly, expressHeader(), fails(errors.New("private")), nil},
		"panic":        {plainly, expressHeader(), func(context.Context) (*parleyv1.SendMessageResponse, error) { panic("private") }, nil},
		"stranger":     {plainly, expressHeader("Authorization", ""), ok, nil},
		"bad token":    {plainly, expressHeader("Authorization", "Bearer x"), ok, nil},
		"two tokens":   {plainly, twice, ok, nil},
		"revoked":      {plainly, expressHeader(), ok, refusal.New(refusal.DeviceRevoked, "Revoked.")},
		"no protobuf":  {[]byte("private"), expressHeader(), ok, nil},
		"the mark":     {undecodableMark, expressHeader(), ok, nil},
		"breaks rules": {plainBody(t, func(m *parleyv1.SendMessageRequest) { m.MessageId = "x" }), expressHeader(), ok, nil},
		"direct": {plainBody(t, func(m *parleyv1.SendMessageRequest) {
			m.Target = &parleyv1.SendMessageRequest_PeerUserId{PeerUserId: "bob"}
		}), expressHeader(), ok, nil},
		"new field": {append(bytes.Clone(plainly), 0xf8, 0x07, 1), expressHeader(), ok, nil},
		"too large": {plainBody(t, func(m *parleyv1.SendMessageRequest) {
			m.GetContent().GetText().Body = strings.Repeat("x", MaxRequestBytes)
		}), expressHeader(), ok, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakes{send: func(ctx context.Context, _ *parleyv1.SendMessageRequest) (*parleyv1.SendMessageResponse, error) {
				return s.send(ctx)
			}, gate: func(string, string) error { return s.gate }}
			cfg := f.config(t)
			reg := prometheus.NewRegistry()
			cfg.Metrics = reg
			url := serve(t, cfg)
			short := s.ask(t, url, bytes.NewReader(s.body))
			require.NotContains(t, short.body, "private")
			counted := callsCounted(t, reg)
			require.Equal(t, short, s.ask(t, url, struct{ io.Reader }{bytes.NewReader(s.body)})) // its length is not known
			for labels, n := range callsCounted(t, reg) {
				require.InDelta(t, 2*counted[labels], n, 0, labels)
			}
		})
	}
}

// reply is what a client sees.
type reply struct {
	status int
	header http.Header
	body   string
}

func (s sending) ask(t *testing.T, url string, body io.Reader) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+sendPath, body)
	require.NoError(t, err)
	req.Header = s.header.Clone()
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NotEmpty(t, res.Header.Get(RequestIDHeader))
	res.Header.Del(RequestIDHeader)
	res.Header.Del("Date")
	return reply{res.StatusCode, res.Header, string(raw)}
}

// callsCounted are the calls that ended, by their labels.
func callsCounted(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "parley_calls_total" {
			for _, m := range f.GetMetric() {
				out[m.String()[:strings.Index(m.String(), "counter")]] = m.GetCounter().GetValue()
			}
		}
	}
	return out
}

// What is plain goes the short way; what is not goes the long one, with the body that it came with.
func TestWhatGoesTheShortWay(t *testing.T) {
	plainly := plainBody(t, nil)
	direct := plainBody(t, func(m *parleyv1.SendMessageRequest) {
		m.Target = &parleyv1.SendMessageRequest_PeerUserId{PeerUserId: "bob"}
	})
	for name, c := range map[string]struct {
		body   []byte
		header http.Header
		short  bool
	}{
		"text": {plainly, expressHeader(), true}, "no version": {plainly, expressHeader("Connect-Protocol-Version", ""), true},
		"timeout": {plainly, expressHeader("Connect-Timeout-Ms", "100000"), true}, "offers gzip": {plainly, expressHeader("Accept-Encoding", "gzip, br"), true},
		"direct": {direct, expressHeader(), false}, "no protobuf": {[]byte("x"), expressHeader(), false}, "nothing": {nil, expressHeader(), false},
		"json": {plainly, expressHeader("Content-Type", "application/json"), false}, "grpc": {plainly, expressHeader("Content-Type", "application/grpc"), false},
		"gzip": {plainly, expressHeader("Content-Encoding", "gzip"), false}, "version 2": {plainly, expressHeader("Connect-Protocol-Version", "2"), false},
		"stranger": {plainly, expressHeader("Authorization", ""), false}, "no time": {plainly, expressHeader("Connect-Timeout-Ms", "0"), false},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakes{send: sent}
			cfg := f.config(t)
			g := &gate{table: declared, verifier: cfg.Verifier, key: cfg.APIKey, devices: cfg.Gate, timeout: cfg.UnaryTimeout}
			long := false
			var passed []byte
			var failed error
			e := newExpress(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				long = true
				passed, failed = io.ReadAll(r.Body)
			}), g, cfg.Services.Message, &answer{deadlines: Deadlines(cfg.UnaryTimeout)})
			req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, sendPath, bytes.NewReader(c.body))
			req.Header = c.header
			rec := httptest.NewRecorder()
			e.ServeHTTP(rec, req)
			require.Equal(t, !c.short, long)
			require.NoError(t, failed)
			if long {
				require.Equal(t, string(c.body), string(passed))
			}
			require.Equal(t, http.StatusOK, rec.Code)
		})
	}
}

// A body that breaks off, or comes too slowly, is told of by the long way.
func TestShortWayPassesABrokenBodyOn(t *testing.T) {
	body := plainBody(t, nil)
	broke := errors.New("broke off")
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, sendPath, io.MultiReader(bytes.NewReader(body[:5]), failing{broke}))
	r.ContentLength = int64(len(body))
	require.False(t, readPlain(r, new([]byte), new(parleyv1.SendMessageRequest)))
	got, err := io.ReadAll(r.Body)
	require.ErrorIs(t, err, broke)
	require.Equal(t, string(body[:5]), string(got))
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
