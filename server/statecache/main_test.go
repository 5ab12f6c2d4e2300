package statecache_test

import (
	"os"
	"testing"

	"github.com/parley-im/parley/server/dev/testenv"
)

func TestMain(m *testing.M) {
	if os.Getenv(doomedSession) != "" {
		doomed()
		return
	}
	testenv.Main(m)
}
