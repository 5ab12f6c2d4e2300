package anycall

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/api/annotations"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// encoding is one way to put a call on the wire.
type encoding int

const (
	connectJSON encoding = iota
	connectProto
	grpcProto
	grpcWeb
	rest
	encodings // how many there are
)

func (e encoding) String() string {
	return [...]string{"connect json", "connect proto", "grpc", "grpc-web", "rest"}[e]
}

// wired is a call as it goes out. Spoilers change it.
type wired struct {
	encoding encoding
	method   protoreflect.MethodDescriptor
	verb     string
	path     string
	query    url.Values
	header   http.Header
	body     []byte // the message alone; without a prefix
	prefix   []byte // of gRPC and of streams; empty where the encoding has none
	tail     []byte // what comes after the message; only spoilers set it
	// how names what a spoiler did; empty for none.
	how string
	// broken is true where the call cannot be read any more, so that OK is wrong.
	broken bool
	// foreign is true where the spoiler left the protocol of the encoding: the answer is HTTP's, and not an rpc's.
	foreign bool
}

func streaming(m protoreflect.MethodDescriptor) bool { return m.IsStreamingServer() }

// onWire encodes a request; nil where the encoding has no form of it, such as JSON of a duration out of range.
func onWire(m protoreflect.MethodDescriptor, e encoding, req proto.Message) *wired {
	w := &wired{encoding: e, method: m, verb: http.MethodPost, header: http.Header{}, query: url.Values{},
		path: "/" + string(m.Parent().FullName()) + "/" + string(m.Name())}
	var err error
	switch e {
	case connectJSON:
		w.header.Set("Content-Type", "application/json")
		w.body, err = protojson.Marshal(req)
	case connectProto:
		w.header.Set("Content-Type", "application/proto")
		w.body, err = proto.Marshal(req)
	case grpcProto:
		w.header.Set("Content-Type", "application/grpc+proto")
		w.header.Set("Te", "trailers")
		w.body, err = proto.Marshal(req)
	case grpcWeb:
		w.header.Set("Content-Type", "application/grpc-web+proto")
		w.body, err = proto.Marshal(req)
	default:
		err = w.rest(req)
	}
	if err != nil {
		return nil
	}
	if streaming(m) && (e == connectJSON || e == connectProto) {
		w.header.Set("Content-Type", "application/connect+"+strings.TrimPrefix(w.header.Get("Content-Type"), "application/"))
	}
	if w.enveloped() {
		w.prefix = binary.BigEndian.AppendUint32([]byte{0}, uint32(len(w.body))) //nolint:gosec // small
	}
	return w
}

func (w *wired) enveloped() bool {
	return w.encoding == grpcProto || w.encoding == grpcWeb || w.encoding != rest && streaming(w.method)
}

func (w *wired) json() bool { return w.encoding == connectJSON || w.encoding == rest }

// longestLine is how long path and query, or a header, may be, in bytes, below what net/http refuses by itself.
const longestLine = 15 << 10

// rest puts a request into path, query and body as its annotation says.
func (w *wired) rest(req proto.Message) error {
	raw, err := protojson.Marshal(req)
	if err != nil {
		return err
	}
	var fields map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&fields); err != nil {
		return err
	}
	rule, _ := proto.GetExtension(w.method.Options(), annotations.E_Http).(*annotations.HttpRule)
	if rule.GetPattern() == nil { // the stream: server-sent events
		w.verb, w.path = http.MethodGet, "/v1/subscribe"
		if n, ok := fields["maxBacklog"]; ok {
			w.query.Set("maxBacklog", fmt.Sprint(n))
		}
		w.query.Set("fresh", strconv.FormatBool(fields["fresh"] == true))
		if epoch, ok := fields["epoch"].(string); ok && !strings.ContainsFunc(epoch, func(r rune) bool { return r < ' ' }) {
			w.header.Set("Last-Event-ID", epoch)
			w.foreign = w.foreign || len(epoch) > longestLine
		}
		return nil
	}
	for _, more := range rule.GetAdditionalBindings() {
		if _, ok := fields["peerUserId"]; ok {
			rule = more
		}
	}
	switch p := rule.GetPattern().(type) {
	case *annotations.HttpRule_Get:
		w.verb, w.path = http.MethodGet, p.Get
	case *annotations.HttpRule_Put:
		w.verb, w.path = http.MethodPut, p.Put
	case *annotations.HttpRule_Post:
		w.verb, w.path = http.MethodPost, p.Post
	case *annotations.HttpRule_Delete:
		w.verb, w.path = http.MethodDelete, p.Delete
	case *annotations.HttpRule_Patch:
		w.verb, w.path = http.MethodPatch, p.Patch
	}
	for i := range w.method.Input().Fields().Len() {
		f := w.method.Input().Fields().Get(i)
		if hole := "{" + string(f.Name()) + "}"; strings.Contains(w.path, hole) {
			value := ""
			if v, ok := fields[f.JSONName()]; ok {
				value = fmt.Sprint(v)
			}
			w.foreign = w.foreign || value == "" // another path
			w.path = strings.ReplaceAll(w.path, hole, url.PathEscape(value))
			delete(fields, f.JSONName())
		}
	}
	if rule.GetBody() == "*" {
		w.foreign = w.foreign || len(w.path) > longestLine
		w.header.Set("Content-Type", "application/json")
		w.body, err = json.Marshal(fields)
		return err
	}
	defer func() { w.foreign = w.foreign || len(w.path)+len(w.query.Encode()) > longestLine }()
	for name, value := range fields {
		switch v := value.(type) {
		case []any:
			for _, one := range v {
				w.query.Add(name, fmt.Sprint(one))
			}
		default:
			w.query.Set(name, fmt.Sprint(v))
		}
	}
	return nil
}

// outcome is what a call came to.
type outcome struct {
	ok     bool
	status int
	code   connect.Code // 0 where the answer was HTTP's
	reason string       // without its prefix; empty where there is no detail
	text   string
	body   []byte // of a unary answer that is OK, without prefix
}

func (o outcome) String() string {
	if o.ok {
		return "OK"
	}
	return fmt.Sprintf("HTTP %d, code %d %s, reason %q, text %q", o.status, o.code, o.code, o.reason, o.text)
}

// do makes the call. A stream counts as OK once it sends something that is no end; it is left then.
func (w *wired) do(ctx context.Context, hc *http.Client, base string) (outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	target := base + w.path
	if len(w.query) > 0 {
		target += "?" + w.query.Encode()
	}
	var body io.Reader
	if w.verb != http.MethodGet && w.verb != http.MethodDelete {
		body = bytes.NewReader(bytes.Join([][]byte{w.prefix, w.body, w.tail}, nil))
	}
	req, err := http.NewRequestWithContext(ctx, w.verb, target, body)
	if err != nil {
		return outcome{}, err
	}
	for name, values := range w.header {
		req.Header[name] = values
	}
	res, err := hc.Do(req)
	if err != nil {
		return outcome{}, err
	}
	defer func() { _ = res.Body.Close() }()
	o := outcome{status: res.StatusCode}
	if streaming(w.method) && res.StatusCode == http.StatusOK {
		return o.stream(w.encoding, res)
	}
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return outcome{}, err
	}
	return o.unary(w.encoding, res, raw)
}

func (o outcome) unary(e encoding, res *http.Response, raw []byte) (outcome, error) {
	switch {
	case strings.HasPrefix(res.Header.Get("Content-Type"), "application/grpc"):
		if e == grpcWeb && res.Header.Get("Grpc-Status") == "" {
			return o.webTrailers(raw)
		}
		trailer := res.Trailer
		if res.Header.Get("Grpc-Status") != "" {
			trailer = res.Header
		}
		return o.grpc(trailer, raw)
	case res.StatusCode == http.StatusOK:
		o.ok, o.body = true, raw
		return o, nil
	case e == rest:
		return o.status3(raw), nil
	default:
		return o.connect(raw), nil
	}
}

func (o outcome) stream(e encoding, res *http.Response) (outcome, error) {
	if e == rest {
		line := make([]byte, 12)
		n, err := io.ReadFull(res.Body, line)
		o.ok = err == nil && strings.HasPrefix(string(line[:n]), "id: ")
		if !o.ok {
			return o, fmt.Errorf("a stream of events began with %q (%w)", line[:n], err)
		}
		return o, nil
	}
	if res.Header.Get("Grpc-Status") != "" {
		return o.grpc(res.Header, nil)
	}
	prefix := make([]byte, 5)
	if _, err := io.ReadFull(res.Body, prefix); err != nil {
		if e == grpcProto {
			return o.grpc(res.Trailer, nil)
		}
		return o, fmt.Errorf("a stream ended without a word: %w", err)
	}
	payload := make([]byte, binary.BigEndian.Uint32(prefix[1:]))
	if _, err := io.ReadFull(res.Body, payload); err != nil {
		return o, err
	}
	switch {
	case prefix[0]&0x80 != 0:
		return o.webTrailers(slices.Concat(prefix, payload))
	case prefix[0]&0x02 != 0:
		var end struct {
			Error json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal(payload, &end); err != nil {
			return o, err
		}
		return o.connect(end.Error), nil
	}
	o.ok = true
	return o, nil
}

// webTrailers reads the frames of a gRPC-Web answer, the last of which holds the trailers.
func (o outcome) webTrailers(raw []byte) (outcome, error) {
	var message []byte
	for len(raw) >= 5 {
		n := int(binary.BigEndian.Uint32(raw[1:]))
		if n > len(raw)-5 {
			return o, fmt.Errorf("a frame of %d bytes in an answer of %d", n, len(raw))
		}
		flags, frame := raw[0], raw[5:5+n]
		raw = raw[5+n:]
		if flags&0x80 == 0 {
			message = frame
			continue
		}
		trailer := http.Header{}
		for line := range strings.SplitSeq(string(frame), "\r\n") {
			if name, value, ok := strings.Cut(line, ":"); ok {
				trailer.Add(name, strings.TrimSpace(value))
			}
		}
		return o.grpc(trailer, append(make([]byte, 5), message...))
	}
	return o, fmt.Errorf("a gRPC-Web answer without trailers")
}

func (o outcome) grpc(trailer http.Header, raw []byte) (outcome, error) {
	n, err := strconv.ParseUint(trailer.Get("Grpc-Status"), 10, 8)
	if err != nil {
		return o, fmt.Errorf("no grpc-status: %w", err)
	}
	if n == 0 {
		o.ok = true
		if len(raw) >= 5 {
			o.body = raw[5:]
		}
		return o, nil
	}
	o.code, o.text = connect.Code(n), trailer.Get("Grpc-Message")
	packed, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(trailer.Get("Grpc-Status-Details-Bin"), "="))
	if err != nil {
		return o, err
	}
	var st statuspb.Status
	if err := proto.Unmarshal(packed, &st); err != nil {
		return o, err
	}
	for _, d := range st.GetDetails() {
		var detail parleyv1.ErrorDetail
		if d.UnmarshalTo(&detail) == nil {
			o.reason = reasonName(&detail)
		}
	}
	return o, nil
}

func (o outcome) connect(raw []byte) outcome {
	var answer struct {
		Code    connect.Code `json:"code"`
		Message string       `json:"message"`
		Details []struct {
			Value string `json:"value"`
		} `json:"details"`
	}
	if json.Unmarshal(raw, &answer) != nil {
		o.text = string(raw)
		return o
	}
	o.code, o.text = answer.Code, answer.Message
	for _, d := range answer.Details {
		var detail parleyv1.ErrorDetail
		packed, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(d.Value, "="))
		if err == nil && proto.Unmarshal(packed, &detail) == nil {
			o.reason = reasonName(&detail)
		}
	}
	return o
}

// status3 reads an error of REST: google.rpc.Status as JSON.
func (o outcome) status3(raw []byte) outcome {
	var answer struct {
		Code    connect.Code `json:"-"`
		Number  uint32       `json:"code"`
		Message string       `json:"message"`
		Details []struct {
			Reason string `json:"reason"`
		} `json:"details"`
	}
	if json.Unmarshal(raw, &answer) != nil {
		o.text = string(raw)
		return o
	}
	o.code, o.text = connect.Code(answer.Number), answer.Message
	for _, d := range answer.Details {
		o.reason = strings.TrimPrefix(d.Reason, "ERROR_REASON_")
	}
	return o
}

func reasonName(d *parleyv1.ErrorDetail) string {
	return strings.TrimPrefix(d.GetReason().String(), "ERROR_REASON_")
}
