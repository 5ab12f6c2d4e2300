package dev

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockDir takes dir for this process, so that two processes never prepare or run a server in it at once. The lock ends
// with unlock or with the process, however that ends. The error says that dir is in use if it is.
func lockDir(dir string) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close() // opened for the lock only
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s is in use by another running process: stop that one, or use another data "+
				"directory (PARLEY_DATA_DIR)", dir)
		}
		return nil, err
	}
	return func() { _ = file.Close() }, nil // closing gives the lock back; nothing was written
}
