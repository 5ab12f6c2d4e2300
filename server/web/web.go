// Package web serves the pages that are built into the program: the chat page at /, the inspector at /inspect, the
// reference of the REST API at /docs, and /openapi.json. Their sources are in clients/web; `make web` builds them into
// dist, which is committed, so that building the server needs Go alone.
//
// Everything is kept in memory, compressed once, and never changes while the program runs. The pages hold no secrets: who
// uses them brings a token.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/parley-im/parley/gen/openapi"
)

//go:embed dist
var built embed.FS

// How long answers may be kept. Assets have a hash of what they hold in their names; everything else is asked for again,
// which costs a 304.
const (
	forEver  = "public, max-age=31536000, immutable"
	askAgain = "no-cache"
)

// minGzipBytes is the size below which compressing saves nothing.
const minGzipBytes = 512

// policy lets pages load their own files and call their own server, and nothing else: no inline script or style, no eval,
// no other origin, no frames.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
	"require-trusted-types-for 'script'; trusted-types 'none'"

// Config is what the pages are told.
type Config struct {
	// Logins are users that a development server signs in without a token, through /dev/token. Empty in production.
	Logins []string
}

// file is one answer, ready to be sent.
type file struct {
	kind, cache  string
	plain, small []byte // small is gzip, nil where that is not worth it
	tag          string // without quotes
}

type handler map[string]file

// New returns the handler of all pages, for GET and HEAD. It fails when what is built in is not whole.
func New(cfg Config) (http.Handler, error) {
	h := make(handler)
	err := fs.WalkDir(built, "dist", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := built.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		return h.add(urlOf(name), mime.TypeByExtension(path.Ext(name)), body)
	})
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	if _, ok := h["/"]; !ok {
		return nil, errors.New("web: there is no index.html in dist: run make web")
	}
	settings, err := json.Marshal(struct {
		Logins []string `json:"logins"`
	}{append([]string{}, cfg.Logins...)})
	if err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	if err := h.add("/config.json", "application/json", settings); err != nil {
		return nil, err
	}
	return h, h.add("/openapi.json", "application/json", openapi.JSON)
}

// urlOf is where a file of dist is served: index.html at /, inspect.html at /inspect, assets below their own name.
func urlOf(name string) string {
	name = strings.TrimPrefix(name, "dist")
	if page, ok := strings.CutSuffix(name, ".html"); ok {
		return strings.TrimSuffix(page, "index")
	}
	return name
}

func (h handler) add(url, kind string, body []byte) error {
	sum := sha256.Sum256(body)
	f := file{kind: kind, cache: askAgain, plain: body, tag: base64.RawURLEncoding.EncodeToString(sum[:12])}
	if strings.HasPrefix(url, "/assets/") {
		f.cache = forEver
	}
	if len(body) >= minGzipBytes {
		var out bytes.Buffer
		zip, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
		if err != nil {
			return fmt.Errorf("web: %w", err)
		}
		if _, err := zip.Write(body); err != nil {
			return fmt.Errorf("web: compress %s: %w", url, err)
		}
		if err := zip.Close(); err != nil {
			return fmt.Errorf("web: compress %s: %w", url, err)
		}
		f.small = out.Bytes()
	}
	h[url] = f
	return nil
}

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Content-Security-Policy", policy)
	head.Set("Referrer-Policy", "no-referrer")
	head.Set("Cross-Origin-Opener-Policy", "same-origin")
	head.Set("Cross-Origin-Resource-Policy", "same-origin")
	head.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	f, ok := h[r.URL.Path]
	if !ok {
		head.Set("Cache-Control", "no-store")
		http.Error(w, "There is nothing at this path.", http.StatusNotFound)
		return
	}
	f.serve(w, r)
}

func (f file) serve(w http.ResponseWriter, r *http.Request) {
	head, body, tag := w.Header(), f.plain, `"`+f.tag+`"`
	head.Set("Content-Type", f.kind)
	head.Set("Cache-Control", f.cache)
	if f.small != nil {
		head.Set("Vary", "Accept-Encoding")
		if takesGzip(r.Header.Values("Accept-Encoding")) {
			body, tag = f.small, `"`+f.tag+`-gzip"`
			head.Set("Content-Encoding", "gzip")
		}
	}
	head.Set("ETag", tag)
	if matches(r.Header.Values("If-None-Match"), tag) {
		head.Del("Content-Type")
		head.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	head.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that left is its own affair
	}
}

// takesGzip tells whether an Accept-Encoding names gzip with a weight above 0.
func takesGzip(values []string) bool {
	for part := range strings.SplitSeq(strings.Join(values, ","), ",") {
		coding, weight, weighted := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			continue
		}
		if !weighted {
			return true
		}
		q, err := strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(weight), "q="), 64)
		return err == nil && q > 0
	}
	return false
}

// matches tells whether an If-None-Match names the tag. Proxies that compress anew make tags weak.
func matches(values []string, tag string) bool {
	for part := range strings.SplitSeq(strings.Join(values, ","), ",") {
		if part = strings.TrimSpace(part); part == "*" || strings.TrimPrefix(part, "W/") == tag {
			return true
		}
	}
	return false
}
