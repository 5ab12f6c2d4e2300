package rpc

import (
	"bytes"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// undecodableMark is what a message that could not be decoded carries in its unknown fields. Connect answers a codec's
// error itself, before the interceptors, with the codec's text (which quotes the request) and without a detail. So the
// codec does not fail but marks, and the interceptors refuse. A client that sends the mark itself is refused as well.
var undecodableMark = protowire.AppendString(
	protowire.AppendTag(nil, protowire.MaxValidNumber, protowire.BytesType), "undecodable")

// marking wraps the server's codecs.
func marking(codecs []connect.Codec) connect.HandlerOption {
	var options []connect.HandlerOption
	for _, c := range codecs {
		if full, ok := c.(fullCodec); ok {
			options = append(options, connect.WithCodec(markingCodec{full}))
			continue
		}
		options = append(options, connect.WithCodec(c))
	}
	return connect.WithHandlerOptions(options...)
}

// fullCodec is a codec with the optional methods that connect looks for; without them the reuse of buffers and GET
// requests would be lost.
type fullCodec interface {
	connect.Codec
	MarshalAppend(dst []byte, message any) ([]byte, error)
	MarshalStable(message any) ([]byte, error)
	IsBinary() bool
}

type markingCodec struct{ fullCodec }

func (c markingCodec) Unmarshal(data []byte, message any) error {
	err := c.fullCodec.Unmarshal(data, message)
	m, ok := message.(proto.Message)
	if err == nil || !ok {
		return err
	}
	proto.Reset(m)
	m.ProtoReflect().SetUnknown(undecodableMark)
	return nil
}

// decoded refuses a message that was marked.
func decoded(m proto.Message) error {
	if unknown := m.ProtoReflect().GetUnknown(); len(unknown) > 0 && bytes.Equal(unknown, undecodableMark) {
		return undecodable
	}
	return nil
}
