package auth

import (
	"log/slog"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

// held is the last good set of a source, and how reading it went. It is safe for concurrent use.
type held struct {
	clock clockwork.Clock
	log   *slog.Logger

	mu     sync.Mutex
	set    *KeySet   // nil before the first success
	goodAt time.Time // of the last success
	failed bool      // whether the latest attempt failed
	said   string    // the failure that was logged last, so that a lasting one is not logged again and again
}

// keep takes what an attempt to read the source gave: a set, or the error that kept it from one.
func (h *held) keep(set *KeySet, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed = err != nil; h.failed {
		if h.said != err.Error() {
			h.said = err.Error()
			h.log.Warn("verification keys could not be read", "error", err, "last_good", h.goodAt)
		}
		return
	}
	if h.set == nil || h.set.digest != set.digest {
		h.log.Info("verification keys taken over", "keys", set.Len())
	} else if h.said != "" {
		h.log.Info("verification keys can be read again", "keys", set.Len())
	}
	h.set, h.goodAt, h.said = set, h.clock.Now(), ""
}

// current returns the last good set while it may be gone by.
func (h *held) current() (*KeySet, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.set == nil || h.clock.Since(h.goodAt) > KeepKeys {
		return nil, ErrKeysUnavailable
	}
	return h.set, nil
}

// looked is current after an attempt: it fails if that attempt failed.
func (h *held) looked() (*KeySet, error) {
	set, err := h.current()
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed {
		return nil, ErrKeysUnavailable
	}
	return set, nil
}
