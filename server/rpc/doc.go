// Package rpc is the transport: it turns calls over Connect, gRPC, gRPC-Web and REST into calls of the domain and the
// domain's answers back into messages. One file per service decodes, calls the domain and encodes; no rule lives here.
//
// # The layers of a call, from the outside in
//
//   - front (front.go): gives the call an id, bounds the body in bytes and in time, logs and counts the end of the call.
//   - CORS (cors.go), then routing: /parley.v1.*/ goes to Connect's handlers as it is, /v1/ through the REST transcoder.
//   - the gate (gate.go): who is calling, and may they call this? It runs before the body is read, so that a stranger
//     costs no decoding. A procedure without a declared access makes New fail.
//   - the codecs of package wire, which mark a message that cannot be decoded instead of failing (decode.go), so that
//     this error, too, passes the interceptors and carries a detail.
//   - the interceptors, for unary calls and streams alike: tracing, answer (answer.go: recovery, deadline, errors),
//     validation (validate.go).
//   - the service.
//
// Errors become codes in errors.go and nowhere else. Handlers return the domain's errors untouched.
package rpc
