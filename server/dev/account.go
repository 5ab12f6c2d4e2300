package dev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the system user that a server runs as. The zero value is the user of this process.
type account struct {
	name     string
	uid, gid uint32
	other    bool // differs from the user of this process, which is root then
}

// postgresAccount returns who runs PostgreSQL on dir. PostgreSQL refuses to run as root, so root lends it to the owner
// of dir if dir exists and is not root's own, else to the user postgres, else to nobody. Anybody else runs it as they are.
func postgresAccount(dir string) (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	if info, err := os.Stat(dir); err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 {
			return account{name: strconv.Itoa(int(st.Uid)), uid: st.Uid, gid: st.Gid, other: true}, nil
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			continue
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			continue
		}
		return account{name: name, uid: uint32(uid), gid: uint32(gid), other: true}, nil
	}
	return account{}, errors.New("PostgreSQL does not run as root and this system has neither a user postgres nor " +
		"nobody: run as an ordinary user, or set PARLEY_POSTGRES_URL to a PostgreSQL that runs already")
}

// credential is what a child needs to run as a, nil for the user of this process.
func (a account) credential() *syscall.Credential {
	if !a.other {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid}
}

// own makes path belong to a.
func (a account) own(path string) error {
	if !a.other {
		return nil
	}
	return os.Chown(path, int(a.uid), int(a.gid))
}

// ownAll makes dir and all in it belong to a.
func (a account) ownAll(dir string) error {
	if !a.other {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // opened for looking names up only
	return fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return root.Lchown(path, int(a.uid), int(a.gid))
	})
}

// canEnter tells whether a may pass through dir and all directories above it, going by owner, group and mode. It
// returns the first one, from the root on, that it may not pass. dir is absolute, exists and holds no symbolic links.
func (a account) canEnter(dir string) (blocked string, err error) {
	if !a.other {
		return "", nil
	}
	var path []string // dir and all above it, the root last
	for d := dir; ; d = filepath.Dir(d) {
		path = append(path, d)
		if d == filepath.Dir(d) {
			break
		}
	}
	for i := len(path) - 1; i >= 0; i-- {
		info, err := os.Stat(path[i])
		if err != nil {
			return "", err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return "", fmt.Errorf("no owner known for %s", path[i])
		}
		bit := fs.FileMode(0o001)
		switch {
		case st.Uid == a.uid:
			bit = 0o100
		case st.Gid == a.gid:
			bit = 0o010
		}
		if info.Mode().Perm()&bit == 0 {
			return path[i], nil
		}
	}
	return "", nil
}
