package auth_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
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

func TestSignerCreatesItsKey(t *testing.T) {
	clock := clockwork.NewFakeClockAt(start)
	for name, c := range map[string]struct {
		path, file string
		dir        bool // whether the path is there as an empty directory
	}{
		"file":           {path: "key.pem", file: "key.pem"},
		"file below":     {path: "a/b/key", file: "a/b/key"},
		"new directory":  {path: "keys/", file: "keys/parley-20260301T120000Z.pem"},
		"empty dir":      {path: "empty", file: "empty/parley-20260301T120000Z.pem", dir: true},
		"empty dir with": {path: "empty/", file: "empty/parley-20260301T120000Z.pem", dir: true},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			path := root + "/" + c.path
			if c.dir {
				require.NoError(t, os.Mkdir(path, 0o700))
			}
			first := newNode(t, path, clock)
			info, err := os.Stat(filepath.Join(root, c.file))
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
			entries, err := os.ReadDir(filepath.Dir(filepath.Join(root, c.file)))
			require.NoError(t, err)
			require.Len(t, entries, 1, "nothing temporary is left")
			if parent := filepath.Dir(filepath.Join(root, c.file)); parent != root {
				info, err := os.Stat(parent)
				require.NoError(t, err)
				require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
			}
			second := newNode(t, path, clock) // A restart goes on with the same key.
			require.Equal(t, first.keyID(t), second.keyID(t))
			accepts(t, second.verifier, first.mint(t))
			require.NotContains(t, first.log.String(), "accessible to other users")
		})
	}
}

// Processes that start together must not have different keys: tokens of one would be refused by the other.
func TestSignerCreatedByManyAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "key.pem")
	ids := make(chan string)
	for range 8 {
		go func() {
			signer, err := auth.LoadOrCreateSigner(path, auth.SignerConfig{Issuer: "parley", Audience: "parley"})
			if err != nil {
				ids <- err.Error()
				return
			}
			keys, err := signer.Keys()
			if err != nil {
				ids <- err.Error()
				return
			}
			ids <- keys.KeyIDs()[0]
		}()
	}
	first := <-ids
	require.Len(t, first, 43)
	for range 7 {
		require.Equal(t, first, <-ids)
	}
}

func TestSignerKeepsItsKeysWhenTheyCannotBeRead(t *testing.T) {
	path, clock := filepath.Join(t.TempDir(), "keys.pem"), clockwork.NewFakeClockAt(start)
	n := newNode(t, path, clock)
	good := n.mint(t)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, damage := range []func() error{
		func() error { return os.WriteFile(path, data[:30], 0o600) },
		func() error { return os.Remove(path) },
	} {
		require.NoError(t, damage())
		clock.Advance(time.Second)
		accepts(t, n.verifier, good)
		accepts(t, n.verifier, n.mint(t))
	}
	require.Contains(t, n.log.String(), "could not be read")
	clock.Advance(auth.KeepKeys)
	_, _, err = n.signer.Mint("alice", "phone", day)
	require.ErrorIs(t, err, refusal.New(refusal.Unavailable, ""))
	_, err = n.signer.PublicSet()
	require.ErrorIs(t, err, auth.ErrKeysUnavailable)
	refuses(t, n.verifier, good, refusal.Unavailable, "cannot be had")

	writeFile(t, path, data)
	clock.Advance(time.Second)
	accepts(t, n.verifier, good)
	accepts(t, n.verifier, n.mint(t))
}

func TestLoadSignerRefuses(t *testing.T) {
	key, ec := newEd25519(t, ""), newES256(t, "")
	ecDER, err := x509.MarshalPKIXPublicKey(ec.pub)
	require.NoError(t, err)
	block := func(kind string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	good := pemOf(t, key)
	der, _ := pem.Decode(good)
	many := make([]*forgeKey, 65)
	for i := range many {
		many[i] = newEd25519(t, "")
	}
	for name, data := range map[string][]byte{
		"empty": nil, "no PEM": []byte("hello"), "cut off": good[:len(good)/2],
		"public key":  block("PUBLIC KEY", ecDER),
		"encrypted":   block("ENCRYPTED PRIVATE KEY", der.Bytes),
		"EC":          block("EC PRIVATE KEY", der.Bytes),
		"broken":      block("PRIVATE KEY", der.Bytes[:20]),
		"seed alone":  block("PRIVATE KEY", key.ed.Seed()),
		"one is good": append(bytes.Clone(good), block("CERTIFICATE", der.Bytes)...),
		"too many":    pemOf(t, many...),
		"too large":   append(bytes.Clone(good), bytes.Repeat([]byte("\n"), 64<<10)...),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key.pem")
			writeFile(t, path, data)
			_, err := auth.LoadOrCreateSigner(path, auth.SignerConfig{Issuer: "parley", Audience: "parley"})
			require.Error(t, err)
			require.NotContains(t, err.Error(), b64(key.ed.Seed()))
			kept, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, len(data), len(kept), "what is there is never overwritten") //nolint:testifylint // keys are not to be printed.
		})
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	for name, cfg := range map[string]auth.SignerConfig{
		"no issuer": {Audience: "a"}, "no audience": {Issuer: "i"}, "negative lifetime": {Issuer: "i", Audience: "a", MaxTTL: -1},
	} {
		_, err := auth.LoadOrCreateSigner(path, cfg)
		require.Error(t, err, name)
		require.NoFileExists(t, path)
	}
	writeFile(t, path, good)
	_, err = auth.LoadOrCreateSigner(path+"/below/key.pem", auth.SignerConfig{Issuer: "i", Audience: "a"})
	require.Error(t, err)
	_, err = auth.LoadOrCreateSigner("", auth.SignerConfig{Issuer: "i", Audience: "a"})
	require.Error(t, err)
}

// A Signer ends up in logs of whole configurations. Its keys must not.
func TestSignerDoesNotPrintItsKeys(t *testing.T) {
	path, key := filepath.Join(t.TempDir(), "key.pem"), newEd25519(t, "")
	require.NoError(t, os.WriteFile(path, pemOf(t, key), 0o644))
	n := newNode(t, path, clockwork.NewFakeClockAt(start))
	require.Contains(t, n.log.String(), "accessible to other users")
	n.mint(t)
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	logger.Info("configuration", "signer", n.signer, "issuer", n.signer.AsIssuer())
	slog.New(slog.NewJSONHandler(&log, nil)).Info("configuration", "signer", n.signer, "issuer", n.signer.AsIssuer())
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		fmt.Fprintf(&log, format+format, n.signer, n.signer.AsIssuer())
	}
	log.Write(n.log.Bytes())
	for _, secret := range [][]byte{key.ed.Seed(), key.ed} {
		for _, form := range []string{b64(secret), fmt.Sprint(secret), hex.EncodeToString(secret), fmt.Sprintf("%#v", ed25519.PrivateKey(secret))} {
			require.NotContains(t, log.String(), strings.Trim(form, "[]"), "a key was printed")
		}
	}
}
