package hints

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestMessageSurvivesItsEncoding(t *testing.T) {
	t.Parallel()
	for _, m := range []message{
		{kind: kindBeat, node: "n", epoch: "e"},
		{kind: kindAdvanced, node: "n", epoch: "e", session: uuid.New(), seq: 1 << 40},
		{kind: kindEntries, node: "n", epoch: "e", session: uuid.New(), entries: [][]byte{{1}, {2, 3}}},
		{kind: kindUser, node: "n", epoch: "e", user: "u", device: "d", event: []byte{9}},
	} {
		got, err := decode(m.encode())
		require.NoError(t, err)
		require.Equal(t, m, got)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(message{kind: kindEntries, node: "n", session: uuid.New(), entries: [][]byte{{1}}}.encode())
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := decode(raw)
		if err != nil {
			return
		}
		_, _ = m.decodeEntries() // whatever the bytes are, they do no harm
		_, _ = m.decodeEvent()
		again, err := decode(m.encode())
		require.NoError(t, err)
		require.Equal(t, m.kind, again.kind)
	})
}
