package storage

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5"

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
}

// NewMessages returns the log's adapter.
func NewMessages(db *DB) *Messages {
	direct, err := lru.New[uuid.UUID, struct{}](knownDirect)
	if err != nil { // only for a size below 1
		panic(err) //nolint:forbidigo // only a bug here
	}
	return &Messages{DB: db, Sessions: Sessions{db}, direct: direct}
}

// Forget drops what is remembered of direct sessions: the database may have lost some.
func (s *Messages) Forget() { s.direct.Purge() }

// WithLog implements committer.Store.
func (s *Messages) WithLog(ctx context.Context, id uuid.UUID, fn session.Change) ([]message.Entry, error) {
	return s.Sessions.WithLog(ctx, id, fn)
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
	s.queueEnsure(ctx, &batch, drafts, now)
	batch.queued(s.q.SessionLockMany(ctx, &batch, sessionsOf(drafts)))
	_, queued := s.q.MessageAppendBatch(ctx, &batch, appendParams(drafts, now))
	batch.queued(queued)

	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	br := conn.SendBatch(ctx, &batch.Batch)
	for range batch.Len() - 1 {
		if _, err := br.Exec(); err != nil {
			return nil, errors.Join(err, br.Close())
		}
	}
	out, err := readVerdicts(br, drafts)
	// Close reads up to the sync: only without an error there is the transaction committed.
	if err := errors.Join(err, br.Close()); err != nil {
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

// queueEnsure queues the making of direct sessions that are not known to exist.
func (s *Messages) queueEnsure(ctx context.Context, batch *pipeline, drafts []message.Draft, now time.Time) {
	var ids []uuid.UUID
	var lows, highs []string
	for _, d := range drafts {
		if d.Peer == "" || s.direct.Contains(d.SessionID) {
			continue
		}
		_, low, high := session.DirectID(d.SenderID, d.Peer)
		ids, lows, highs = append(ids, d.SessionID), append(lows, low), append(highs, high)
	}
	if len(ids) > 0 {
		batch.queued(s.q.SessionEnsureDirect(ctx, batch, sqlc.SessionEnsureDirectParams{
			SessionIds: ids, Lows: lows, Highs: highs, Now: now}))
	}
}

func sessionsOf(drafts []message.Draft) []uuid.UUID {
	seen := make(map[uuid.UUID]struct{}, len(drafts))
	ids := make([]uuid.UUID, 0, len(drafts))
	for _, d := range drafts {
		if _, again := seen[d.SessionID]; !again {
			seen[d.SessionID] = struct{}{}
			ids = append(ids, d.SessionID)
		}
	}
	return ids
}

func appendParams(drafts []message.Draft, now time.Time) (p sqlc.MessageAppendBatchParams) {
	p.Now = now
	for _, d := range drafts {
		p.SessionIds = append(p.SessionIds, d.SessionID)
		p.MsgIds = append(p.MsgIds, d.MessageID)
		p.UserIds = append(p.UserIds, d.SenderID)
		p.DeviceIds = append(p.DeviceIds, d.SenderDevice)
		p.Types = append(p.Types, int16(d.Type))
		p.Contents = append(p.Contents, d.Body)
		p.Digests = append(p.Digests, d.Digest)
		p.Replies = append(p.Replies, d.ReplyTo)
		p.Peers = append(p.Peers, d.Peer)
	}
	return p
}

func readVerdicts(br pgx.BatchResults, drafts []message.Draft) ([]committer.Outcome, error) {
	rows, err := br.Query()
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := make([]committer.Outcome, len(drafts))
	n := 0
	for rows.Next() {
		var ord, verdict int32
		var seq int64
		var created time.Time
		if err := rows.Scan(&ord, &verdict, &seq, &created); err != nil {
			return nil, err
		}
		d := drafts[ord-1]
		o := &out[ord-1]
		if o.Err = verdictError(verdict); o.Err == nil {
			o.New = verdict == 0
			o.Receipt = message.Receipt{SessionID: d.SessionID, MessageID: d.MessageID, Seq: seq, CreatedAt: created.UTC()}
		}
		n++
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if n != len(drafts) {
		return nil, errors.New("a batch was answered in part")
	}
	return out, nil
}

// verdicts are the refusals of MessageAppendBatch, by number; queries/message.sql lists them.
var verdicts = map[int32]error{
	2:  committer.ErrIDReused,
	3:  session.Unavailable,
	4:  refusal.New(refusal.Muted, "You are muted in this session."),
	5:  refusal.New(refusal.RoleTooLow, "Your role may not send to this session."),
	6:  refusal.New(refusal.RecipientUnavailable, "This user cannot be reached."),
	7:  refusal.New(refusal.RecipientBlockedByYou, "You have blocked this user."),
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
