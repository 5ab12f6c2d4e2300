package anycall

import (
	"math"
	"math/rand/v2"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// private is in every long text of a request: no error may repeat it.
const private = "very-private"

// rpcs are all methods that the server offers, in the order of the protos.
func rpcs() []protoreflect.MethodDescriptor {
	var out []protoreflect.MethodDescriptor
	for _, f := range []protoreflect.FileDescriptor{
		parleyv1.File_parley_v1_relation_service_proto, parleyv1.File_parley_v1_device_service_proto,
		parleyv1.File_parley_v1_session_service_proto, parleyv1.File_parley_v1_message_service_proto,
		parleyv1.File_parley_v1_state_service_proto, parleyv1.File_parley_v1_sync_service_proto,
		parleyv1.File_parley_v1_presence_service_proto, parleyv1.File_parley_v1_admin_service_proto,
	} {
		for i := range f.Services().Len() {
			for j := range f.Services().Get(i).Methods().Len() {
				out = append(out, f.Services().Get(i).Methods().Get(j))
			}
		}
	}
	return out
}

// pool is what valid requests are made of.
type pool struct {
	users, devices, sessions, messageIDs, tokens, epochs, webhooks []string
}

// generator makes requests of a schema. Not safe for concurrent use.
type generator struct {
	r    *rand.Rand
	pool *pool
	// odd is how likely a value is one at or past a bound, or makes no sense, instead of one of the pool.
	odd float64
}

func pick[T any](r *rand.Rand, of []T) T { return of[r.IntN(len(of))] }

// request returns a message of the type with most fields set.
func (g *generator) request(d protoreflect.MessageDescriptor) proto.Message {
	m := newMessage(d)
	g.fill(m.ProtoReflect(), 0)
	return m
}

// newMessage prefers the generated type, which encodes faster and as clients do.
func newMessage(d protoreflect.MessageDescriptor) proto.Message {
	if t, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName()); err == nil {
		return t.New().Interface()
	}
	return dynamicpb.NewMessage(d)
}

func (g *generator) fill(m protoreflect.Message, depth int) {
	d := m.Descriptor()
	chosen := map[protoreflect.Name]int{}
	for i := range d.Oneofs().Len() {
		chosen[d.Oneofs().Get(i).Name()] = g.r.IntN(d.Oneofs().Get(i).Fields().Len())
	}
	if d.FullName() == "parley.v1.Content" && g.r.Float64() >= g.odd {
		chosen["kind"] = g.r.IntN(3) // what users may send; the others are the server's own
	}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		if o := f.ContainingOneof(); o != nil && !o.IsSynthetic() {
			if o.Fields().Get(chosen[o.Name()]).Number() != f.Number() {
				continue
			}
		} else if g.r.Float64() < 0.12 {
			continue
		}
		g.set(m, f, depth)
	}
	if g.r.Float64() < g.odd {
		return
	}
	// What must not stand together, or has a range of its own.
	if to, some := d.Fields().ByName("up_to_seq"), d.Fields().ByName("seqs"); to != nil && some != nil {
		m.Clear(pick(g.r, []protoreflect.FieldDescriptor{to, some}))
	}
	// Webhooks that nobody answers, and none that moderates: nothing could be sent any more.
	if u := d.Fields().ByName("url"); u != nil && d.Fields().ByName("event_types") != nil {
		m.Set(u, protoreflect.ValueOfString("http://127.0.0.1:9/"+private))
		m.Clear(d.Fields().ByName("moderation_failure"))
		m.Clear(d.Fields().ByName("moderation_timeout"))
	}
	if d.FullName() == "google.protobuf.Duration" {
		m.Set(d.Fields().ByName("seconds"), protoreflect.ValueOfInt64(3600))
	}
}

func (g *generator) set(m protoreflect.Message, f protoreflect.FieldDescriptor, depth int) {
	switch {
	case f.IsMap():
		return // no request has one
	case f.IsList():
		list := m.Mutable(f).List()
		for range g.length(depth) {
			if f.Message() != nil {
				g.fill(list.AppendMutable().Message(), depth+1)
			} else {
				list.Append(g.scalar(f))
			}
		}
	case f.Message() != nil:
		if depth < 6 {
			g.fill(m.Mutable(f).Message(), depth+1)
		}
	default:
		m.Set(f, g.scalar(f))
	}
}

func (g *generator) length(depth int) int {
	if g.r.Float64() < g.odd && depth == 0 {
		return pick(g.r, []int{0, 1, 50, 51, 200, 201, 256, 257, 500, 501, 1000, 1001})
	}
	return 1 + g.r.IntN(3)
}

func (g *generator) scalar(f protoreflect.FieldDescriptor) protoreflect.Value {
	odd := g.r.Float64() < g.odd
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(g.r.IntN(2) == 0)
	case protoreflect.EnumKind:
		n := f.Enum().Values().Get(g.r.IntN(f.Enum().Values().Len())).Number()
		if f.Name() == "event_types" {
			n = protoreflect.EnumNumber(1 + g.r.IntN(6)) //nolint:gosec // small
		}
		if odd {
			n = pick(g.r, []protoreflect.EnumNumber{-1, 99, math.MaxInt32, math.MinInt32})
		}
		return protoreflect.ValueOfEnum(n)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(g.number(odd, math.MinInt32, math.MaxInt32))) //nolint:gosec // bounded
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(g.number(odd, math.MinInt64, math.MaxInt64))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(g.text(string(f.Name()), odd)))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(g.text(string(f.Name()), odd))
	default: // a kind that a new proto brings: its zero until this generator knows it
		return f.Default()
	}
}

func (g *generator) number(odd bool, least, most int64) int64 {
	if odd {
		return pick(g.r, []int64{0, -1, 1, 200, 201, 500, 501, 1000, 1001, 10000, 10001, least, most, most - 1})
	}
	return 1 + g.r.Int64N(4)
}

func (g *generator) text(field string, odd bool) string {
	if odd {
		return pick(g.r, []func() string{
			func() string { return "" },
			func() string { return strings.Repeat("x", 64) },
			func() string { return strings.Repeat("x", 65) },
			func() string { return private + strings.Repeat("y", 2048) },
			func() string { return private + strings.Repeat("z", 16384) },
			func() string { return private + strings.Repeat("w", 70000) },
			func() string { return private + "\x00" },
			func() string { return private + "\u202e\U0001f469\u200d\U0001f4bb" },
			func() string { return private + "'; DROP TABLE msg; --" },
			func() string { return strings.ToUpper(uuid.NewString()) },
			func() string { return "urn:uuid:" + uuid.NewString() },
			func() string { return "00000000-0000-0000-0000-000000000000" },
			func() string { return strings.Repeat("f", 8) + "-ffff-ffff-ffff-ffffffffffff" },
			func() string { return "../../" + private + "/%00%2f" },
			func() string { return uuid.NewString() },
		})()
	}
	switch {
	case strings.HasPrefix(field, "session_id"):
		return pick(g.r, g.pool.sessions)
	case strings.HasSuffix(field, "user_id"), strings.HasSuffix(field, "user_ids"), field == "member_ids", field == "mentions":
		return pick(g.r, g.pool.users)
	case field == "device_id":
		return pick(g.r, g.pool.devices)
	case field == "webhook_id":
		return pick(g.r, g.pool.webhooks)
	case strings.HasPrefix(field, "delivery_id"):
		return uuid.NewString()
	case field == "message_id":
		if g.r.IntN(3) > 0 {
			return uuid.NewString()
		}
		return pick(g.r, g.pool.messageIDs)
	case field == "request_id":
		return uuid.NewString()
	case field == "page_token":
		return pick(g.r, g.pool.tokens)
	case field == "epoch":
		return pick(g.r, g.pool.epochs)
	case strings.HasSuffix(field, "url"):
		return "https://files.example/" + private
	case field == "mime_type":
		return "image/png"
	default:
		return private
	}
}
