package rpc

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/auth"
)

// published is a KeyPublisher with a fixed document, or none for a while.
type published string

func (p published) PublicSet() ([]byte, error) {
	if p == "" {
		return nil, auth.ErrKeysUnavailable
	}
	return []byte(p), nil
}

func TestPublicKeys(t *testing.T) {
	for name, c := range map[string]struct {
		from   KeyPublisher
		status int
		body   string
		kind   string
	}{
		"keys":                {published(`{"keys":[]}`), http.StatusOK, `{"keys":[]}`, "application/jwk-set+json"},
		"keys cannot be had":  {published(""), http.StatusServiceUnavailable, `"code":14`, "application/json"},
		"no keys of Parley's": {nil, http.StatusNotFound, "nothing at this path", "application/json"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := (&fakes{}).config(t)
			cfg.PublicKeys = c.from
			url := serve(t, cfg) + "/.well-known/jwks.json"
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
			require.NoError(t, err)
			res, err := http.DefaultClient.Do(req)
			require.NoError(t, err)
			require.NoError(t, res.Body.Close())
			require.Equal(t, c.kind, res.Header.Get("Content-Type"))
			status, body := do(t, http.MethodGet, url, "", "")
			require.Equal(t, c.status, status)
			require.Contains(t, body, c.body)
			status, _ = do(t, http.MethodPost, url, "application/json", "{}")
			require.NotEqual(t, http.StatusOK, status)
		})
	}
}
