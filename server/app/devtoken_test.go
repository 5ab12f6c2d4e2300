package app

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/device"
)

// anyDevice lets every device in.
type anyDevice struct{ device.Store }

func (anyDevice) Register(_ context.Context, _, _ string, _ time.Time, admit func(device.Standing) (device.Device, error)) (device.Device, error) {
	return admit(device.Standing{})
}

type namingMinter struct{}

func (namingMinter) Mint(userID, deviceID string, _ time.Duration) (string, time.Time, error) {
	return userID + "/" + deviceID, time.Time{}, nil
}

func TestDevTokensAreForPagesOnThisMachineOnly(t *testing.T) {
	t.Parallel()
	devices := device.NewService(anyDevice{}, nil, nil, clockwork.NewFakeClock())
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	h := &devTokens{tokens: device.NewTokens(devices, namingMinter{}), next: next}
	const good = `{"userId":"alice","deviceId":"web-1"}`
	for name, c := range map[string]struct {
		change func(*http.Request)
		body   string
		want   int
	}{
		"a page of this server":        {body: good, want: http.StatusOK},
		"no page":                      {body: good, change: func(r *http.Request) { r.Header.Del("Origin") }, want: http.StatusOK},
		"IPv6":                         {body: good, change: func(r *http.Request) { r.RemoteAddr, r.Host = "[::1]:5", "localhost:8080"; r.Header.Del("Origin") }, want: http.StatusOK},
		"a page of another origin":     {body: good, change: func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, want: http.StatusForbidden},
		"another port of this machine": {body: good, change: func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:9") }, want: http.StatusForbidden},
		"no origin at all":             {body: good, change: func(r *http.Request) { r.Header.Set("Origin", "null") }, want: http.StatusForbidden},
		"a name that leads here":       {body: good, change: func(r *http.Request) { r.Host = "evil.example"; r.Header.Set("Origin", "http://evil.example") }, want: http.StatusForbidden},
		"another machine":              {body: good, change: func(r *http.Request) { r.RemoteAddr = "192.0.2.1:5" }, want: http.StatusForbidden},
		"what a page may send unasked": {body: good, change: func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, want: http.StatusUnsupportedMediaType},
		"GET, as of a picture":         {body: good, change: func(r *http.Request) { r.Method = http.MethodGet }, want: http.StatusMethodNotAllowed},
		"no JSON":                      {body: `{`, want: http.StatusBadRequest},
		"no device":                    {body: `{"userId":"alice"}`, want: http.StatusBadRequest},
		"a name that is none":          {body: `{"userId":"a b","deviceId":"d"}`, want: http.StatusBadRequest},
		"more than a request may be":   {body: `{"userId":"` + strings.Repeat("a", 2000) + `"}`, want: http.StatusBadRequest},
		"another path":                 {body: good, change: func(r *http.Request) { r.URL.Path = "/dev/tokens" }, want: http.StatusTeapot},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodPost, devTokenPath, strings.NewReader(c.body))
			r.Host, r.RemoteAddr = "127.0.0.1:8080", "127.0.0.1:50000"
			r.Header.Set("Origin", "http://127.0.0.1:8080")
			r.Header.Set("Content-Type", "application/json")
			if c.change != nil {
				c.change(r)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			require.Equal(t, c.want, w.Code, w.Body)
			if c.want == http.StatusOK {
				require.JSONEq(t, `{"token":"alice/web-1"}`, w.Body.String())
				require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			}
		})
	}
}
