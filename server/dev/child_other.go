//go:build unix && !linux

package dev

import "syscall"

// setDeathSignal does nothing: this system has no signal for a parent's death. A server orphaned by a killed parent is
// reported at the next start, by its process id.
func setDeathSignal(*syscall.SysProcAttr, syscall.Signal) {}

// childrenOf returns nothing: PostgreSQL's processes notice by themselves that their parent is gone.
func childrenOf(int) []int { return nil }
