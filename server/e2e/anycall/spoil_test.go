package anycall

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// spoiler makes something wrong with a call. It returns false where it does not apply.
type spoiler struct {
	how   string
	spoil func(w *wired, r *rand.Rand) bool
}

var value = regexp.MustCompile(`:("(?:[^"\\]|\\.)*"|[0-9]+|true|false)`)

// spoilers are all that is done to calls on the wire.
var spoilers = []spoiler{
	{"cut short", func(w *wired, r *rand.Rand) bool {
		if len(w.body) < 2 {
			return false
		}
		w.body = w.body[:r.IntN(len(w.body)-1)+1]
		w.broken = w.json() || w.enveloped() // the prefix promises more; bare protobuf may end anywhere
		return true
	}},
	{"flipped bytes", func(w *wired, r *rand.Rand) bool {
		if len(w.body) == 0 {
			return false
		}
		w.body = bytes.Clone(w.body)
		for range 1 + r.IntN(4) {
			w.body[r.IntN(len(w.body))] ^= byte(1 << r.IntN(8))
		}
		return true
	}},
	{"random bytes", func(w *wired, r *rand.Rand) bool {
		w.body = make([]byte, 1+r.IntN(300))
		for i := range w.body {
			w.body[i] = byte(r.Uint32())
		}
		w.announce()
		return true
	}},
	{"another type", func(w *wired, r *rand.Rand) bool {
		if !w.json() {
			return w.another(protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.Fixed64Type), 7), true)
		}
		places := value.FindAllSubmatchIndex(w.body, -1)
		if len(places) == 0 {
			return false
		}
		at := places[r.IntN(len(places))]
		with := []string{`{}`, `[[]]`, `{"x":[1]}`, `1e999`, `-1`, `null`, `"\ud800"`, `1.5`, `"-9223372036854775809"`}[r.IntN(9)]
		w.body = []byte(string(w.body[:at[2]]) + with + string(w.body[at[3]:]))
		return true
	}},
	{"unknown fields", func(w *wired, _ *rand.Rand) bool {
		if !w.json() {
			return w.another(protowire.AppendString(protowire.AppendTag(nil, 99999, protowire.BytesType), private), false)
		}
		if !bytes.HasPrefix(w.body, []byte("{")) {
			return false
		}
		w.body = []byte(`{"unknownField":{"` + private + `":[null]}` + strings.Replace(string(w.body[1:]), `"`, `,"`, 1))
		return true
	}},
	{"malformed UTF-8", func(w *wired, _ *rand.Rand) bool {
		if w.json() {
			if !bytes.HasSuffix(w.body, []byte("}")) {
				return false
			}
			w.body, w.broken = []byte(`{"sessionId":"`+private+"\xff\xfe"+`"}`), true
			return true
		}
		return w.another(protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), private+"\xff\xfe"), false)
	}},
	{"deep nesting", func(w *wired, _ *rand.Rand) bool {
		if w.json() {
			if len(w.body) == 0 {
				return false
			}
			w.body = []byte(`{"x":` + strings.Repeat("[", 30000) + strings.Repeat("]", 30000) + `}`)
			return true
		}
		return w.another(bytes.Repeat(protowire.AppendTag(nil, 1, protowire.StartGroupType), 20000), true)
	}},
	{"an endless number", func(w *wired, _ *rand.Rand) bool {
		if w.json() {
			return false
		}
		return w.another(append(protowire.AppendTag(nil, 3, protowire.VarintType), bytes.Repeat([]byte{0xff}, 11)...), true)
	}},
	{"a length past the end", func(w *wired, _ *rand.Rand) bool {
		if w.json() {
			return false
		}
		return w.another(protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.BytesType), 1<<40), true)
	}},
	{"empty body", func(w *wired, _ *rand.Rand) bool {
		w.body, w.prefix = nil, nil
		w.broken = w.encoding == connectJSON || w.enveloped() // as protobuf it is an empty message, in REST a body left out
		return true
	}},
	{"prefix cut short", func(w *wired, r *rand.Rand) bool {
		if !w.enveloped() {
			return false
		}
		w.prefix, w.body, w.broken = w.prefix[:1+r.IntN(4)], nil, true
		return true
	}},
	{"a message longer than what comes", func(w *wired, r *rand.Rand) bool {
		if !w.enveloped() {
			return false
		}
		w.prefix = binary.BigEndian.AppendUint32([]byte{0}, uint32(len(w.body)+1+r.IntN(1000))) //nolint:gosec // small
		w.broken = true
		return true
	}},
	{"a message of 4 GiB", func(w *wired, _ *rand.Rand) bool {
		if !w.enveloped() {
			return false
		}
		w.prefix, w.broken = []byte{0, 0xff, 0xff, 0xff, 0xff}, true
		return true
	}},
	{"two messages", func(w *wired, _ *rand.Rand) bool {
		if !w.enveloped() {
			return false
		}
		w.tail, w.broken = bytes.Join([][]byte{w.prefix, w.body}, nil), true
		return true
	}},
	{"bytes behind the message", func(w *wired, _ *rand.Rand) bool {
		if !w.enveloped() {
			return false
		}
		w.tail, w.broken = []byte{1, 2, 3}, true
		return true
	}},
	{"unknown flags", func(w *wired, r *rand.Rand) bool {
		if !w.enveloped() || len(w.body) == 0 {
			return false
		}
		w.prefix[0] = byte(1 << (1 + r.IntN(7)))
		w.broken = true
		return true
	}},
	{"compressed, by nothing", func(w *wired, _ *rand.Rand) bool {
		if !w.enveloped() || len(w.body) == 0 {
			return false
		}
		w.prefix[0], w.broken = 1, true
		return true
	}},
	{"compressed, it says", func(w *wired, _ *rand.Rand) bool {
		if len(w.body) == 0 {
			return false
		}
		w.compressed("gzip")
		w.broken = true
		return true
	}},
	{"compressed and cut", func(w *wired, r *rand.Rand) bool {
		if len(w.body) == 0 {
			return false
		}
		packed := zipped(w.body)
		w.body = packed[:1+r.IntN(len(packed)-9)]
		w.announce()
		w.compressed("gzip")
		w.broken = true
		return true
	}},
	{"compressed", func(w *wired, _ *rand.Rand) bool {
		if len(w.body) == 0 {
			return false
		}
		w.body = zipped(w.body)
		w.announce()
		w.compressed("gzip")
		return true
	}},
	{"a bomb", func(w *wired, _ *rand.Rand) bool {
		if len(w.body) == 0 {
			return false
		}
		w.body = bomb
		w.announce()
		w.compressed("gzip")
		w.broken = true
		return true
	}},
	{"compressed as nobody does", func(w *wired, _ *rand.Rand) bool {
		if len(w.body) == 0 {
			return false
		}
		w.compressed("br-" + private)
		w.broken, w.foreign = true, true
		return true
	}},
	{"another content type", func(w *wired, r *rand.Rand) bool {
		if w.verb == http.MethodGet || w.verb == http.MethodDelete {
			return false
		}
		w.header.Set("Content-Type", pick(r, []string{"text/plain", "", "application/xml", "application/grpc+" + private,
			"application/json; charset=utf-16", "multipart/form-data", "application/connect+" + private, "\u00e9"}))
		w.foreign = true
		return true
	}},
	{"another verb", func(w *wired, r *rand.Rand) bool {
		w.verb = pick(r, []string{http.MethodTrace, http.MethodPut, http.MethodDelete, "BREW", http.MethodHead})
		w.foreign = true
		return true
	}},
	{"a timeout that is none", func(w *wired, r *rand.Rand) bool {
		w.header.Set("Connect-Timeout-Ms", pick(r, []string{"-1", private, "99999999999999999999"}))
		w.header.Set("Grpc-Timeout", pick(r, []string{"-1S", private, "99999999999S", "1"}))
		w.foreign = true
		return true
	}},
	{"another version", func(w *wired, _ *rand.Rand) bool {
		w.header.Set("Connect-Protocol-Version", private)
		w.foreign = true
		return true
	}},
	{"two tokens", func(w *wired, _ *rand.Rand) bool {
		w.header.Add("Authorization", "Bearer "+private)
		w.broken = len(w.header.Values("Authorization")) > 1
		return true
	}},
	{"a path of nobody", func(w *wired, r *rand.Rand) bool {
		w.path += pick(r, []string{"x", "/", "/" + private, "%2f"})
		w.foreign = true
		return true
	}},
}

// announce writes the length of the body into the prefix.
func (w *wired) announce() {
	if len(w.prefix) == 5 {
		binary.BigEndian.PutUint32(w.prefix[1:], uint32(len(w.body))) //nolint:gosec // small
	}
}

// another adds a field to a binary message.
func (w *wired) another(field []byte, broken bool) bool {
	w.body, w.broken = append(bytes.Clone(w.body), field...), broken
	w.announce()
	return true
}

func (w *wired) compressed(how string) {
	switch {
	case w.encoding == grpcProto || w.encoding == grpcWeb:
		w.header.Set("Grpc-Encoding", how)
		w.prefix[0] = 1
	case w.enveloped():
		w.header.Set("Connect-Content-Encoding", how)
		w.prefix[0] = 1
	default:
		w.header.Set("Content-Encoding", how)
	}
}

func zipped(raw []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(raw)
	_ = z.Close()
	return b.Bytes()
}

var bomb = zipped(make([]byte, 30<<20))
