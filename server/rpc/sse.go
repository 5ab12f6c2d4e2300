package rpc

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
	"github.com/parley-im/parley/server/auth"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/stream"
	"github.com/parley-im/parley/server/wire"
)

const lastEventID = "Last-Event-ID"

// Subscriber runs streams.
type Subscriber interface {
	// Serve runs a stream into the sink until either end ends it, and says why. The request is validated.
	Serve(ctx context.Context, p auth.Principal, req *parleyv1.SubscribeRequest, sink stream.Sink) error
}

// sse offers Subscribe to REST as server-sent events (HTML Living Standard, section 9.2). Each event's data is a
// SubscribeResponse as JSON, and its id says where the stream then stands: a client that sends the last one as
// Last-Event-ID resumes there. A stream that ends with an error says so by a last event of type "error", whose data is a
// google.rpc.Status as JSON. The token travels in the Authorization header as everywhere, never in the URL.
type sse struct {
	gate       *gate
	rules      *validation
	subscriber Subscriber
}

func (s *sse) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	c := callFrom(ctx)
	c.procedure, c.stream = parleyv1connect.SyncServiceSubscribeProcedure, true
	sink := &sseSink{w: w, control: http.NewResponseController(w)}
	err := s.serve(ctx, c, r, sink)
	switch {
	case err == nil:
		c.code = "ok"
		return
	case sink.broken:
		err = context.Canceled
	}
	v := judge(ctx, err)
	c.answered(ctx, v, err)
	if !sink.opened {
		writeStatus(w, httpStatus(v.code), v)
		return
	}
	sink.end(v)
}

func (s *sse) serve(ctx context.Context, c *call, r *http.Request, sink *sseSink) error {
	p, err := s.gate.check(ctx, c.procedure, r.Header)
	if err != nil {
		return err
	}
	c.principal = p
	req, err := subscribeRequest(r)
	if err != nil {
		return err
	}
	if err := s.rules.check(req); err != nil {
		return err
	}
	sink.at.start(req)
	return s.subscriber.Serve(WithPrincipal(ctx, p), p, req, sink)
}

// subscribeRequest reads the request from header and query: Last-Event-ID, maxBacklog and fresh. As in all REST calls, a name
// may also be written as in the proto, max_backlog, and one that there is not is refused.
func subscribeRequest(r *http.Request) (*parleyv1.SubscribeRequest, error) {
	req := &parleyv1.SubscribeRequest{}
	if err := parseEventID(r.Header.Get(lastEventID), req); err != nil {
		return nil, err
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, undecodable
	}
	if values, ok := query["max_backlog"]; ok {
		query["maxBacklog"] = append(query["maxBacklog"], values...)
		delete(query, "max_backlog")
	}
	for name, values := range query {
		if err := setParameter(req, name, values); err != nil {
			return nil, err
		}
	}
	return req, nil
}

func setParameter(req *parleyv1.SubscribeRequest, name string, values []string) (err error) {
	switch {
	case name != "maxBacklog" && name != "fresh":
		// Its name is not quoted: it may be a token, which does not belong into an address.
		return refusal.New(refusal.InvalidField, "This call has no parameters but maxBacklog and fresh.", "rule", "unknown")
	case len(values) != 1:
		return badParameter(name, "once")
	case name == "fresh":
		if req.Fresh, err = strconv.ParseBool(values[0]); err != nil {
			return badParameter(name, "bool")
		}
	default:
		n, err := strconv.ParseInt(values[0], 10, 32)
		if err != nil {
			return badParameter(name, "int32")
		}
		req.MaxBacklog = int32(n)
	}
	return nil
}

func badParameter(name, rule string) error {
	return refusal.New(refusal.InvalidField, "The parameter "+name+" cannot be read.", "field", name, "rule", rule)
}

// sseSink writes frames as server-sent events. Used by one goroutine.
type sseSink struct {
	w       http.ResponseWriter
	control *http.ResponseController
	at      positions
	buf     bytes.Buffer
	opened  bool
	broken  bool // the connection is
}

// Codec implements stream.Sink.
func (s *sseSink) Codec() wire.Codec { return wire.JSON }

// Send implements stream.Sink.
func (s *sseSink) Send(f *wire.Frame) error {
	data := f.Bytes()
	s.at.move(data)
	s.buf.Reset()
	s.buf.WriteString("id: ")
	s.buf.WriteString(s.at.eventID())
	s.buf.WriteString("\ndata: ")
	s.buf.Write(data) // JSON on one line
	s.buf.WriteString("\n\n")
	return s.write()
}

// end says why the stream ends, and when to come back where that was said.
func (s *sseSink) end(v verdict) {
	s.buf.Reset()
	if after := v.detail.GetMetadata()["retry_after_ms"]; after != "" {
		s.buf.WriteString("retry: " + after + "\n")
	}
	s.buf.WriteString("event: error\ndata: ")
	s.buf.Write(statusJSON(v))
	s.buf.WriteString("\n\n")
	_ = s.write()
}

func (s *sseSink) write() error {
	if !s.opened {
		s.opened = true
		h := s.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Accel-Buffering", "no") // some proxies gather answers up otherwise
		s.w.WriteHeader(http.StatusOK)
	}
	err := s.control.SetWriteDeadline(connDeadline(writeDeadline))
	if err == nil {
		_, err = s.w.Write(s.buf.Bytes())
	}
	if err == nil {
		err = s.control.Flush()
	}
	if err == nil {
		err = s.control.SetWriteDeadline(time.Time{})
	}
	s.broken = s.broken || err != nil
	return err
}
