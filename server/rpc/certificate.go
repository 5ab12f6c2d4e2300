package rpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

// certificateCheck is how often, at most, the files are looked at.
const certificateCheck = 10 * time.Second

// Certificates serves a TLS certificate from two files and reads them again when they change, so that a renewed one needs
// no restart. There is no goroutine: a handshake looks, at most every 10 s. Safe for concurrent use.
type Certificates struct {
	certFile, keyFile string
	clock             clockwork.Clock
	log               *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	stamp   [2]fileStamp
	checked time.Time
}

type fileStamp struct {
	modified time.Time
	size     int64
}

// LoadCertificates reads the files, in PEM. It fails when they do not make a pair.
func LoadCertificates(certFile, keyFile string, clock clockwork.Clock, log *slog.Logger) (*Certificates, error) {
	c := &Certificates{certFile: certFile, keyFile: keyFile, clock: clock, log: log}
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

// Get implements tls.Config.GetCertificate. While the files cannot be read, the last good certificate stays.
func (c *Certificates) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.clock.Now(); now.Sub(c.checked) >= certificateCheck {
		c.checked = now
		if c.changed() {
			c.reload(hello.Context())
		}
	}
	return c.current, nil
}

// reload logs its outcome. The lock is held.
func (c *Certificates) reload(ctx context.Context) {
	if err := c.load(); err != nil {
		c.log.ErrorContext(ctx, "the new TLS certificate cannot be used, the old one stays", "error", err)
		return
	}
	c.log.InfoContext(ctx, "TLS certificate reloaded", "not_after", c.current.Leaf.NotAfter)
}

func (c *Certificates) load() error {
	stamp := c.stat()
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("load TLS certificate: %w", err)
	}
	c.current, c.stamp, c.checked = &pair, stamp, c.clock.Now()
	return nil
}

func (c *Certificates) changed() bool { return c.stat() != c.stamp }

func (c *Certificates) stat() (out [2]fileStamp) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			out[i] = fileStamp{info.ModTime(), info.Size()}
		}
	}
	return out
}
