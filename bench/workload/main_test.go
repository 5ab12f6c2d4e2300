package workload_test

import (
	"testing"

	"github.com/parley-im/parley/server/dev/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
