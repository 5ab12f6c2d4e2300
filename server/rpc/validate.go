package rpc

import (
	"context"
	"errors"
	"fmt"

	"buf.build/go/protovalidate"
	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/parley-im/parley/server/refusal"
)

// validation refuses requests that break the rules in their proto. Responses are not looked at: streams send bytes.
type validation struct {
	v protovalidate.Validator
}

// newValidation compiles the rules of all requests, so that a broken rule stops the start.
func newValidation() (*validation, error) {
	var requests []protoreflect.MessageDescriptor
	methods(func(_ string, m protoreflect.MethodDescriptor) { requests = append(requests, m.Input()) })
	v, err := protovalidate.New(protovalidate.WithMessageDescriptors(requests...), protovalidate.WithDisableLazy(),
		protovalidate.WithFailFast())
	if err != nil {
		return nil, fmt.Errorf("compile the rules of requests: %w", err)
	}
	return &validation{v}, nil
}

// check returns a refusal that names the first field that breaks its rule, and the rule. It holds nothing of the value.
func (va *validation) check(message any) error {
	m, ok := message.(proto.Message)
	if !ok {
		return fmt.Errorf("%T is no protobuf message", message)
	}
	if err := decoded(m); err != nil {
		return err
	}
	if plain(message) {
		return nil
	}
	err := va.v.Validate(m)
	if err == nil {
		return nil
	}
	var broken *protovalidate.ValidationError
	if !errors.As(err, &broken) || len(broken.Violations) == 0 {
		return fmt.Errorf("validate %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	first := broken.Violations[0].Proto
	field, rule := protovalidate.FieldPathString(first.GetField()), first.GetRuleId()
	text := "The request breaks the rule " + rule + "."
	if field != "" {
		text = "The field " + field + " breaks the rule " + rule + "."
	}
	return refusal.New(refusal.InvalidField, text, "field", field, "rule", rule)
}

// WrapUnary implements connect.Interceptor.
func (va *validation) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if err := va.check(req.Any()); err != nil {
			return nil, err
		}
		return next(ctx, req)
	}
}

// WrapStreamingHandler implements connect.Interceptor.
func (va *validation) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		return next(ctx, &validatedConn{conn, va})
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (va *validation) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

type validatedConn struct {
	connect.StreamingHandlerConn
	va *validation
}

func (c *validatedConn) Receive(message any) error {
	if err := c.StreamingHandlerConn.Receive(message); err != nil {
		return err // connect looks for io.EOF in it
	}
	return c.va.check(message)
}
