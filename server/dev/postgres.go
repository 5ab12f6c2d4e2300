package dev

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const (
	// pgUser and pgDatabase are the names of the only role and of the database that URL leads to.
	pgUser     = "parley"
	pgDatabase = "parley"
	// startPatience bounds one start: recovery after a crash under load takes seconds, far from this.
	startPatience = 2 * time.Minute
	// busyPatience is how long a start waits for the remains of an earlier server on the same data to go away.
	busyPatience = 15 * time.Second
)

// PostgresOptions says where and how PostgreSQL runs. Only DataDir is needed.
type PostgresOptions struct {
	// DataDir is where everything is kept, in its subfolder "postgres"; made if missing. Starting again on the same
	// DataDir goes on with the same data. If this process is root and PostgreSQL's user cannot enter DataDir, the data
	// is kept in another place, which is logged.
	DataDir string
	// CacheDir is where PostgreSQL's programs are fetched to if the machine has none; "" means within DataDir.
	CacheDir string
	// Settings are settings of postgresql.conf, over the defaults. Those that give up durability and those that this
	// package decides (addresses, paths) are refused.
	Settings map[string]string
	// TCP makes it listen on a free port of 127.0.0.1 too, with a password, for what cannot use a Unix socket.
	TCP bool
	// Log gets a few lines about what was found and started; nil means none.
	Log *slog.Logger
}

// Postgres is a PostgreSQL server that belongs to this process. Its methods are safe for concurrent use.
type Postgres struct {
	opts     PostgresOptions
	log      *slog.Logger
	as       account
	dir      string // everything of this server: data, log, password, run
	binaries pgBinaries
	sockets  string
	ownsTemp bool // sockets is temporary and to be removed
	port     int  // of TCP, and part of the socket's name
	password string
	settings map[string]string
	primary  *Postgres // new data is copied from there; nil: made afresh

	mu     sync.Mutex // held over starting and stopping
	server *child     // the running server or the last one
	unlock func()     // gives the directory back; nil while it is not held
}

// StartPostgres starts PostgreSQL on o.DataDir, creating the database there first if it is new (about 1 s; a later
// start takes about 0.1 s). It returns when the server answers. ctx bounds the start only; the server runs until Stop,
// Kill or the end of this process.
//
// If PostgreSQL cannot be had, the error is one line that says what is missing and how to get it.
func StartPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	return startPostgres(ctx, o, nil)
}

func startPostgres(ctx context.Context, o PostgresOptions, primary *Postgres) (_ *Postgres, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience, errors.New("PostgreSQL did not start in time"))
	defer cancel()
	p := &Postgres{opts: o, log: o.Log, port: 5432, primary: primary}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.settings, err = mergeSettings(o.Settings); err != nil {
		return nil, err
	}
	if p.dir, p.as, err = placePostgres(ctx, o.DataDir, p.log); err != nil {
		return nil, fmt.Errorf("prepare PostgreSQL's directory: %w", err)
	}
	if p.unlock, err = lockDir(p.dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.release()
		}
	}()
	if err := p.findBinaries(ctx); err != nil {
		return nil, err
	}
	if err := p.initCluster(ctx); err != nil {
		return nil, fmt.Errorf("create PostgreSQL's data: %w", err)
	}
	if o.TCP {
		if p.port, err = FreePort(ctx); err != nil {
			return nil, err
		}
	}
	if p.sockets, p.ownsTemp, err = socketDir(p.dir, p.socketName(), p.as); err != nil {
		return nil, fmt.Errorf("make PostgreSQL's socket directory: %w", err)
	}
	begin := time.Now()
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	p.log.InfoContext(ctx, "PostgreSQL runs", "version", p.binaries.major, "pid", p.PID(), "dir", p.dir,
		"start_time", time.Since(begin).Round(time.Millisecond))
	return p, nil
}

// URL leads to the database "parley" over the Unix socket, without a password; this user, and root, may connect. It
// stays the same over Restart.
func (p *Postgres) URL() string { return p.urlOf(pgDatabase) }

func (p *Postgres) urlOf(database string) string {
	query := url.Values{"host": {p.sockets}, "port": {strconv.Itoa(p.port)}}
	u := url.URL{Scheme: "postgres", User: url.User(pgUser), Path: "/" + database, RawQuery: query.Encode()}
	return u.String()
}

// TCPURL leads to the same database over 127.0.0.1, with its password; "" if TCP was not asked for. Port and password
// stay the same over Restart.
func (p *Postgres) TCPURL() string {
	if !p.opts.TCP {
		return ""
	}
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(pgUser, p.password), Host: "127.0.0.1:" + strconv.Itoa(p.port),
		Path: "/" + pgDatabase, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// PID is the process id of the running server, or of the last one.
func (p *Postgres) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server.pid
}

// Exited returns a channel that is closed when the server that runs now ends, for whatever reason. After a Restart ask
// again.
func (p *Postgres) Exited() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server.exited
}

// Stop ends the server: connections are cut, everything is written, and it is gone when Stop returns. If ctx ends
// before that, the server is made to end at once, which loses nothing either (the next start recovers), and ctx's cause
// is returned. Stopping a stopped server does nothing.
func (p *Postgres) Stop(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.release()
	return p.stop(ctx)
}

// stop is Stop with mu held and the socket directory kept.
func (p *Postgres) stop(ctx context.Context) error {
	if err := p.server.signal(syscall.SIGINT); err != nil { // "fast shutdown"
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	err := p.server.wait(ctx)
	if err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("stop PostgreSQL: %w", err), p.kill())
}

// Kill ends the server as a power cut would, all its processes with SIGKILL, and returns when the main one is gone.
// Restart brings it back, through recovery.
func (p *Postgres) Kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kill()
}

// kill is Kill with mu held.
func (p *Postgres) kill() error {
	if !p.server.running() {
		return nil
	}
	children := childrenOf(p.server.pid)
	if err := p.server.signal(syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill PostgreSQL: %w", err)
	}
	for _, pid := range children {
		// They are on their way out already, since they notice that their parent died.
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-p.server.exited
	return nil
}

// Restart stops the server if it runs and starts it again on the same data, with the same URLs.
func (p *Postgres) Restart(ctx context.Context) (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.stop(ctx); err != nil {
		return err
	}
	if p.unlock == nil { // stopped before
		if p.unlock, err = lockDir(p.dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(p.sockets, 0o700); err != nil { // Stop may have removed it
		return err
	}
	if err := p.as.own(p.sockets); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startPatience, errors.New("PostgreSQL did not start in time"))
	defer cancel()
	return p.start(ctx)
}

// release gives back what the server needed besides its data: the directory's lock and a temporary socket directory.
func (p *Postgres) release() {
	if p.ownsTemp {
		_ = os.RemoveAll(p.sockets) // a left-over in the temporary directory harms nobody
	}
	if p.unlock != nil {
		p.unlock()
		p.unlock = nil
	}
}

func (p *Postgres) socketName() string { return ".s.PGSQL." + strconv.Itoa(p.port) }

func (p *Postgres) dataDir() string { return filepath.Join(p.dir, "data") }

// command returns the server's command line; output goes to logFile.
func (p *Postgres) command(logFile *os.File) *exec.Cmd {
	listen := ""
	if p.opts.TCP {
		listen = "127.0.0.1"
	}
	args := []string{
		"-D", p.dataDir(), "-k", p.sockets, "-p", strconv.Itoa(p.port), "-c", "listen_addresses=" + listen,
	}
	for _, name := range slices.Sorted(maps.Keys(p.settings)) {
		args = append(args, "-c", name+"="+p.settings[name])
	}
	cmd := exec.Command(p.binaries.command("postgres"), args...) //nolint:gosec,noctx // found by us; it outlives the call that starts it
	cmd.Dir = p.dir
	cmd.Env = serverEnv(p.dir)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	return cmd
}

// serverEnv is the environment of a server's process: nothing of this process's, whose PG* variables and secrets are
// not meant for it, and messages in English, which are looked for words.
func serverEnv(home string) []string {
	return []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
}
