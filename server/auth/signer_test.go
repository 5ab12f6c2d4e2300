package auth_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/refusal"
)

const day = 24 * time.Hour

// node is one process: a Signer and a Verifier that accepts its tokens.
type node struct {
	clock    *clockwork.FakeClock
	log      *bytes.Buffer
	signer   *auth.Signer
	verifier *auth.Verifier
}

func newNode(t *testing.T, path string, clock *clockwork.FakeClock) *node {
	t.Helper()
	n := &node{clock: clock, log: &bytes.Buffer{}}
	var err error
	n.signer, err = auth.LoadOrCreateSigner(path, auth.SignerConfig{
		Issuer: "parley", Audience: "parley", Clock: clock, Log: slog.New(slog.NewTextHandler(n.log, nil)),
	})
	require.NoError(t, err)
	n.verifier, err = auth.NewVerifier(auth.VerifierConfig{Clock: clock, Issuers: []auth.Issuer{n.signer.AsIssuer()}})
	require.NoError(t, err)
	return n
}

func (n *node) mint(t *testing.T) string {
	t.Helper()
	raw, _, err := n.signer.Mint("alice", "phone", 29*day)
	require.NoError(t, err)
	return raw
}

// keyID is the id of the key that signs now.
func (n *node) keyID(t *testing.T) string {
	t.Helper()
	return accepts(t, n.verifier, n.mint(t)).KeyID
}

func pemOf(t *testing.T, keys ...*forgeKey) []byte {
	t.Helper()
	var out []byte
	for _, key := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(key.ed)
		require.NoError(t, err)
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
	}
	return out
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, data, 0o600))
}

func TestMint(t *testing.T) {
	clock := clockwork.NewFakeClockAt(start.Add(700 * time.Millisecond))
	n := newNode(t, filepath.Join(t.TempDir(), "key.pem"), clock)
	raw, expiresAt, err := n.signer.Mint("älice", "d/1", 90*time.Second+time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, start.Add(90*time.Second), expiresAt)
	p := accepts(t, n.verifier, raw)
	require.Len(t, p.KeyID, 43)
	require.NotEmpty(t, p.TokenID)
	require.Equal(t, auth.Principal{
		UserID: "älice", DeviceID: "d/1", ExpiresAt: expiresAt, Issuer: "parley", KeyID: p.KeyID, TokenID: p.TokenID,
	}, unmarked(t, p))
	require.NotEqual(t, p.TokenID, accepts(t, n.verifier, n.mint(t)).TokenID)

	clock.Advance(90*time.Second + auth.Leeway)
	refuses(t, n.verifier, raw, refusal.TokenExpired, "has expired")
}

func TestMintRefuses(t *testing.T) {
	n := newNode(t, filepath.Join(t.TempDir(), "key.pem"), clockwork.NewFakeClockAt(start))
	for _, c := range []struct {
		field, user, device string
		ttl                 time.Duration
	}{
		{"user_id", "", "d", day},
		{"user_id", strings.Repeat("a", 65), "d", day},
		{"user_id", "a\x00", "d", day},
		{"user_id", "\xff", "d", day},
		{"device_id", "a", "", day},
		{"device_id", "a", "d\n", day},
		{"ttl", "a", "d", 0},
		{"ttl", "a", "d", time.Second - 1},
		{"ttl", "a", "d", -day},
		{"ttl", "a", "d", 30*day + 1},
	} {
		raw, _, err := n.signer.Mint(c.user, c.device, c.ttl)
		var refused *refusal.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, refusal.InvalidField, refused.Reason)
		require.Equal(t, c.field, refused.Meta["field"])
		require.Empty(t, raw)
	}
	for _, ttl := range []time.Duration{time.Second, 30 * day} {
		raw, _, err := n.signer.Mint(strings.Repeat("a", 64), "d", ttl)
		require.NoError(t, err)
		accepts(t, n.verifier, raw)
	}
}

// The published set is what others need to verify Parley's tokens, and nothing more.
func TestSignerPublicSet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	n := newNode(t, path, clockwork.NewFakeClockAt(start))
	document, err := n.signer.PublicSet()
	require.NoError(t, err)
	var set struct{ Keys []map[string]string }
	require.NoError(t, json.Unmarshal(document, &set))
	require.Len(t, set.Keys, 1)
	key := set.Keys[0]
	require.Equal(t, map[string]string{
		"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": n.keyID(t), "x": key["x"],
	}, key)

	file := filepath.Join(t.TempDir(), "jwks.json")
	writeFile(t, file, document)
	source, err := auth.NewFileSource(auth.FileSourceConfig{Path: file})
	require.NoError(t, err)
	verifier, err := auth.NewVerifier(auth.VerifierConfig{
		Clock: n.clock, Issuers: []auth.Issuer{{Name: "parley", Audience: "parley", Source: source}},
	})
	require.NoError(t, err)
	accepts(t, verifier, n.mint(t))
}

func TestSignerRotationInADirectory(t *testing.T) {
	dir, clock := t.TempDir(), clockwork.NewFakeClockAt(start)
	before, after := newEd25519(t, ""), newEd25519(t, "")
	writeFile(t, filepath.Join(dir, "2026-01.pem"), pemOf(t, before))
	writeFile(t, filepath.Join(dir, "README"), []byte("not a key"))
	one, two := newNode(t, dir, clock), newNode(t, dir, clock)
	old, oldID := one.mint(t), one.keyID(t)

	// The new key verifies everywhere at once: here by a third node that starts now and signs with it.
	writeFile(t, filepath.Join(dir, "2026-02.pem"), pemOf(t, after))
	three := newNode(t, dir, clock)
	fresh, freshID := three.mint(t), three.keyID(t)
	require.NotEqual(t, oldID, freshID)
	accepts(t, one.verifier, fresh)
	accepts(t, two.verifier, fresh)
	accepts(t, three.verifier, old)

	// Nodes that were running sign with it after a minute.
	clock.Advance(auth.SigningDelay - 1)
	require.Equal(t, oldID, one.keyID(t))
	clock.Advance(1)
	require.Equal(t, freshID, one.keyID(t))
	accepts(t, one.verifier, old)

	// The old key's tokens end with it.
	require.NoError(t, os.Remove(filepath.Join(dir, "2026-01.pem")))
	clock.Advance(time.Second)
	for _, n := range []*node{one, two, three} {
		refuses(t, n.verifier, old, refusal.TokenInvalid, "key is not one of its issuer's")
		accepts(t, n.verifier, fresh)
	}
}

// One file may hold several keys too; the last one signs. A key that replaces all others signs at once.
func TestSignerRotationInAFile(t *testing.T) {
	path, clock := filepath.Join(t.TempDir(), "keys.pem"), clockwork.NewFakeClockAt(start)
	a, b, c := newEd25519(t, ""), newEd25519(t, ""), newEd25519(t, "")
	writeFile(t, path, append([]byte("Comments are allowed.\n"), pemOf(t, a, b, a)...))
	n := newNode(t, path, clock)
	second := n.keyID(t)
	keys, err := n.signer.Keys()
	require.NoError(t, err)
	require.Equal(t, 2, keys.Len())

	writeFile(t, path, pemOf(t, b, a))
	clock.Advance(time.Second)
	first := n.keyID(t)
	require.NotEqual(t, second, first)

	writeFile(t, path, pemOf(t, c))
	clock.Advance(time.Second)
	third := n.keyID(t)
	require.NotContains(t, []string{first, second}, third)
}
