package storage_test

import (
	"testing"
	"time"

	"github.com/parley-im/parley/server/dev/testenv"
)

// patience is how long tests wait for what comes about by itself: a busy machine may need much of it.
const patience = 2 * time.Minute

func TestMain(m *testing.M) { testenv.Main(m) }
