package storage

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/committer"
	"github.com/parley-im/parley/server/message"
	"github.com/parley-im/parley/server/refusal"
	"github.com/parley-im/parley/server/session"
)

// knownDirect bounds how many direct sessions a node remembers to exist, 16 bytes and some overhead each.
const knownDirect = 100_000

// Messages writes and reads the log.
type Messages struct {
	*DB
	Sessions

	// direct holds the ids of direct sessions that are known to exist. Sessions are never deleted.
	direct *lru.Cache[uuid.UUID, struct{}]
	// maxSessions is how many sessions a user may be in.
	maxSessions int
}

// NewMessages returns the log's adapter. A user may be in session.MaxSessions sessions, unless LimitSessions says otherwise.
func NewMessages(db *DB) *Messages {
	direct, err := lru.New[uuid.UUID, struct{}](knownDirect)
	if err != nil { // only for a size below 1
		panic(err) //nolint:forbidigo // only a bug here
	}
	return &Messages{DB: db, Sessions: Sessions{db}, direct: direct, maxSessions: session.MaxSessions}
}

// LimitSessions sets how many sessions a user may be in, from 1 to session.MaxMaxSessions; to be called before anything is
// sent.
func (s *Messages) LimitSessions(most int) { s.maxSessions = most }

// Forget drops what is remembered of direct sessions: the database may have lost some.
func (s *Messages) Forget() { s.direct.Purge() }

// WithLog implements committer.Store.
func (s *Messages) WithLog(ctx context.Context, id uuid.UUID, fn session.Change) ([]message.Entry, string, error) {
	return s.withLog(ctx, id, fn)
}

// Append implements committer.Store: all steps of a group commit travel in one pipeline, which PostgreSQL runs as one
// transaction that ends with the pipeline's sync. Under READ COMMITTED each step has a snapshot of its own, so the second
// sees all that was committed before the first got its locks.
func (s *Messages) Append(ctx context.Context, drafts []message.Draft, now time.Time) ([]committer.Outcome, error) {
	now = now.UTC().Truncate(time.Microsecond) // what timestamptz keeps, so that first and repeated answers are equal
	for try := 1; ; try++ {
		out, err := s.appendOnce(ctx, drafts, now)
		if err == nil || try == maxTries || !Retryable(err) {
			return out, Fault(err)
		}
	}
}

func (s *Messages) appendOnce(ctx context.Context, drafts []message.Draft, now time.Time) ([]committer.Outcome, error) {
	var batch pipeline
	made := s.queueMake(ctx, &batch, drafts, now)
	order := bySession(drafts)
	_, queued := s.q.MessageAppendBatch(ctx, &batch, appendParams(drafts, order, now))
	batch.queued(queued)
	if len(made.ids) > 0 {
		batch.queued(s.q.SessionDropUnused(ctx, &batch, sqlc.SessionDropUnusedParams{SessionIds: made.ids, Now: now}))
	}

	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	br := conn.SendBatch(ctx, &batch.Batch)
	if len(made.ids) > 0 {
		if err := br.QueryRow().Scan(&made.full.LowFull, &made.full.HighFull); err != nil {
			return nil, errors.Join(err, br.Close())
		}
	}
	var answer sqlc.MessageAppendBatchRow
	err = br.QueryRow().Scan(&answer.Verdicts, &answer.Seqs, &answer.CreatedAts, &answer.Relaxed)
	if err == nil && len(made.ids) > 0 {
		_, err = br.Exec()
	}
	// Close reads up to the sync: only without an error there is the transaction committed.
	if err := errors.Join(err, br.Close()); err != nil {
		return nil, err
	}
	out, err := outcomes(drafts, order, answer, epochOf(conn.Conn()))
	if err == nil && len(made.ids) > 0 {
		err = made.tell(drafts, out)
	}
	if err != nil {
		return nil, err
	}
	// Only what took a message certainly exists: a pair that may not talk was given no session, and may get one later.
	for i, d := range drafts {
		if d.Peer != "" && out[i].Err == nil {
			s.direct.Add(d.SessionID, struct{}{})
		}
	}
	return out, nil
}

// bySession returns the places of drafts in the order in which they go to PostgreSQL: by session id, which is the order of
// the locks, and within a session as they came.
func bySession(drafts []message.Draft) []int {
	order := make([]int, len(drafts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return bytes.Compare(drafts[a].SessionID[:], drafts[b].SessionID[:])
	})
	return order
}

// appendParams is the batch as parley_append wants it: sessions and senders once each, items by their places in them, which
// count from 1.
func appendParams(drafts []message.Draft, order []int, now time.Time) sqlc.MessageAppendBatchParams {
	type sender struct{ user, device string }
	n := len(drafts)
	senders := make(map[sender]int32, n)
	var last []int // of each sender, the place in Lasts
	p := sqlc.MessageAppendBatchParams{AppendedAt: now,
		SessionIds: make([]uuid.UUID, 0, n), Counts: make([]int32, 0, n),
		Slots: make([]int32, n), Nths: make([]int32, n), Senders: make([]int32, n), MsgIds: make([]uuid.UUID, n),
		Types: make([]int16, n), Contents: make([][]byte, n), Digests: make([]int64, n), Replies: make([]int64, n),
		Peers: make([]string, n)}
	for i, at := range order {
		d := &drafts[at]
		slot := len(p.SessionIds)
		if slot == 0 || p.SessionIds[slot-1] != d.SessionID {
			p.SessionIds, p.Counts = append(p.SessionIds, d.SessionID), append(p.Counts, 0)
			slot++
		}
		p.Counts[slot-1]++
		by := sender{d.SenderID, d.SenderDevice}
		if _, known := senders[by]; !known {
			p.UserIds, p.DeviceIds = append(p.UserIds, by.user), append(p.DeviceIds, by.device)
			senders[by] = int32(len(p.UserIds)) //nolint:gosec // at most committer.MaxBatch
			last = append(last, -1)
		}
		// Items of a session follow each other: a sender's last one there gives its place to the next.
		if l := last[senders[by]-1]; l >= 0 && p.Slots[p.Lasts[l]-1] == int32(slot) { //nolint:gosec // as above
			p.Lasts[l] = int32(i + 1)
		} else {
			last[senders[by]-1] = len(p.Lasts)
			p.Lasts = append(p.Lasts, int32(i+1))
		}
		p.Slots[i], p.Nths[i], p.Senders[i] = int32(slot), p.Counts[slot-1], senders[by] //nolint:gosec // as above
		p.MsgIds[i], p.Types[i], p.Contents[i] = d.MessageID, int16(d.Type), d.Body
		p.Digests[i], p.Replies[i], p.Peers[i] = d.Digest, d.ReplyTo, d.Peer
	}
	return p
}

func outcomes(drafts []message.Draft, order []int, a sqlc.MessageAppendBatchRow, epoch string) ([]committer.Outcome, error) {
	if len(a.Verdicts) != len(drafts) || len(a.Seqs) != len(drafts) || len(a.CreatedAts) != len(drafts) {
		return nil, errors.New("a batch was answered in part")
	}
	out := make([]committer.Outcome, len(drafts))
	for i, at := range order {
		d, o := &drafts[at], &out[at]
		if o.Err = verdictError(a.Verdicts[i]); o.Err == nil {
			o.New = a.Verdicts[i] == 0
			o.Receipt = message.Receipt{Epoch: epoch, SessionID: d.SessionID, MessageID: d.MessageID, Seq: a.Seqs[i],
				CreatedAt: a.CreatedAts[i].UTC()}
		}
	}
	return out, nil
}

// verdicts are the refusals of parley_append, by number; the schema lists them.
var verdicts = map[int32]error{
	2:  committer.ErrIDReused,
	3:  session.Unavailable,
	4:  session.Muted,
	5:  session.RoleTooLow,
	6:  session.PeerUnavailable,
	7:  session.BlockedPeer,
	8:  refusal.New(refusal.DeviceRevoked, "This device was revoked or never registered."),
	9:  refusal.New(refusal.UserDeactivated, "This user was deactivated."),
	10: refusal.New(refusal.MessageUnavailable, "The message that this one answers cannot be seen here.", "field", "reply_to_seq"),
}

func verdictError(v int32) error {
	if v <= 1 {
		return nil
	}
	if err, ok := verdicts[v]; ok {
		return err
	}
	return errors.New("the batch gave an unknown verdict")
}
