// Package wire turns log entries and events into the bytes that streams carry, each once per codec however many streams
// share them.
//
// SubscribeResponse has one repeated field, so encoded responses joined together are one valid response. A Piece is one
// event encoded as such a response; a Frame joins the pieces that wait for one stream, to be sent with one write and one
// flush. The codecs here are connect's own, except that they pass a Frame through as it is.
package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// Codec names the encoding of a stream.
type Codec uint8

// The encodings.
const (
	Proto Codec = iota
	JSON
)

// CodecOf tells the encoding from a request's Content-Type: everything that does not name JSON is binary.
func CodecOf(contentType string) Codec {
	if bytes.Contains([]byte(contentType), []byte("json")) {
		return JSON
	}
	return Proto
}

// Codecs are the codecs for connect's handlers.
func Codecs() []connect.Codec {
	return []connect.Codec{protoCodec{}, jsonCodec{name: "json"}, jsonCodec{name: "json; charset=utf-8"}}
}

func notProto(v any) error { return fmt.Errorf("%T is no protobuf message", v) }

// protoCodec has the optional methods of connect's own codec too: without them Connect GET and the reuse of buffers
// would be lost.
type protoCodec struct{}

func (protoCodec) Name() string   { return "proto" }
func (protoCodec) IsBinary() bool { return true }

func (c protoCodec) Marshal(v any) ([]byte, error) { return c.MarshalAppend(nil, v) }

func (protoCodec) MarshalAppend(dst []byte, v any) ([]byte, error) {
	switch m := v.(type) {
	case *Frame:
		return append(dst, m.buf...), nil
	case proto.Message:
		return proto.MarshalOptions{}.MarshalAppend(dst, m)
	}
	return nil, notProto(v)
}

func (protoCodec) MarshalStable(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, notProto(v)
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

func (protoCodec) Unmarshal(data []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return notProto(v)
	}
	return proto.Unmarshal(data, m)
}

type jsonCodec struct{ name string }

func (c jsonCodec) Name() string { return c.name }
func (jsonCodec) IsBinary() bool { return false }

func (c jsonCodec) Marshal(v any) ([]byte, error) { return c.MarshalAppend(nil, v) }

func (jsonCodec) MarshalAppend(dst []byte, v any) ([]byte, error) {
	switch m := v.(type) {
	case *Frame:
		return append(dst, m.bytes()...), nil
	case proto.Message:
		return protojson.MarshalOptions{}.MarshalAppend(dst, m)
	}
	return nil, notProto(v)
}

func (c jsonCodec) MarshalStable(v any) ([]byte, error) {
	raw, err := c.Marshal(v)
	if err != nil {
		return nil, err
	}
	// protojson varies its white space on purpose.
	var out bytes.Buffer
	if err := json.Compact(&out, raw); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (jsonCodec) Unmarshal(data []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return notProto(v)
	}
	if len(data) == 0 {
		return errors.New("zero-length payload is not a valid JSON object")
	}
	// Fields of newer clients are passed over, as they are in the binary encoding.
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, m)
}
