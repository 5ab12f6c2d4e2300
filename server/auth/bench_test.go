package auth_test

import (
	"strings"
	"testing"

	"github.com/parley-im/parley/server/auth"
)

// BenchmarkVerify compares a token's first check with those after it. The cache is what makes tokens cheap.
func BenchmarkVerify(b *testing.B) {
	for name, size := range map[string]int{"cached": 0, "uncached": -1} {
		bench := newBench(b, func(cfg *auth.VerifierConfig) { cfg.CacheSize = size })
		for alg, raw := range map[string]string{
			"EdDSA": bench.ed.token(b, bench.oneClaims), "ES256": bench.ec.token(b, bench.oneClaims),
		} {
			b.Run(alg+"/"+name, func(b *testing.B) {
				accepts(b, bench.verifier, raw)
				run(b, bench.verifier, raw)
			})
		}
	}
}

// BenchmarkRefuse is what an attacker can make the server spend per token.
func BenchmarkRefuse(b *testing.B) {
	bench := newBench(b)
	for name, raw := range map[string]string{
		"megabyte": strings.Repeat("A", 1<<20), "dots": strings.Repeat(".", 4096),
		"header": strings.Repeat("A", 4000) + ".AAAA.AAAA", "signature": bench.other.forge(b, bench.ed.header(), bench.oneClaims),
		"nested": bench.ed.token(b, strings.Repeat("[", 2000)),
	} {
		b.Run(name, func(b *testing.B) { run(b, bench.verifier, raw) })
	}
}

func run(b *testing.B, v *auth.Verifier, raw string) {
	b.Helper()
	ctx := b.Context()
	b.ReportAllocs()
	for b.Loop() {
		_, _ = v.Verify(ctx, raw)
	}
}
