package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	// Token gets a token for the user's device. It is asked again when a token has expired.
	Token func(context.Context) (string, error)
	// History is how many messages are shown at the start; 20 when 0.
	History int
}

const (
	// callTimeout bounds each short call.
	callTimeout = 10 * time.Second
	// housekeeping is how often acks and read marks are sent and holes looked for.
	housekeeping = 300 * time.Millisecond
	// holePatience is how long a message may be held back by a missing one before that is fetched.
	holePatience = 2 * time.Second
	// typingLasts is how long somebody counts as typing without another sign; the proto says so.
	typingLasts = 10 * time.Second
	// typingEvery is how often typing is told.
	typingEvery = 4 * time.Second
	// goodbye bounds the last acks.
	goodbye = 2 * time.Second
)

// Chat is one conversation on the screen. Make it with New and call Run once.
type Chat struct {
	cfg   Config
	ui    UI
	api   *api
	out   *outbox
	calls chan func()
	wg    sync.WaitGroup

	// The following is Run's own.
	epoch     string
	sessionID string
	thread    thread
	oldest    int64 // lowest seq shown
	typing    map[string]time.Time
	typingNow []string  // as shown
	told      time.Time // when typing was last told
	unsent    int       // messages whose fate is not certain, and recalls under way
	later     []func()  // to be done when nothing is unsent
	acks      positions
	reads     positions
	readers   receipts
	connected bool
	filling   bool

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
	c := &Chat{cfg: cfg, ui: ui, api: newAPI(cfg.Server, &credential{get: cfg.Token}), calls: make(chan func()),
		sessionID: id.String(), typing: make(map[string]time.Time), at: &parleyv1.SubscribeRequest{}}
	c.out = &outbox{api: c.api, waiting: make(chan *parleyv1.SendMessageRequest, maxOutbox)}
	return c
}

// Run chats until the input ends and everything entered is sent, /quit, the end of ctx, or an error that leaves no hope.
func (c *Chat) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer c.wg.Wait()
	defer cancel()
	if err := c.start(ctx); err != nil {
		return err
	}
	c.out.delayed = func(why string) { c.do(ctx, func() { c.ui.Note("not sent yet, trying again: " + clean(why)) }) }
	c.out.sent = func(req *parleyv1.SendMessageRequest, res *parleyv1.SendMessageResponse) {
		c.do(ctx, func() { c.sent(req, res) })
	}
	c.out.refused = func(_ *parleyv1.SendMessageRequest, p problem) { c.do(ctx, func() { c.refused(p) }) }
	ended := make(chan error, 1)
	c.wg.Go(func() { c.out.run(ctx) })
	c.wg.Go(func() { ended <- c.subscription(ctx).run(ctx) })
	err := c.loop(ctx, ended)
	c.leave(ctx)
	return err
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

var errQuit = errors.New("quit")

func (c *Chat) loop(ctx context.Context, ended <-chan error) error {
	tick := time.NewTicker(housekeeping)
	defer tick.Stop()
	lines := c.ui.Lines()
	for {
		if lines == nil && c.unsent == 0 {
			return nil
		}
		select {
		case fn := <-c.calls:
			fn()
		case line, ok := <-lines:
			if !ok {
				lines = nil
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

// start signs in, registers the device and shows the latest messages. A server that is away is waited for.
func (c *Chat) start(ctx context.Context) error {
	var pause backoff
	for first := true; ; first = false {
		err := c.load(ctx)
		if err == nil {
			return nil
		}
		p := problemOf(err)
		if !p.again || ctx.Err() != nil {
			return fmt.Errorf("%s", p.text)
		}
		if first {
			c.ui.Note("waiting for " + c.cfg.Server + ": " + clean(p.text))
		}
		if !c.api.recovered(ctx, p, &pause) {
			return fmt.Errorf("%s", p.text)
		}
	}
}

func (c *Chat) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := c.api.token.refresh(ctx); err != nil {
		return err
	}
	if _, err := c.api.devices.RegisterDevice(ctx, &parleyv1.RegisterDeviceRequest{
		Platform: parleyv1.DevicePlatform_DEVICE_PLATFORM_DESKTOP, DisplayName: "parley chat"}); err != nil {
		return err
	}
	page, err := c.api.messages.ListMessages(ctx, &parleyv1.ListMessagesRequest{SessionId: c.sessionID,
		Limit: int32(c.cfg.History)}) //nolint:gosec // the server bounds it
	if err != nil {
		// A direct session comes into being with its first message.
		if c.cfg.Peer != "" && problemOf(err).reason == parleyv1.ErrorReason_ERROR_REASON_SESSION_UNAVAILABLE {
			c.ui.Note("no messages with " + clean(c.cfg.Peer) + " yet: write the first (/help tells more)")
			return nil
		}
		return err
	}
	if list := page.GetMessages(); len(list) > 0 {
		c.thread.skip(list[0].GetSeq() - 1)
		c.oldest = list[0].GetSeq()
		if page.GetHasMore() {
			c.ui.Note("/older shows earlier messages")
		}
		for _, m := range list {
			c.thread.add(m, time.Now())
		}
		c.show()
	}
	return nil
}

// show shows what is next, as far as it is there.
func (c *Chat) show() {
	for {
		m, ok := c.thread.next()
		if !ok {
			break
		}
		c.ui.Message(lineOf(m, c.cfg.User))
		if c.oldest == 0 {
			c.oldest = m.GetSeq()
		}
		if m.GetSenderId() == c.cfg.User {
			c.readers.own(m)
		} else {
			c.reads.set(c.sessionID, m.GetSeq())
			delete(c.typing, m.GetSenderId())
		}
	}
	c.thread.wait(time.Now())
	c.acks.set(c.sessionID, c.thread.shown)
	c.stand()
	c.showTyping()
}

// stand notes where the stream resumes.
func (c *Chat) stand() {
	at := &parleyv1.SubscribeRequest{}
	if c.thread.shown > 0 {
		at.Cursors = []*parleyv1.Cursor{{SessionId: c.sessionID, Seq: c.thread.shown}}
		at.Epoch = c.epoch
	}
	c.atMu.Lock()
	defer c.atMu.Unlock()
	c.at = at
}

func (c *Chat) subscription(ctx context.Context) *subscription {
	return &subscription{api: c.api,
		at: func() *parleyv1.SubscribeRequest {
			c.atMu.Lock()
			defer c.atMu.Unlock()
			return c.at
		},
		events: func(evs []*parleyv1.Event) {
			c.do(ctx, func() {
				for _, ev := range evs {
					c.event(ev)
				}
				c.show()
			})
		},
		up: func() { c.do(ctx, func() { c.setConnected(true, "") }) },
		down: func(why string) {
			c.do(ctx, func() { c.setConnected(false, why) })
		},
	}
}

func (c *Chat) setConnected(on bool, why string) {
	switch {
	case on && !c.connected:
		c.ui.Note("connected")
	case !on && c.connected:
		c.ui.Note("connection lost, trying again: " + clean(why))
	}
	c.connected = on
}

// event takes one event of the stream.
func (c *Chat) event(ev *parleyv1.Event) {
	switch e := ev.GetKind().(type) {
	case *parleyv1.Event_Opened:
		c.epoch = e.Opened.GetEpoch()
	case *parleyv1.Event_Message:
		if e.Message.GetSessionId() != c.sessionID {
			c.acks.set(e.Message.GetSessionId(), e.Message.GetSeq()) // another conversation: it only is received
			return
		}
		c.thread.add(e.Message, time.Now())
	case *parleyv1.Event_Skipped:
		c.skipped(e.Skipped)
	case *parleyv1.Event_Signal:
		c.signal(e.Signal)
	case *parleyv1.Event_Resync:
		c.resync(e.Resync)
	case *parleyv1.Event_Session, *parleyv1.Event_State, *parleyv1.Event_Relation, *parleyv1.Event_CaughtUp,
		*parleyv1.Event_Heartbeat:
	}
}

func (c *Chat) skipped(s *parleyv1.Skipped) {
	if s.GetSessionId() != c.sessionID || s.GetToSeq() <= c.thread.shown {
		return
	}
	c.show()
	c.ui.Note(fmt.Sprintf("messages %d to %d are not shown", max(s.GetFromSeq(), c.thread.shown+1), s.GetToSeq()))
	c.thread.skip(s.GetToSeq())
}

func (c *Chat) signal(s *parleyv1.SignalEvent) {
	t, ok := s.GetSignal().GetKind().(*parleyv1.Signal_Typing)
	if !ok || s.GetSessionId() != c.sessionID || s.GetSenderId() == c.cfg.User {
		return
	}
	if t.Typing.GetIsTyping() {
		c.typing[s.GetSenderId()] = time.Now()
	} else {
		delete(c.typing, s.GetSenderId())
	}
	c.showTyping()
}

// resync starts afresh, as the server asks for.
func (c *Chat) resync(r *parleyv1.Resync) {
	if r.GetSessionId() != "" && r.GetSessionId() != c.sessionID {
		return
	}
	c.ui.Note("the server asks to start afresh: messages come again")
	c.thread, c.oldest, c.epoch = thread{}, 0, r.GetEpoch()
	c.acks, c.reads, c.readers = positions{}, positions{}, receipts{}
	c.stand()
}

func (c *Chat) showTyping() {
	var names []string
	for name, at := range c.typing {
		if time.Since(at) < typingLasts {
			names = append(names, clean(name))
		} else {
			delete(c.typing, name)
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, c.typingNow) {
		c.typingNow = names
		c.ui.Typing(names)
	}
}

// sent takes the answer to an own message, which takes its place in the live stream.
func (c *Chat) sent(req *parleyv1.SendMessageRequest, res *parleyv1.SendMessageResponse) {
	if c.epoch == "" {
		c.epoch = res.GetEpoch()
	}
	c.thread.add(&parleyv1.Message{SessionId: res.GetSessionId(), Seq: res.GetSeq(), MessageId: res.GetMessageId(),
		SenderId: c.cfg.User, Content: req.GetContent(), CreatedAt: res.GetCreatedAt(),
		Type: parleyv1.MessageType_MESSAGE_TYPE_TEXT}, time.Now())
	c.show()
	c.settled()
}

// settled notes that the fate of something sent is certain.
func (c *Chat) settled() {
	c.unsent--
	if c.unsent > 0 {
		return
	}
	later := c.later
	c.later = nil
	for _, fn := range later {
		fn()
	}
}

func (c *Chat) refused(p problem) {
	text := "not sent: " + clean(p.text)
	if p.reason == parleyv1.ErrorReason_ERROR_REASON_RECIPIENT_UNAVAILABLE {
		text += " (users are known to the server once they have signed in)"
	}
	c.ui.Note(text)
	c.settled()
}
