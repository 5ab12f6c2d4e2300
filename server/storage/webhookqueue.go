package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"

	"github.com/parley-im/parley/db"
	"github.com/parley-im/parley/gen/sqlc"
	"github.com/parley-im/parley/server/webhook"
)

const (
	// webhookQueue is the queue of all jobs of webhooks.
	webhookQueue = "webhook"
	// webhookWorkers is how many lanes a node drains at a time. Several times webhook.MaxInFlight, so that a receiver that
	// hangs leaves room for the others.
	webhookWorkers = 32
	// drainTimeout bounds a job: its budget, one attempt begun at the end of it, and the database. A job that runs for
	// longer than rescueAfter belongs to a node that died, and is taken over.
	drainTimeout = webhook.DrainBudget + webhook.AttemptTimeout + 5*time.Second
	rescueAfter  = drainTimeout + 5*time.Second
	// jobTries is how often a job may fail by a fault of ours, such as a database that is away. Deliveries that fail are no
	// failures of their job: it snoozes.
	jobTries = 30_000
	// jobsAtOnce is how many jobs one statement makes.
	jobsAtOnce = 1000
	// readBoundSeconds is after how long without a read the change tables are trimmed all the same: see FeedTrimCommits.
	readBoundSeconds = 24 * 60 * 60
)

// Webhooks implements what package webhook needs of PostgreSQL: webhook.Settings, Source and Deliveries. The jobs
// are River's, in a schema of their own. Safe for concurrent use.
type Webhooks struct {
	*DB
	client  *river.Client[pgx.Tx]
	started bool // by Work, called by one goroutine
}

// drainArgs is the job that drains a lane. There is at most one at a time.
type drainArgs struct {
	WebhookID uuid.UUID `json:"webhook_id"`
	Lane      uuid.UUID `json:"lane"`
}

// Kind implements river.JobArgs.
func (drainArgs) Kind() string { return "webhook_drain" }

// resumeArgs is the job that makes drain jobs for all lanes of a webhook that was enabled.
type resumeArgs struct {
	WebhookID uuid.UUID `json:"webhook_id"`
}

// Kind implements river.JobArgs.
func (resumeArgs) Kind() string { return "webhook_resume" }

// living are the states of a job that is not over.
var living = []rivertype.JobState{rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRetryable,
	rivertype.JobStateRunning, rivertype.JobStateScheduled}

// Drain sends what a lane waits for; webhook.Drainer.Drain.
type Drain func(ctx context.Context, webhookID, lane uuid.UUID) (webhook.Rest, error)

// NewWebhooks returns the adapter. Its pool should be its own: it has listeners and transactions that take a while. drain
// returns what jobs do, which is asked for after Work.
func NewWebhooks(pool *DB, drain func() Drain, log *slog.Logger) (*Webhooks, error) {
	s := &Webhooks{DB: pool}
	workers := river.NewWorkers()
	river.AddWorker(workers, &drainWorker{store: s, drain: drain})
	river.AddWorker(workers, &resumeWorker{store: s})
	client, err := river.NewClient(riverpgxv5.New(pool.pool), &river.Config{
		Schema: db.RiverSchema, Workers: workers, Queues: map[string]river.QueueConfig{webhookQueue: {MaxWorkers: webhookWorkers}},
		Logger: log, JobTimeout: drainTimeout, RescueStuckJobsAfter: rescueAfter, MaxAttempts: jobTries, RetryPolicy: soon{},
		FetchCooldown: 50 * time.Millisecond, CompletedJobRetentionPeriod: 10 * time.Minute, SoftStopTimeout: 2 * time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("make the job queue's client: %w", err)
	}
	s.client = client
	return s, nil
}

// soon is when a job runs again that failed by a fault of ours.
type soon struct{}

// NextRetry implements river.ClientRetryPolicy.
func (soon) NextRetry(job *rivertype.JobRow) time.Time {
	return job.AttemptedAt.Add(time.Duration(min(len(job.Errors)+1, 12)) * 5 * time.Second)
}

// inTx is DB.InTx with errors as webhooks have them.
func (s *Webhooks) inTx(ctx context.Context, fn func(tx pgx.Tx) error) error {
	var err error
	for range maxTries {
		if err = pgx.BeginFunc(ctx, s.pool, fn); !Retryable(err) {
			break
		}
	}
	if errors.Is(err, errTooMany) {
		return err
	}
	return webhookFault(err)
}

// Work implements webhook.Source.
func (s *Webhooks) Work(ctx context.Context) error {
	if err := s.client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start the job queue: %w", err)
	}
	s.started = true
	return nil
}

// StopWork implements webhook.Source.
func (s *Webhooks) StopWork(ctx context.Context) error {
	if !s.started {
		return nil
	}
	return s.client.Stop(ctx)
}

// insertJobs makes drain jobs for lanes that have none. The caller holds the lanes exclusively.
func (s *Webhooks) insertJobs(ctx context.Context, tx pgx.Tx, webhookID uuid.UUID, lanes []uuid.UUID) error {
	slices.SortFunc(lanes, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	lanes = slices.Compact(lanes)
	for part := range slices.Chunk(lanes, jobsAtOnce) {
		jobs := make([]river.InsertManyParams, len(part))
		for i, lane := range part {
			jobs[i] = river.InsertManyParams{Args: drainArgs{webhookID, lane}, InsertOpts: &river.InsertOpts{Queue: webhookQueue,
				MaxAttempts: jobTries, UniqueOpts: river.UniqueOpts{ByArgs: true, ByState: living}}}
		}
		if _, err := s.client.InsertManyTx(ctx, tx, jobs); err != nil {
			return fmt.Errorf("insert jobs: %w", err)
		}
	}
	return nil
}

// resume makes the job that goes on with all lanes of a webhook.
func (s *Webhooks) resume(ctx context.Context, tx pgx.Tx, id uuid.UUID) error {
	_, err := s.client.InsertTx(ctx, tx, resumeArgs{id}, &river.InsertOpts{Queue: webhookQueue, MaxAttempts: jobTries})
	return err
}

// drainWorker drains lanes.
type drainWorker struct {
	river.WorkerDefaults[drainArgs]
	store *Webhooks
	drain func() Drain
}

// Work implements river.Worker.
func (w *drainWorker) Work(ctx context.Context, job *river.Job[drainArgs]) error {
	rest, err := w.drain()(ctx, job.Args.WebhookID, job.Args.Lane)
	if err != nil {
		return err
	}
	if !rest.Done {
		return river.JobSnooze(rest.Wait)
	}
	return w.store.finish(ctx, job)
}

// errMore rolls back the end of a job whose lane got something meanwhile.
var errMore = errors.New("the lane is not empty")

// finish ends a job if its lane is still empty while nobody can add to it: from then on whoever adds makes another job.
func (s *Webhooks) finish(ctx context.Context, job *river.Job[drainArgs]) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := s.q.WebhookLanesShared(ctx, tx); err != nil {
			return err
		}
		rows, err := s.q.WebhookNext(ctx, tx, sqlc.WebhookNextParams{WebhookID: job.Args.WebhookID, Lane: job.Args.Lane})
		if err != nil {
			return err
		}
		if len(rows) > 0 {
			return errMore
		}
		_, err = river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job)
		return err
	})
	if errors.Is(err, errMore) {
		return river.JobSnooze(0)
	}
	return Fault(err)
}

// resumeWorker makes drain jobs.
type resumeWorker struct {
	river.WorkerDefaults[resumeArgs]
	store *Webhooks
}

// Work implements river.Worker.
func (w *resumeWorker) Work(ctx context.Context, job *river.Job[resumeArgs]) error {
	s, after := w.store, uuid.Nil
	for {
		var lanes []uuid.UUID
		err := s.inTx(ctx, func(tx pgx.Tx) (err error) {
			if err := s.q.WebhookLanesExclusive(ctx, tx); err != nil {
				return err
			}
			lanes, err = s.q.WebhookLanesWaiting(ctx, tx, sqlc.WebhookLanesWaitingParams{WebhookID: job.Args.WebhookID, AfterLane: after, MaxLanes: jobsAtOnce})
			if err != nil {
				return err
			}
			return s.insertJobs(ctx, tx, job.Args.WebhookID, slices.Clone(lanes))
		})
		if err != nil || len(lanes) < jobsAtOnce {
			return err
		}
		after = lanes[len(lanes)-1]
	}
}
