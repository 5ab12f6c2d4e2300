package webhook

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	// Every is how often a node looks at the webhooks, and reads what committed while there are some.
	Every = time.Second
	// soonest is the least time between two reads.
	soonest = 100 * time.Millisecond
	// tidyEvery is how often what is past its time is deleted and backlogs are counted.
	tidyEvery = time.Minute
	// tidyStep bounds one deletion, and tidySteps how many follow each other.
	tidyStep  = 5000
	tidySteps = 20
	// sessionTTL is how long a session's place is kept after something was told of it.
	sessionTTL = 24 * time.Hour
	// roundTimeout bounds one round.
	roundTimeout = time.Minute
)

// Config has the runner's bounds.
type Config struct {
	LogTTL  time.Duration // how long deliveries are kept that do not wait
	Backlog int           // deliveries of one webhook that may wait
}

// Reading is what one read found.
type Reading struct {
	Deliveries int64
	Late       bool // the reader was away for so long that something may be missing
}

// Source is what the runner works with. Implemented by storage.
type Source interface {
	List(ctx context.Context) ([]Webhook, error)
	// Generation counts changes of webhooks; active tells whether somebody is to be told.
	Generation(ctx context.Context) (generation int64, active bool, err error)
	// Read turns what committed since the last read into deliveries with jobs, in one transaction. It does nothing while
	// another node does.
	Read(ctx context.Context, epoch string, now time.Time) (Reading, error)
	// Work starts the queue's workers, once; they end by StopWork.
	Work(ctx context.Context) error
	// StopWork lets running jobs finish until ctx ends. Nothing happens where there was no Work.
	StopWork(ctx context.Context) error
	Waiting(ctx context.Context, id uuid.UUID, most int) (int, error)
	// Disable ends what a webhook is told, unless that was done before.
	Disable(ctx context.Context, id uuid.UUID, why DisabledReason, now time.Time) (bool, error)
	// Tidy deletes at most step of each: deliveries that do not wait and were queued before log, what deleted webhooks left,
	// and places of sessions from before sessions. more tells that there may be more.
	Tidy(ctx context.Context, log, sessions time.Time, step int) (more bool, err error)
}

// Runner follows the webhooks' settings, reads the log and keeps the tables small. Run must run.
type Runner struct {
	cfg       Config
	source    Source
	moderator *Moderator
	epoch     Epoch
	clock     clockwork.Clock
	log       *slog.Logger
	metrics   *Metrics
	wake      chan struct{}
	active    atomic.Bool
	lastRead  atomic.Int64 // Unix nanoseconds

	generation int64 // Run's own, like what follows
	enabled    []Webhook
	working    bool
	tidied     time.Time
	failing    bool
}

// NewRunner returns a runner. reg may be nil.
func NewRunner(cfg Config, source Source, moderator *Moderator, epoch Epoch, clock clockwork.Clock, log *slog.Logger, m *Metrics, reg prometheus.Registerer) *Runner {
	r := &Runner{cfg: cfg, source: source, moderator: moderator, epoch: epoch, clock: clock, log: log, metrics: m,
		wake: make(chan struct{}, 1), generation: -1}
	if reg != nil {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "parley_webhook_reader_age_seconds",
			Help: "Time since this node last asked for what is to be told; 0 while nobody is to be told."}, func() float64 {
			if !r.active.Load() {
				return 0
			}
			return clock.Now().Sub(time.Unix(0, r.lastRead.Load())).Seconds()
		}))
	}
	return r
}

// Load reads the settings, so that nothing is sent unmoderated before Run has looked; it returns how many webhooks there
// are. To be called before Run.
func (r *Runner) Load(ctx context.Context) (int, error) {
	if err := r.follow(ctx); err != nil {
		return 0, fmt.Errorf("read the webhooks: %w", err)
	}
	list, err := r.source.List(ctx)
	return len(list), err
}

// Wake makes the next read come soon. It costs next to nothing while nobody is to be told, and never blocks.
func (r *Runner) Wake() {
	if r.active.Load() {
		r.Changed()
	}
}

// Changed makes the runner look at the settings soon. It never blocks.
func (r *Runner) Changed() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends, and then lets what is being delivered finish for a moment.
func (r *Runner) Run(ctx context.Context) {
	tick := r.clock.NewTicker(Every)
	defer tick.Stop()
	defer r.stop(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.Chan():
		case <-r.wake:
			if wait := soonest - r.clock.Now().Sub(time.Unix(0, r.lastRead.Load())); wait > 0 && wait <= soonest {
				select {
				case <-ctx.Done():
					return
				case <-r.clock.After(wait):
				}
			}
		}
		err := r.round(ctx)
		if failed := err != nil && ctx.Err() == nil; failed != r.failing {
			r.failing = failed
			if failed {
				r.log.WarnContext(ctx, "webhooks interrupted", "error", err)
			} else {
				r.log.InfoContext(ctx, "webhooks go on")
			}
		}
	}
}

func (r *Runner) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := r.source.StopWork(ctx); err != nil {
		r.log.WarnContext(ctx, "webhook deliveries cut off; they will be repeated", "error", err)
	}
}

func (r *Runner) round(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	if err := r.follow(bounded); err != nil {
		return err
	}
	if err := r.tidy(bounded); err != nil {
		return err
	}
	if !r.active.Load() {
		return nil
	}
	if !r.working {
		if err := r.source.Work(ctx); err != nil {
			return err
		}
		r.working = true
	}
	found, err := r.source.Read(bounded, r.epoch.Current(), r.clock.Now())
	if err != nil {
		return err
	}
	r.lastRead.Store(r.clock.Now().UnixNano())
	r.metrics.queued.Add(float64(found.Deliveries))
	if found.Late {
		r.metrics.gaps.Inc()
		r.log.ErrorContext(ctx, "webhooks were not read for a day: events may be missing")
	}
	return nil
}

// follow takes over the settings if they changed.
func (r *Runner) follow(ctx context.Context) error {
	generation, active, err := r.source.Generation(ctx)
	if err != nil {
		return err
	}
	if generation != r.generation {
		list, err := r.source.List(ctx)
		if err != nil {
			return err
		}
		r.enabled = nil
		var moderates *Webhook
		for _, w := range list {
			if !w.Enabled {
				continue
			}
			r.enabled = append(r.enabled, w)
			if w.Moderates() {
				moderates = &w
			}
		}
		r.moderator.Use(moderates)
		r.generation = generation
	}
	if active && !r.active.Load() {
		r.lastRead.Store(r.clock.Now().UnixNano())
	}
	r.active.Store(active)
	return nil
}

// tidy keeps the tables within their bounds. It runs while there are no webhooks too: deleted ones leave something.
func (r *Runner) tidy(ctx context.Context) error {
	now := r.clock.Now()
	if now.Sub(r.tidied) < tidyEvery {
		return nil
	}
	r.tidied = now
	for range tidySteps {
		more, err := r.source.Tidy(ctx, now.Add(-r.cfg.LogTTL), now.Add(-sessionTTL), tidyStep)
		if err != nil {
			return err
		}
		if !more {
			break
		}
	}
	for _, w := range r.enabled {
		n, err := r.source.Waiting(ctx, w.ID, r.cfg.Backlog+1)
		if err != nil {
			return err
		}
		if n <= r.cfg.Backlog {
			continue
		}
		disabled, err := r.source.Disable(ctx, w.ID, BacklogFull, now)
		if err != nil {
			return err
		}
		if disabled {
			r.metrics.gaps.Inc()
			r.log.ErrorContext(ctx, "a webhook was disabled: more deliveries wait than are kept", "webhook_id", w.ID, "waiting", n)
		}
	}
	return nil
}
