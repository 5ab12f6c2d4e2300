package chat

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	parleyv1 "github.com/parley-im/parley/gen/parley/v1"
)

// receipts tells who has read the last own message. Nothing announces that others read, so the server is asked: soon after
// something happened, a few times ever more seldom, and then not until something happens again.
type receipts struct {
	own   []int64  // seqs of own messages that can be recalled, ascending
	seq   int64    // the message to ask about; 0 when all is known
	known []string // who has read it, as told
	tries int      // since something happened
	next  time.Time
	asked time.Time
	busy  bool
}

const (
	// maxOwn is how many own messages are remembered.
	maxOwn = 256
	// receiptsEvery is the least time between two questions; each try without news doubles it.
	receiptsEvery = 2 * time.Second
	// receiptsTries is how often is asked after something happened: for about a minute.
	receiptsTries = 5
)

// saw takes an entry that was shown.
func (r *receipts) saw(m *parleyv1.Message, user string, now time.Time) {
	if recall := m.GetContent().GetRecall(); recall != nil {
		r.recalled(recall.GetSeq())
	}
	mine := m.GetSenderId() == user && !m.GetIsDeleted() && m.GetType() <= parleyv1.MessageType_MESSAGE_TYPE_CUSTOM
	if mine {
		r.own = append(r.own, m.GetSeq())
		r.own = r.own[max(0, len(r.own)-maxOwn):]
		r.seq, r.known = m.GetSeq(), nil
	}
	r.stir(now)
}

// recalled forgets an own message.
func (r *receipts) recalled(seq int64) {
	r.own = slices.DeleteFunc(r.own, func(s int64) bool { return s == seq })
	if r.seq == seq {
		r.seq = 0
	}
}

// lastOwn returns the seq of the last own message that was not recalled; 0 when there is none.
func (r *receipts) lastOwn() int64 {
	if len(r.own) == 0 {
		return 0
	}
	return r.own[len(r.own)-1]
}

// stir notes that something happened, after which others may have read.
func (r *receipts) stir(now time.Time) {
	r.tries = 0
	r.next = r.asked.Add(receiptsEvery)
	if soon := now.Add(receiptsEvery / 4); r.next.Before(soon) {
		r.next = soon
	}
}

func (r *receipts) due(now time.Time) bool {
	return r.seq > 0 && !r.busy && r.tries < receiptsTries && now.After(r.next)
}

// news returns the readers that were not known yet.
func (r *receipts) news(readers []*parleyv1.Reader) (fresh []string) {
	for _, reader := range readers {
		if name := clean(reader.GetUserId()); !slices.Contains(r.known, name) {
			fresh = append(fresh, name)
		}
	}
	r.known = append(r.known, fresh...)
	return fresh
}

// ask notes that the server is asked.
func (r *receipts) ask(now time.Time) {
	r.asked = now
	r.next = now.Add(receiptsEvery << r.tries)
	r.tries++
}

func (c *Chat) askReaders(ctx context.Context) {
	r := &c.receipts
	r.ask(time.Now())
	r.busy = true
	seq := r.seq
	var page *parleyv1.ListReadersResponse
	c.beside(ctx, func(ctx context.Context) (err error) {
		page, err = c.api.states.ListReaders(ctx, &parleyv1.ListReadersRequest{SessionId: c.sessionID, Seq: seq})
		return err
	}, func(err error) {
		r := &c.receipts
		r.busy = false
		if err != nil || r.seq != seq {
			return
		}
		fresh := r.news(page.GetReaders())
		if len(fresh) == 0 {
			return
		}
		c.ui.Note(fmt.Sprintf("✓✓ #%d read by %s", seq, strings.Join(fresh, ", ")))
		if c.cfg.Peer != "" {
			r.seq = 0 // nobody else can
		}
	})
}
