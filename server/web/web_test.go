package web_test

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/web"
)

func get(t *testing.T, h http.Handler, url string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, url, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func pages(t *testing.T, logins ...string) http.Handler {
	t.Helper()
	h, err := web.New(web.Config{Logins: logins})
	require.NoError(t, err)
	return h
}

// assets are the files that a page names.
var assets = regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`)

func TestEveryPageIsWholeAndLoadsOnlyItsOwnFiles(t *testing.T) {
	t.Parallel()
	h := pages(t)
	for _, url := range []string{"/", "/inspect", "/docs"} {
		res := get(t, h, url)
		require.Equal(t, http.StatusOK, res.Code, url)
		require.Equal(t, "text/html; charset=utf-8", res.Header().Get("Content-Type"))
		require.Equal(t, "no-cache", res.Header().Get("Cache-Control"))
		html := res.Body.String()
		require.NotRegexp(t, `(?i)https?://`, html, "%s names another server", url)
		require.NotRegexp(t, `(?i)<style|\sstyle=|\son[a-z]+=|<script>`, html, "%s has something inline", url)
		named := assets.FindAllStringSubmatch(html, -1)
		require.GreaterOrEqual(t, len(named), 2, "a script and a style")
		for _, m := range named {
			res := get(t, h, m[1])
			require.Equal(t, http.StatusOK, res.Code, m[1])
			require.Contains(t, res.Header().Get("Cache-Control"), "immutable")
			require.NotEmpty(t, res.Body.String())
		}
	}
}

func TestPagesAreStrictAboutWhatTheyRun(t *testing.T) {
	t.Parallel()
	h := pages(t)
	for _, url := range []string{"/", "/docs", "/openapi.json", "/nothing"} {
		head := get(t, h, url).Header()
		csp := head.Get("Content-Security-Policy")
		require.Contains(t, csp, "default-src 'none'")
		require.Contains(t, csp, "script-src 'self';")
		require.Contains(t, csp, "frame-ancestors 'none'")
		require.NotContains(t, csp, "unsafe")
		require.Equal(t, "nosniff", head.Get("X-Content-Type-Options"))
		require.Equal(t, "no-referrer", head.Get("Referrer-Policy"))
	}
}

func TestWhatTheBrowserHasIsNotSentAgain(t *testing.T) {
	t.Parallel()
	h := pages(t)
	plain := get(t, h, "/openapi.json")
	small := get(t, h, "/openapi.json", "Accept-Encoding", "br, gzip;q=0.5")
	require.NotEqual(t, plain.Header().Get("ETag"), small.Header().Get("ETag"), "they are not the same bytes")
	for _, tag := range []string{small.Header().Get("ETag"), `"other", W/` + small.Header().Get("ETag"), "*"} {
		res := get(t, h, "/openapi.json", "Accept-Encoding", "gzip", "If-None-Match", tag)
		require.Equal(t, http.StatusNotModified, res.Code, tag)
		require.Empty(t, res.Body.String())
		require.NotEmpty(t, res.Header().Get("ETag"))
	}
	require.Equal(t, http.StatusOK, get(t, h, "/openapi.json", "If-None-Match", `"other"`).Code)
}

func TestGzipForThoseWhoTakeIt(t *testing.T) {
	t.Parallel()
	h := pages(t)
	want := get(t, h, "/openapi.json").Body.String()
	res := get(t, h, "/openapi.json", "Accept-Encoding", "gzip, deflate")
	require.Equal(t, "gzip", res.Header().Get("Content-Encoding"))
	require.Equal(t, "Accept-Encoding", res.Header().Get("Vary"))
	zip, err := gzip.NewReader(res.Body)
	require.NoError(t, err)
	got, err := io.ReadAll(zip)
	require.NoError(t, err)
	require.Equal(t, want, string(got))
	for _, refused := range []string{"", "br", "gzip;q=0", "xgzip"} {
		require.Empty(t, get(t, h, "/openapi.json", "Accept-Encoding", refused).Header().Get("Content-Encoding"), refused)
	}
}

func TestHeadHasNoBody(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	pages(t).ServeHTTP(w, httptest.NewRequest(http.MethodHead, "/", nil))
	require.Equal(t, http.StatusOK, w.Code)
	require.NotEqual(t, "0", w.Header().Get("Content-Length"))
	require.Zero(t, w.Body.Len())
}

func TestTheDocumentOfTheAPI(t *testing.T) {
	t.Parallel()
	var doc struct {
		OpenAPI string         `json:"openapi"`
		Paths   map[string]any `json:"paths"`
	}
	require.NoError(t, json.Unmarshal(get(t, pages(t), "/openapi.json").Body.Bytes(), &doc))
	require.True(t, strings.HasPrefix(doc.OpenAPI, "3."), doc.OpenAPI)
	require.Contains(t, doc.Paths, "/v1/sessions")
}

func TestLoginsAreNamedOnlyWhereThereAreSome(t *testing.T) {
	t.Parallel()
	require.JSONEq(t, `{"logins":[]}`, get(t, pages(t), "/config.json").Body.String())
	require.JSONEq(t, `{"logins":["alice","bob"]}`, get(t, pages(t, "alice", "bob"), "/config.json").Body.String())
}

func TestNothingElseIsServed(t *testing.T) {
	t.Parallel()
	h := pages(t)
	for _, url := range []string{"/nothing", "/index.html", "/dist/index.html", "/assets/", "/assets", "/../web.go"} {
		require.Equal(t, http.StatusNotFound, get(t, h, url).Code, url)
	}
}
