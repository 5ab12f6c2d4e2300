package auth_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/refusal"
)

// fileBench is a Verifier over a key set file.
type fileBench struct {
	path     string
	clock    *clockwork.FakeClock
	log      *bytes.Buffer
	source   *auth.FileSource
	verifier *auth.Verifier
	claims   members
}

func newFileBench(t *testing.T, document []byte) *fileBench {
	t.Helper()
	b := &fileBench{
		path: filepath.Join(t.TempDir(), "jwks.json"), clock: clockwork.NewFakeClockAt(start), log: &bytes.Buffer{},
		claims: goodClaims(issuerOne).with("iat", start.Unix(), "exp", start.Add(29*24*time.Hour).Unix()),
	}
	b.write(t, document)
	var err error
	b.source, err = auth.NewFileSource(auth.FileSourceConfig{
		Path: b.path, Clock: b.clock, Log: slog.New(slog.NewTextHandler(b.log, nil)),
	})
	require.NoError(t, err)
	b.verifier, err = auth.NewVerifier(auth.VerifierConfig{
		Clock: b.clock, Issuers: []auth.Issuer{{Name: issuerOne, Audience: "parley", Source: b.source}},
	})
	require.NoError(t, err)
	return b
}

// write replaces the file as an operator should: by renaming.
func (b *fileBench) write(t *testing.T, document []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(b.path+".new", document, 0o600))
	require.NoError(t, os.Rename(b.path+".new", b.path))
}

func TestFileSourceRotation(t *testing.T) {
	before, after := newEd25519(t, "k1"), newES256(t, "k2")
	b := newFileBench(t, jwks(t, before))
	old, fresh := before.token(t, b.claims), after.token(t, b.claims)
	accepts(t, b.verifier, old)
	refuses(t, b.verifier, fresh, refusal.TokenInvalid, "key is not one of its issuer's")

	b.write(t, jwks(t, before, after))
	b.clock.Advance(100 * time.Millisecond)
	accepts(t, b.verifier, fresh) // A new kid counts at once.
	accepts(t, b.verifier, old)

	b.write(t, jwks(t, after))
	b.clock.Advance(900*time.Millisecond - 1) // A key that is gone counts for a second at most, cached tokens included.
	accepts(t, b.verifier, old)
	b.clock.Advance(1)
	refuses(t, b.verifier, old, refusal.TokenInvalid, "key is not one of its issuer's")
	accepts(t, b.verifier, fresh)
	require.Contains(t, b.log.String(), "verification keys taken over")
}

// The size and the time of modification may stay the same; the content decides.
func TestFileSourceSeesAChangeThatStatDoesNot(t *testing.T) {
	before, after := newEd25519(t, "k1"), newEd25519(t, "k1")
	b := newFileBench(t, jwks(t, before))
	accepts(t, b.verifier, before.token(t, b.claims))
	info, err := os.Stat(b.path)
	require.NoError(t, err)

	require.NoError(t, os.WriteFile(b.path, jwks(t, after), 0o600))
	require.NoError(t, os.Chtimes(b.path, info.ModTime(), info.ModTime()))
	b.clock.Advance(time.Second)
	accepts(t, b.verifier, after.token(t, b.claims))
	refuses(t, b.verifier, before.token(t, b.claims), refusal.TokenInvalid, "signature")
}

// Kubernetes replaces a directory of secrets by pointing a symbolic link elsewhere.
func TestFileSourceFollowsALink(t *testing.T) {
	before, after := newEd25519(t, "k1"), newEd25519(t, "k2")
	b := newFileBench(t, jwks(t, before))
	target := filepath.Join(t.TempDir(), "other.json")
	require.NoError(t, os.WriteFile(target, jwks(t, after), 0o600))
	require.NoError(t, os.Remove(b.path))
	require.NoError(t, os.Symlink(target, b.path))
	accepts(t, b.verifier, after.token(t, b.claims))
}

func TestFileSourceKeepsTheLastGoodSet(t *testing.T) {
	key := newEd25519(t, "k1")
	b := newFileBench(t, jwks(t, key))
	good, stranger := key.token(t, b.claims), newEd25519(t, "k2").token(t, b.claims)
	accepts(t, b.verifier, good)
	for name, damage := range map[string]func(){
		"half written": func() { b.write(t, jwks(t, key)[:40]) },
		"empty":        func() { b.write(t, nil) },
		"too large":    func() { b.write(t, bytes.Repeat([]byte(" "), auth.MaxKeySetBytes+1)) },
		"a directory":  func() { require.NoError(t, os.Remove(b.path)); require.NoError(t, os.Mkdir(b.path, 0o700)) },
		"gone":         func() { require.NoError(t, os.Remove(b.path)) },
	} {
		damage()
		b.clock.Advance(2 * time.Second)
		accepts(t, b.verifier, good)
		// The unknown key may be in what cannot be read.
		refuses(t, b.verifier, stranger, refusal.Unavailable, "cannot be had")
		require.Contains(t, b.log.String(), "verification keys could not be read", name)
		if name == "a directory" {
			require.NoError(t, os.Remove(b.path))
		}
		b.write(t, jwks(t, key))
		b.clock.Advance(2 * time.Second)
		refuses(t, b.verifier, stranger, refusal.TokenInvalid, "key is not one of its issuer's")
		b.log.Reset()
	}
	accepts(t, b.verifier, good)
}

func TestFileSourceKeepsTheLastGoodSetForADay(t *testing.T) {
	key := newEd25519(t, "k1")
	b := newFileBench(t, jwks(t, key))
	good := key.token(t, b.claims)
	require.NoError(t, os.Remove(b.path))
	b.clock.Advance(auth.KeepKeys)
	accepts(t, b.verifier, good)
	b.clock.Advance(1)
	refuses(t, b.verifier, good, refusal.Unavailable, "cannot be had")
	require.Equal(t, 1, bytes.Count(b.log.Bytes(), []byte("could not be read")), "a lasting failure is logged once")

	b.write(t, jwks(t, key))
	b.clock.Advance(time.Second)
	accepts(t, b.verifier, good)
	require.Contains(t, b.log.String(), "can be read again")
}

// An issuer may withdraw all its keys. That is a set like any other, not a failure.
func TestFileSourceWithdrawnKeys(t *testing.T) {
	key := newEd25519(t, "k1")
	b := newFileBench(t, jwks(t, key))
	good := key.token(t, b.claims)
	accepts(t, b.verifier, good)
	b.write(t, jwks(t))
	b.clock.Advance(time.Second)
	refuses(t, b.verifier, good, refusal.TokenInvalid, "key is not one of its issuer's")
}

func TestNewFileSourceRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, data, 0o600))
		return path
	}
	key := newEd25519(t, "k1")
	for name, path := range map[string]string{
		"missing": filepath.Join(dir, "missing.json"), "a directory": dir, "no path": "",
		"no set": write("broken", []byte("{}")), "no usable key": write("empty", jwks(t)),
		"private": write("private", encode(t, members{"keys": []members{key.jwk.with("d", b64(key.ed.Seed()))}})),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := auth.NewFileSource(auth.FileSourceConfig{Path: path})
			require.Error(t, err)
		})
	}
}
