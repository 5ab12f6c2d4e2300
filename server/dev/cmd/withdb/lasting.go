package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// longestSocket is the length in bytes that every system allows a Unix socket's path.
const longestSocket = 100

// servers are the URLs of those that withdb started; "" for one that it did not start.
type servers struct{ postgres, redis string }

// lasting gives s addresses that are the same in every run in this directory with servers of these versions: go test
// takes what a test said from its cache only if the variables that it read had the same values. They lead through links in
// a directory of this user's in cache, whose name tells directory and versions, so another PostgreSQL means new results.
// Redis gets a password that is kept there.
//
// Where another run holds these addresses, or they would be too long, s comes back as it is: then nothing is remembered.
// release gives the addresses back; it is never nil.
func lasting(ctx context.Context, cache string, s servers) (_ servers, release func() error, err error) {
	none := func() error { return nil }
	about, err := s.about(ctx)
	if err != nil {
		return s, none, err
	}
	sum := sha256.Sum256([]byte(about))
	dir := filepath.Join(cache, "parley", "tests", hex.EncodeToString(sum[:6]))
	if len(dir) > longestSocket-len("/postgres/.s.PGSQL.65535") {
		return s, none, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return s, none, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return s, none, err
	}
	switch err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return s, none, lock.Close()
	case err != nil:
		return s, none, errors.Join(err, lock.Close())
	}
	found, err := s.through(ctx, dir)
	if err != nil {
		return s, none, errors.Join(err, lock.Close())
	}
	return found, lock.Close, nil
}

var versionLine = regexp.MustCompile(`(?m)^\w+_version:\S+`)

// about tells where this is and what the servers are.
func (s servers) about(ctx context.Context) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	said := []string{dir}
	if s.postgres != "" {
		conn, err := pgx.Connect(ctx, s.postgres)
		if err != nil {
			return "", err
		}
		var version string
		err = conn.QueryRow(ctx, "SELECT version()").Scan(&version)
		if err := errors.Join(err, conn.Close(ctx)); err != nil {
			return "", err
		}
		said = append(said, version)
	}
	if s.redis != "" {
		err := withRedis(s.redis, func(c *redis.Client) error {
			info, err := c.Info(ctx, "server").Result()
			said = append(said, versionLine.FindAllString(info, -1)...)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return strings.Join(said, "\n"), nil
}

// through makes the links in dir, which is locked, and returns the URLs that lead through them.
func (s servers) through(ctx context.Context, dir string) (servers, error) {
	if s.postgres != "" {
		u, err := url.Parse(s.postgres)
		if err != nil {
			return s, err
		}
		query, path := u.Query(), filepath.Join(dir, "postgres")
		if err := link(query.Get("host"), path); err != nil {
			return s, err
		}
		query.Set("host", path)
		u.RawQuery = query.Encode()
		s.postgres = u.String()
	}
	if s.redis != "" {
		u, err := url.Parse(s.redis)
		if err != nil {
			return s, err
		}
		if u.Scheme != "unix" {
			return s, fmt.Errorf("a Unix socket of Redis was expected, not %s", u.Scheme)
		}
		password, err := kept(filepath.Join(dir, "password"))
		if err != nil {
			return s, err
		}
		path := filepath.Join(dir, "redis")
		if err := link(filepath.Dir(u.Path), path); err != nil {
			return s, err
		}
		if err := withRedis(s.redis, func(c *redis.Client) error {
			return c.ConfigSet(ctx, "requirepass", password).Err()
		}); err != nil {
			return s, err
		}
		u.User, u.Path = url.UserPassword("", password), filepath.Join(path, filepath.Base(u.Path))
		s.redis = u.String()
	}
	return s, nil
}

// link makes path lead to target, wherever it led before.
func link(target, path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(target, path)
}

// kept returns the password in the file at path, which it makes first if it is missing.
func kept(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err == nil && len(text) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return string(text), err
	}
	password := rand.Text()
	return password, os.WriteFile(path, []byte(password), 0o600)
}

func withRedis(address string, do func(*redis.Client) error) error {
	opts, err := redis.ParseURL(address)
	if err != nil {
		return errors.New("not a URL of Redis") // it holds a password
	}
	c := redis.NewClient(opts)
	return errors.Join(do(c), c.Close())
}
