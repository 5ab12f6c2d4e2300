package contract

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/gen/parley/v1/parleyv1connect"
)

// gopher is a device in Go: a stream that reconnects and resumes, the log of each session in order, and an outbox.
// Everything below mu; what the server is asked, it is asked without it.
type gopher struct {
	http      *http.Client
	relations parleyv1connect.RelationServiceClient
	devices   parleyv1connect.DeviceServiceClient
	presence  parleyv1connect.PresenceServiceClient
	groups    parleyv1connect.SessionServiceClient
	messages  parleyv1connect.MessageServiceClient
	states    parleyv1connect.StateServiceClient
	sync      parleyv1connect.SyncServiceClient

	ctx  context.Context // of this opening
	end  context.CancelFunc
	work sync.WaitGroup

	mu         sync.Mutex
	tokens     []string
	me         string
	kept       *kept
	connection string
	reason     string
	running    bool
	stop       context.CancelFunc // of this run
	problems   []string
	resets     []string
	acked      map[string]int64
	maxBacklog int32
	peers      map[string]string // of direct sessions
	watched    []string          // whose presence is wanted
	stir       chan struct{}     // something waits to be sent
}

// kept is what a device has of the log; with a store it outlives the device.
type kept struct {
	epoch    string
	sessions map[string]*journal
	outbox   []*outgoing
}

// journal is a session's log as this device knows it.
type journal struct {
	open     bool  // it is known where the device stands
	at       int64 // last seq shown, or left out with notice
	log      []*parleyv1.Message
	held     map[int64]*parleyv1.Message
	hidden   map[int64]bool // deleted for the user
	hiddenTo int64
	shown    []string // entries as they were when shown, since the device was opened
	skipped  []string
	typing   map[string]time.Time
	members  bool
	info     *parleyv1.Session
}

// outgoing is a message that waits to be sent, or was refused.
type outgoing struct {
	req     *parleyv1.SendMessageRequest
	session string
	failed  string
	done    chan struct{}
	seq     int64
	err     error
}

func newGopher(baseURL string, tokens []string, k *kept) *gopher {
	g := &gopher{tokens: tokens, kept: k, connection: "offline", acked: map[string]int64{}, peers: map[string]string{}, stir: make(chan struct{}, 1)}
	g.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8}}
	opts := connect.WithInterceptors(bearer{g})
	g.relations = parleyv1connect.NewRelationServiceClient(g.http, baseURL, opts)
	g.devices = parleyv1connect.NewDeviceServiceClient(g.http, baseURL, opts)
	g.presence = parleyv1connect.NewPresenceServiceClient(g.http, baseURL, opts)
	g.groups = parleyv1connect.NewSessionServiceClient(g.http, baseURL, opts)
	g.messages = parleyv1connect.NewMessageServiceClient(g.http, baseURL, opts)
	g.states = parleyv1connect.NewStateServiceClient(g.http, baseURL, opts)
	g.sync = parleyv1connect.NewSyncServiceClient(g.http, baseURL, opts)
	g.ctx, g.end = context.WithCancel(context.Background())
	for _, j := range k.sessions {
		j.shown, j.skipped = nil, nil
	}
	g.work.Go(g.sendAll)
	return g
}

// start connects, and stays connected until halt or an error that does not pass.
func (g *gopher) start() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running {
		return
	}
	ctx, cancel := context.WithCancel(g.ctx)
	g.running, g.stop, g.connection, g.reason = true, cancel, "connecting", ""
	g.work.Go(func() {
		reason := g.run(ctx)
		g.mu.Lock()
		defer g.mu.Unlock()
		g.running, g.connection, g.reason = false, "offline", reason
	})
}

// halt disconnects, after it has told the server what was seen.
func (g *gopher) halt() {
	ctx, cancel := context.WithTimeout(g.ctx, 2*time.Second)
	defer cancel()
	if g.isLive() {
		g.ack(ctx)
	}
	g.mu.Lock()
	stop := g.stop
	g.mu.Unlock()
	if stop != nil {
		stop()
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		g.mu.Lock()
		running := g.running
		g.mu.Unlock()
		if !running {
			return
		}
	}
}

// close ends the device.
func (g *gopher) close() {
	g.halt()
	g.end()
	g.work.Wait()
	g.http.CloseIdleConnections()
}

func (g *gopher) isLive() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.connection == "live"
}

// run keeps streams open; it returns why no other may be opened.
func (g *gopher) run(ctx context.Context) string {
	refused := false
	for ctx.Err() == nil {
		err := g.once(ctx)
		reason := reasonOf(err)
		if g.anotherToken(reason) && !refused {
			refused = true
		} else if final(reason) {
			return reason
		} else {
			refused = false
		}
		g.mu.Lock()
		g.connection, g.reason = "connecting", reason
		g.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(30 * time.Millisecond):
		}
	}
	return ""
}

// once runs one stream to its end.
func (g *gopher) once(parent context.Context) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	silence := 15 * time.Second
	watch := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer watch.Stop()
	stream, err := g.sync.Subscribe(ctx, g.position())
	if err != nil {
		return cmpErr(context.Cause(ctx), err)
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		watch.Stop()
		for _, ev := range stream.Msg().GetEvents() {
			if every := ev.GetOpened().GetHeartbeatInterval().AsDuration(); every > 0 {
				silence = 2*every + time.Second
			}
			g.mu.Lock()
			g.take(ev)
			g.mu.Unlock()
		}
		if err := g.fill(ctx); err != nil {
			return err
		}
		g.ack(ctx)
		watch.Reset(silence)
	}
	if err := stream.Err(); err != nil {
		return cmpErr(context.Cause(ctx), err)
	}
	return connect.NewError(connect.CodeUnavailable, errors.New("the stream ended"))
}

// position is where to resume.
func (g *gopher) position() *parleyv1.SubscribeRequest {
	g.mu.Lock()
	defer g.mu.Unlock()
	req := &parleyv1.SubscribeRequest{Epoch: g.kept.epoch, MaxBacklog: g.maxBacklog}
	for id, j := range g.kept.sessions {
		if j.open {
			req.Cursors = append(req.Cursors, &parleyv1.Cursor{SessionId: id, Seq: j.at})
		}
	}
	return req
}

// ack tells the server what was shown, as far as it does not know.
func (g *gopher) ack(ctx context.Context) {
	g.mu.Lock()
	req := &parleyv1.AckRequest{Epoch: g.kept.epoch}
	told := map[string]int64{}
	for id, j := range g.kept.sessions {
		if j.open && j.at > g.acked[id] {
			told[id] = j.at
			req.Acks = append(req.Acks, &parleyv1.Cursor{SessionId: id, Seq: j.at})
		}
	}
	g.mu.Unlock()
	if len(told) == 0 {
		return
	}
	if _, err := g.sync.Ack(ctx, req); err == nil {
		g.mu.Lock()
		maps.Copy(g.acked, told)
		g.mu.Unlock()
	}
}

// sendAll sends what waits, one after the other, each until the server has said yes or no.
func (g *gopher) sendAll() {
	for g.ctx.Err() == nil {
		o := g.next()
		if o == nil || !g.isLive() {
			select {
			case <-g.ctx.Done():
			case <-g.stir:
			case <-time.After(20 * time.Millisecond): // live again
			}
			continue
		}
		res, err := g.messages.SendMessage(g.ctx, o.req)
		if reason := reasonOf(err); err != nil && (!final(reason) || g.anotherToken(reason)) {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		g.mu.Lock()
		if err != nil {
			o.failed, o.err = reasonOf(err), err
		} else {
			o.seq = res.GetSeq()
			g.kept.outbox = slices.DeleteFunc(g.kept.outbox, func(x *outgoing) bool { return x == o })
			g.entry(&parleyv1.Message{SessionId: res.GetSessionId(), Seq: res.GetSeq(), SenderId: g.me,
				MessageId: res.GetMessageId(), Content: o.req.GetContent(), ReplyToSeq: o.req.GetReplyToSeq()})
		}
		close(o.done)
		g.mu.Unlock()
		_ = g.fill(g.ctx)
	}
}

// next is the first message that waits.
func (g *gopher) next() *outgoing {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, o := range g.kept.outbox {
		if o.failed == "" {
			return o
		}
	}
	return nil
}

// anotherToken drops a token that was refused; it reports whether there is another.
func (g *gopher) anotherToken(reason string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if (reason != "TOKEN_INVALID" && reason != "TOKEN_EXPIRED") || len(g.tokens) < 2 {
		return false
	}
	g.tokens = g.tokens[1:]
	return true
}

// bearer puts the device's token on every call.
type bearer struct{ g *gopher }

func (b bearer) token() string {
	b.g.mu.Lock()
	defer b.g.mu.Unlock()
	return "Bearer " + b.g.tokens[0]
}

func (b bearer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		req.Header().Set("Authorization", b.token())
		return next(ctx, req)
	}
}

func (b bearer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set("Authorization", b.token())
		return conn
	}
}

func (b bearer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}
