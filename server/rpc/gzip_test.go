package rpc

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

// Compressed requests cost little: what they would become is never made. The whole of a bomb costs at most 20 ms of
// processor time, of which a test among others can only say that what is unpacked is bounded.
func TestBombs(t *testing.T) {
	unpacked := func(raw []byte) (n int64, err error) {
		g := newGunzip()
		if err := g.Reset(bytes.NewReader(raw)); err != nil {
			return 0, err
		}
		return io.Copy(io.Discard, g)
	}
	zip := func(b []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		_, err := w.Write(b)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return out.Bytes()
	}
	noise := make([]byte, MaxRequestBytes)
	_, err := rand.Read(noise)
	require.NoError(t, err)
	for size, fits := range map[int]bool{MaxRequestBytes - 1: true, MaxRequestBytes: true, MaxRequestBytes + 1: false, 100 << 20: false} {
		n, err := unpacked(zip(make([]byte, size)))
		require.Equal(t, fits, err == nil, "%d", size)
		require.LessOrEqual(t, n, int64(MaxRequestBytes))
	}
	n, err := unpacked(zip(noise))
	require.NoError(t, err)
	require.EqualValues(t, MaxRequestBytes, n)
	// Many empty members in a row cost time without becoming any bytes; the request's own bound bounds them.
	empty := zip(nil)
	n, err = unpacked(bytes.Repeat(empty, MaxRequestBytes/len(empty)))
	require.NoError(t, err)
	require.Zero(t, n)
}
