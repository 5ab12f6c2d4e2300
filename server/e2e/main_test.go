// Package e2e tests the promises from outside, on the real server.
package e2e

import (
	"testing"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/e2e/rig"
)

func TestMain(m *testing.M) {
	defer rig.RemoveBinary()
	testenv.Main(m)
}
