// Package e2e tests the promises from outside, on the real server.
package e2e

import (
	"os"
	"testing"

	"github.com/parley-im/parley/server/dev/testenv"
	"github.com/parley-im/parley/server/e2e/rig"
)

func TestMain(m *testing.M) {
	if text := os.Getenv(abuserVariable); text != "" {
		abuserMain(text)
		return
	}
	testenv.AtEnd(rig.RemoveBinary)
	testenv.AtEnd(writeReport)
	testenv.Main(m)
}
