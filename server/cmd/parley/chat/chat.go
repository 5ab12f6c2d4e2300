package chat

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
	"github.com/parley-im/parley/server/session"
)

// Config says who chats where.
type Config struct {
	// Server is the address, such as http://127.0.0.1:8080.
	Server string
	// User is who chats. The token decides; this is for showing and for finding the direct session.
	User string
	// Peer is the other user of a direct session; empty for SessionID.
	Peer string
	// SessionID is the session to chat in when Peer is empty.
	SessionID uuid.UUID
	// Token gets a token for the user's device. It is asked again when a token has expired. Errors of calls may pass and
	// make it be asked again, too; any other error is final.
	Token func(context.Context) (string, error)
	// History is how many messages are shown at the start, at most 500; 20 when 0.
	History int
	// Scripted says that the input is not a person's. At its end Run sends what is waiting before it returns; and it
	// returns an error when a message was refused, since nobody may have seen the note about it.
	Scripted bool
}

const (
	// callTimeout bounds each short call.
	callTimeout = 10 * time.Second
	// housekeeping is how often acks and read marks are sent and holes looked for.
	housekeeping = 300 * time.Millisecond
)

// Chat is one conversation on the screen. Make it with New and call Run once.
type Chat struct {
	cfg       Config
	ui        UI
	api       *api
	out       *outbox
	sessionID string
	calls     chan func()
	wg        sync.WaitGroup

	// The following is Run's own.
	ready     bool // the first page of history was shown
	connected bool
	epoch     string
	thread    thread
	oldest    int64 // lowest seq shown; 0 when nothing was
	loading   bool  // a page of history is on its way
	loadAfter time.Time
	fatal     error // why the chat cannot go on
	typing    typing
	unsent    int      // messages whose fate is not certain, and commands under way
	delayed   bool     // the message that is being sent did not get through at the first try
	refusals  int      // messages that were refused
	later     []func() // commands to run when nothing is unsent
	quitting  bool
	acks      positions
	reads     positions
	receipts  receipts
	status    Status // as shown

	// at is where the stream resumes; the stream's goroutine reads it.
	atMu sync.Mutex
	at   *parleyv1.SubscribeRequest
}

// New prepares a chat.
func New(cfg Config, ui UI) *Chat {
	if cfg.History <= 0 {
		cfg.History = 20
	}
	id := cfg.SessionID
	if cfg.Peer != "" {
		id, _, _ = session.DirectID(cfg.User, cfg.Peer)
	}
	api := newAPI(cfg.Server, &credential{get: cfg.Token})
	return &Chat{cfg: cfg, ui: ui, api: api, calls: make(chan func()), sessionID: id.String(),
		out: &outbox{api: api, waiting: make(chan *parleyv1.SendMessageRequest, maxOutbox)}}
}

// Run chats until /quit, the end of the input, the end of ctx, or an error that leaves no hope.
// It is an error, too, when something that was entered is left unsent.
func (c *Chat) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer c.wg.Wait()
	defer cancel()
	c.out.delayed = func(why string) { c.do(ctx, func() { c.setDelayed(why) }) }
	c.out.sent = func(req *parleyv1.SendMessageRequest, res *parleyv1.SendMessageResponse) {
		c.do(ctx, func() { c.sent(req, res) })
	}
	c.out.refused = func(p problem) { c.do(ctx, func() { c.refused(p) }) }
	ended := make(chan error, 1)
	c.wg.Go(func() { ended <- c.follow(ctx) })
	err := c.loop(ctx, ended)
	c.leave(ctx)
	if err != nil {
		err = errors.New(clean(problemOf(err).text))
	}
	return errors.Join(err, c.leftOver())
}

// follow brings the chat up and keeps it so.
func (c *Chat) follow(ctx context.Context) error {
	if err := c.start(ctx); err != nil {
		return err
	}
	c.wg.Go(func() { c.out.run(ctx) })
	return c.subscription(ctx).run(ctx)
}

// leftOver is the error that says what was not sent, nil when all was.
func (c *Chat) leftOver() error {
	n := c.unsent
	if c.cfg.Scripted {
		n += c.refusals
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("not sent: %d of what you entered", n)
}

// do runs fn on Run's goroutine, and returns when it has run or ctx has ended.
func (c *Chat) do(ctx context.Context, fn func()) {
	done := make(chan struct{})
	select {
	case c.calls <- func() { defer close(done); fn() }:
		<-done
	case <-ctx.Done():
	}
}

// beside runs a call on a goroutine of its own, bounded by callTimeout, and then done on Run's.
func (c *Chat) beside(ctx context.Context, call func(context.Context) error, done func(error)) {
	c.wg.Go(func() {
		bounded, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		err := call(bounded)
		c.do(ctx, func() { done(err) })
	})
}

func (c *Chat) loop(ctx context.Context, ended <-chan error) error {
	tick := time.NewTicker(housekeeping)
	defer tick.Stop()
	lines := c.ui.Lines()
	for {
		if c.quitting && c.unsent == 0 && (c.ready || lines != nil) {
			return nil
		}
		if c.fatal != nil {
			return c.fatal
		}
		select {
		case fn := <-c.calls:
			fn()
		case line, ok := <-lines:
			if !ok {
				if err := c.ui.Err(); err != nil || !c.cfg.Scripted {
					return err // nil: somebody pressed Ctrl-C or Ctrl-D
				}
				lines, c.quitting = nil, true
				continue
			}
			if err := c.entered(ctx, line); err != nil {
				if errors.Is(err, errQuit) {
					return nil
				}
				return err
			}
		case <-c.ui.Keys():
			c.tellTyping(ctx)
		case <-tick.C:
			c.keepHouse(ctx)
		case err := <-ended:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}
