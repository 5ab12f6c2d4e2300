package auth

import (
	"crypto/sha256"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// DefaultCacheSize is the number of verified tokens that a Verifier keeps unless told otherwise, each about 500 bytes.
const DefaultCacheSize = 10_000

// tokenDigest is the SHA-256 of a token. The cache holds no token that could be stolen from a memory dump, and equal
// digests of different tokens do not occur.
type tokenDigest [sha256.Size]byte

// verified is what is known of a token whose signature and claims were good.
type verified struct {
	principal Principal
	issuer    *Issuer
	keys      [sha256.Size]byte // digest of the set that verified it
	from      time.Time         // first instant at which it holds
	until     time.Time         // first instant at which it no longer holds, leeway included
}

// cache keeps verified tokens. A nil cache keeps none.
type cache struct {
	entries *lru.Cache[tokenDigest, *verified]
}

// newCache makes a cache of at most size tokens, or none if size is not positive.
func newCache(size int) (*cache, error) {
	if size <= 0 {
		return nil, nil //nolint:nilnil // a nil cache is a valid one.
	}
	entries, err := lru.New[tokenDigest, *verified](size)
	if err != nil {
		return nil, err
	}
	return &cache{entries: entries}, nil
}

// get returns the token's entry if it still holds at now with the issuer's current keys. An entry that does not is
// dropped: the full check then finds the reason.
func (c *cache) get(digest tokenDigest, now time.Time) (*verified, bool) {
	if c == nil {
		return nil, false
	}
	entry, ok := c.entries.Get(digest)
	if !ok {
		return nil, false
	}
	keys, err := entry.issuer.Source.Keys()
	if err != nil || keys.digest != entry.keys || now.Before(entry.from) || !now.Before(entry.until) {
		c.entries.Remove(digest)
		return nil, false
	}
	return entry, true
}

func (c *cache) put(digest tokenDigest, entry *verified) {
	if c != nil {
		c.entries.Add(digest, entry)
	}
}
