package ring_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/ring"
	"github.com/parley-im/parley/server/wire"
)

func entry(id uuid.UUID, seq, recalls int64) *wire.Entry {
	c := &parleyv1.Content{Kind: &parleyv1.Content_Text{Text: &parleyv1.Text{Body: "secret"}}}
	typ := message.TypeText
	if recalls > 0 {
		c, typ = &parleyv1.Content{Kind: &parleyv1.Content_Recall{Recall: &parleyv1.Recall{Seq: recalls}}}, message.TypeRecall
	}
	body, err := proto.Marshal(&parleyv1.Message{Content: c})
	if err != nil {
		panic(err)
	}
	return wire.Encode(message.Entry{SessionID: id, Seq: seq, MessageID: uuid.New(), SenderID: "a", Type: typ, Body: body})
}

// Whatever happens, a range comes whole and in order or not at all, nothing recalled comes with its body, and the bound
// holds.
func TestRing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const bound = 20_000
		r := ring.New(bound, nil)
		ids := []uuid.UUID{{1}, {2}, {3}}
		logs := map[uuid.UUID][]*wire.Entry{}
		recalled := map[uuid.UUID]map[int64]bool{{1}: {}, {2}: {}, {3}: {}}
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				id := rapid.SampledFrom(ids).Draw(t, "id")
				seq := int64(len(logs[id])) + 1
				recalls := int64(0)
				if seq > 1 && rapid.IntRange(0, 4).Draw(t, "recall") == 0 {
					recalls = rapid.Int64Range(1, seq-1).Draw(t, "which")
					recalled[id][recalls] = true
				}
				e := entry(id, seq, recalls)
				logs[id] = append(logs[id], e)
				if rapid.IntRange(0, 9).Draw(t, "lost") == 0 {
					r.Behind(id, seq) // committed elsewhere
				} else {
					r.Append(e)
				}
			},
			"read": func(t *rapid.T) {
				id := rapid.SampledFrom(ids).Draw(t, "id")
				head := int64(len(logs[id]))
				q := message.Range{SessionID: id, From: rapid.Int64Range(0, head).Draw(t, "from"), To: head}
				token := r.Token()
				got, ok := r.Range(q)
				tail, rest := r.Split(q)
				require.Equal(t, q.To-q.From, rest.To-rest.From+int64(len(tail)))
				require.Equal(t, ok || q.From == q.To, rest.From == rest.To)
				for i, e := range tail {
					require.Equal(t, rest.To+1+int64(i), e.Seq)
					require.Equal(t, recalled[id][e.Seq], e.IsDeleted)
				}
				if !ok {
					var read []*wire.Entry
					for _, e := range logs[id][q.From:rest.To] {
						if recalled[id][e.Seq] {
							e = e.Erased()
						}
						read = append(read, e)
					}
					r.Fill(token, read)
					return
				}
				require.Len(t, got, int(q.To-q.From))
				for i, e := range got {
					require.Equal(t, q.From+1+int64(i), e.Seq)
					require.Equal(t, recalled[id][e.Seq], e.IsDeleted)
				}
			},
			"": func(t *rapid.T) { require.LessOrEqual(t, r.Bytes(), int64(bound)) },
		})
	})
}

func TestStaleFillIsRefused(t *testing.T) {
	r := ring.New(1<<20, nil)
	id := uuid.New()
	token := r.Token()
	read := []*wire.Entry{entry(id, 1, 0), entry(id, 2, 0)}
	r.Append(entry(id, 3, 1)) // recalls 1, which is being read
	r.Fill(token, read)
	_, ok := r.Range(message.Range{SessionID: id, From: 0, To: 3})
	require.False(t, ok)
	r.Fill(r.Token(), []*wire.Entry{read[0].Erased(), read[1]})
	got, ok := r.Range(message.Range{SessionID: id, From: 0, To: 3})
	require.True(t, ok)
	require.True(t, got[0].IsDeleted)
}
