package auth

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
)

const (
	// maxKeyFileBytes bounds a PEM file, 64 KiB.
	maxKeyFileBytes = 64 << 10
	// maxSigningKeys bounds the keys of a Signer over all files.
	maxSigningKeys = 64
)

// signingKey is one private key.
type signingKey struct {
	id      string // RFC 7638 thumbprint, so that every node gives the key the same name
	private ed25519.PrivateKey
	public  jwk.Key
	since   time.Time // when the process first saw it; zero if that was at its start
}

// keyring is the private keys in their order: the last one is to sign. It is immutable once read.
type keyring struct {
	keys    []signingKey // one at least
	public  []byte       // the JWKS document with the public halves
	exposed []string     // files that other users can read or write
}

// readKeyring reads the PEM file or the directory's *.pem files. Errors name files and hold no key material.
func readKeyring(path string) (*keyring, error) {
	files, err := keyFiles(path)
	if err != nil {
		return nil, err
	}
	ring := &keyring{}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return nil, err
		}
		if info.Mode().Perm()&0o007 != 0 {
			ring.exposed = append(ring.exposed, file)
		}
		data, err := readBounded(file, maxKeyFileBytes)
		if err != nil {
			return nil, err
		}
		if err := ring.addPEM(data); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	if len(ring.keys) == 0 {
		return nil, fmt.Errorf("%s: no signing key there", path)
	}
	ring.public, err = ring.publicSet()
	return ring, err
}

// keyFiles lists the files to read, in the order of their names.
func keyFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return []string{path}, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, entry := range entries { // os.ReadDir sorts by name.
		if !entry.IsDir() && filepath.Ext(entry.Name()) == ".pem" {
			files = append(files, filepath.Join(path, entry.Name()))
		}
	}
	return files, nil
}

// addPEM adds all keys of a PEM document. A key that is there already keeps its place.
func (r *keyring) addPEM(data []byte) error {
	found := false
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "PRIVATE KEY" {
			return errors.New("only unencrypted PKCS#8 keys (PRIVATE KEY) can be read")
		}
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		private, ok := parsed.(ed25519.PrivateKey)
		if err != nil || !ok {
			return errors.New("a private key in it is not Ed25519")
		}
		if err := r.add(private); err != nil {
			return err
		}
		found = true
	}
	if !found {
		return errors.New("no PEM block in it")
	}
	return nil
}

func (r *keyring) add(private ed25519.PrivateKey) error {
	public, err := jwk.Import(private.Public())
	if err != nil {
		return errors.New("a key cannot be used")
	}
	id, err := thumbprint(public)
	if err != nil {
		return err
	}
	key := signingKey{id: id, private: private, public: public}
	for i := range r.keys {
		if r.keys[i].id == key.id {
			return nil
		}
	}
	if len(r.keys) == maxSigningKeys {
		return fmt.Errorf("there are more than %d keys", maxSigningKeys)
	}
	err = errors.Join(
		public.Set(jwk.KeyIDKey, key.id),
		public.Set(jwk.AlgorithmKey, jwa.EdDSA()),
		public.Set(jwk.KeyUsageKey, jwk.ForSignature),
	)
	r.keys = append(r.keys, key)
	return err
}

// inherit takes over from the previous ring since when keys are known; those it did not have are known since now.
func (r *keyring) inherit(before *keyring, now time.Time) {
	for i := range r.keys {
		r.keys[i].since = now
		for j := range before.keys {
			if before.keys[j].id == r.keys[i].id {
				r.keys[i].since = before.keys[j].since
			}
		}
	}
}

// signing returns the key that signs at now: the last one that has been known for SigningDelay, or the last one if
// none has.
func (r *keyring) signing(now time.Time) signingKey {
	for i := len(r.keys) - 1; i >= 0; i-- {
		if r.keys[i].since.IsZero() || now.Sub(r.keys[i].since) >= SigningDelay {
			return r.keys[i]
		}
	}
	return r.keys[len(r.keys)-1]
}

// publicSet is the JWKS document with the public halves.
func (r *keyring) publicSet() ([]byte, error) {
	set := jwk.NewSet()
	for i := range r.keys {
		if err := set.AddKey(r.keys[i].public); err != nil {
			return nil, fmt.Errorf("make key set: %w", err)
		}
	}
	return json.Marshal(set)
}
