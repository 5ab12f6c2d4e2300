package auth

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// createKeyIfNone makes a signing key at path if there is none: see LoadOrCreateSigner.
func createKeyIfNone(path string, now time.Time) error {
	info, err := os.Stat(path)
	isDir := err == nil && info.IsDir()
	switch {
	case err == nil && !isDir:
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err != nil && path != "" && os.IsPathSeparator(path[len(path)-1]):
		if err := os.MkdirAll(path, 0o700); err != nil {
			return err
		}
		isDir = true
	}
	if !isDir {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		return createKeyFile(path)
	}
	files, err := keyFiles(path)
	if err != nil || len(files) > 0 {
		return err
	}
	// The name sorts by time, so that a key that is added by the same rule later signs.
	return createKeyFile(filepath.Join(path, "parley-"+now.UTC().Format("20060102T150405Z")+".pem"))
}

// createKeyFile puts a new Ed25519 key at path, mode 0600, whole or not at all. If the file is there by now, it stays.
func createKeyFile(path string) (err error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	// The temporary name does not end in .pem, so that a directory's readers pass it by. Its mode is 0600.
	temporary, err := os.CreateTemp(filepath.Dir(path), ".parley-key-*.tmp")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(temporary.Name())) }()
	err = pem.Encode(temporary, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err == nil {
		err = temporary.Sync()
	}
	if err = errors.Join(err, temporary.Close()); err != nil {
		return err
	}
	// A link, unlike a rename, fails if another process was first: its key may sign tokens already.
	if err := os.Link(temporary.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("put the key in place: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a new name in the directory durable.
func syncDir(path string) error {
	dir, err := os.Open(path) //nolint:gosec // the path is the operator's.
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
