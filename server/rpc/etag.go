package rpc

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
)

// maxTagged is up to which size an answer gets an ETag, in bytes. It is held in memory until it is whole.
const maxTagged = 1 << 20

// conditional gives answers to GET an ETag, and leaves out those that the client has: If-None-Match with the tag of what
// would be sent gets 304 without a body. It spares the way, not the work: the answer is made either way, so that a 304 is
// always true. The tag is over the bytes as they are sent, and weak, since JSON may be spaced otherwise by another build.
type conditional struct {
	http.ResponseWriter
	held   []byte
	status int
	passed bool // written through, without a tag
}

// tagged runs a handler of GETs whose answers are whole and not streams.
func tagged(next http.Handler, w http.ResponseWriter, r *http.Request) {
	c := &conditional{ResponseWriter: w}
	next.ServeHTTP(c, r)
	c.finish(r.Header.Values("If-None-Match"))
}

func (c *conditional) WriteHeader(status int) {
	c.status = status
	if status != http.StatusOK {
		c.pass()
	}
}

func (c *conditional) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.status = http.StatusOK
	}
	if !c.passed && len(c.held)+len(p) > maxTagged {
		c.pass()
	}
	if c.passed {
		return c.ResponseWriter.Write(p)
	}
	c.held = append(c.held, p...)
	return len(p), nil
}

// Flush does nothing while the answer is held.
func (c *conditional) Flush() {
	if c.passed {
		_ = http.NewResponseController(c.ResponseWriter).Flush()
	}
}

func (c *conditional) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *conditional) pass() {
	c.passed = true
	c.ResponseWriter.WriteHeader(c.status)
	if len(c.held) > 0 {
		_, _ = c.ResponseWriter.Write(c.held) //nolint:gosec // the service's own JSON; a client that left is its own affair
		c.held = nil
	}
}

func (c *conditional) finish(known []string) {
	if c.passed || c.status == 0 {
		return
	}
	head := c.Header()
	sum := sha256.Sum256(c.held)
	tag := `W/"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	head.Set("ETag", tag)
	head.Set("Cache-Control", "private, no-cache")
	head.Add("Vary", "Authorization, Accept-Encoding")
	if !names(known, tag) {
		c.pass()
		return
	}
	for _, name := range []string{"Content-Type", "Content-Length", "Content-Encoding"} {
		head.Del(name)
	}
	c.ResponseWriter.WriteHeader(http.StatusNotModified)
}

// names reports whether an If-None-Match names a tag; "*" stands for any.
func names(known []string, tag string) bool {
	for one := range strings.SplitSeq(strings.Join(known, ","), ",") {
		if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == strings.TrimPrefix(tag, "W/") {
			return true
		}
	}
	return false
}
