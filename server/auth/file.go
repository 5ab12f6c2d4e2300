package auth

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/jonboulle/clockwork"
)

// FileSourceConfig says where a FileSource reads.
type FileSourceConfig struct {
	// Path of the JWKS document. Required. It may be a symbolic link, as in Kubernetes volumes.
	Path string
	// Clock; nil means the real one.
	Clock clockwork.Clock
	// Log gets failures and changes; nil means none. No key material is logged.
	Log *slog.Logger
}

// FileSource is a JWKS file. A change counts for tokens within a second, and at once for a token whose kid is new.
// Replace the file by renaming: a half-written one is refused, and the last good set stays.
type FileSource struct {
	polled
	path string
	last [sha256.Size]byte // of the document that set was parsed from; guarded by polled.loading
	set  *KeySet           // guarded by polled.loading
}

// NewFileSource reads the file. It fails if that cannot be done or the file has no usable key.
func NewFileSource(cfg FileSourceConfig) (*FileSource, error) {
	s := &FileSource{path: cfg.Path}
	s.clock, s.log = orReal(cfg.Clock), orSilent(cfg.Log)
	s.polled.load = s.load
	if err := s.start(); err != nil {
		return nil, fmt.Errorf("key set file %s: %w", cfg.Path, err)
	}
	if s.set.Len() == 0 {
		return nil, fmt.Errorf("key set file %s: no Ed25519 or P-256 key for signatures in it", cfg.Path)
	}
	return s, nil
}

func (s *FileSource) load() (*KeySet, error) {
	document, err := readBounded(s.path, MaxKeySetBytes)
	if err != nil {
		return nil, err
	}
	if digest := sha256.Sum256(document); s.set == nil || digest != s.last {
		set, err := ParseKeySet(document)
		if err != nil {
			return nil, err
		}
		s.last, s.set = digest, set
	}
	return s.set, nil
}

// readBounded reads a file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the path is the operator's.
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written.
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, errors.New("the file is too large")
	}
	return data, nil
}

func orReal(clock clockwork.Clock) clockwork.Clock {
	if clock == nil {
		return clockwork.NewRealClock()
	}
	return clock
}

func orSilent(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
