package stream

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/parley-im/parley/server/wire"
)

// writers write for the parked streams: those whose sink is Direct, that have caught up and wait for something to send.
// Such a stream has no goroutine and no buffer. What wakes it puts it in line here; a writer builds its frame in a buffer
// that all share and hands it to the connection without waiting. Whatever could wait (a connection that is full, a pull,
// a membership to read) is left to a goroutine of the stream's own, which parks the stream again once it is done.
type writers struct {
	mu      sync.Mutex
	line    []*Stream // those at head and after wait
	head    int
	running int
}

// maxWriters is how many write at once. They never wait, so more than processors would only get in each other's way.
func maxWriters() int { return runtime.GOMAXPROCS(0) }

// turns is after how many streams a writer lets other goroutines run: a processor that only writes would hold up the
// commits that feed it.
const turns = 16

// add puts a stream in line. The stream's lock is held.
func (w *writers) add(s *Stream) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.line = append(w.line, s)
	if w.running < maxWriters() {
		w.running++
		go w.write()
	}
}

// next takes the first in line; nil means that nobody waits, and the writer ends.
func (w *writers) next() *Stream {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.head == len(w.line) {
		w.line, w.head = w.line[:0], 0
		w.running--
		return nil
	}
	s := w.line[w.head]
	w.line[w.head] = nil
	w.head++
	if w.head > 1024 && 2*w.head > len(w.line) {
		n := copy(w.line, w.line[w.head:])
		clear(w.line[n:])
		w.line, w.head = w.line[:n], 0
	}
	return s
}

// guarded is run for a goroutine that nobody else watches over.
func (s *Stream) guarded(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicked(p)
		}
	}()
	return s.run(ctx)
}

func panicked(p any) error { return fmt.Errorf("panic: %v\n%s", p, debug.Stack()) }

// frames are the writers' buffers, kept while they are in use every now and then.
var frames = sync.Pool{New: func() any { return &[2]*wire.Frame{wire.NewFrame(wire.Proto), wire.NewFrame(wire.JSON)} }}

func (w *writers) write() {
	mine, _ := frames.Get().(*[2]*wire.Frame)
	defer frames.Put(mine)
	for n := 1; ; n++ {
		s := w.next()
		if s == nil {
			return
		}
		s.serve(mine[s.direct.Codec()])
		if n%turns == 0 {
			runtime.Gosched()
		}
	}
}

// errParked says that the stream goes on without a goroutine.
var errParked = errors.New("parked")

// tryPark parks the stream if it can be, after its sink has got rid of everything. It returns errParked then.
func (s *Stream) tryPark() (bool, error) {
	if s.direct != nil {
		if err := s.direct.Finish(); err != nil {
			return false, fmt.Errorf("write to stream: %w", err)
		}
	}
	if s.park() {
		return true, errParked
	}
	return false, nil
}

// park lets the stream go on without a goroutine, if it can and nothing waits.
func (s *Stream) park() bool {
	if s.direct == nil {
		d, ok := s.sink.(Detachable)
		if !ok {
			return false
		}
		if s.direct = d.Detach(s.end); s.direct == nil {
			s.sink = onlySink{s.sink} // not to be asked again
			return false
		}
		s.sink = s.direct
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting() {
		return false
	}
	s.frame = nil
	s.rest()
	return true
}

// onlySink hides what else a sink can do.
type onlySink struct{ Sink }

// waiting reports whether there is anything for a writer to do. The lock is held.
func (s *Stream) waiting() bool {
	return len(s.queue) > 0 || s.slow() || len(s.events.order) > 0 || s.silent
}

// slow reports whether there is something to do that may take its time. The lock is held.
func (s *Stream) slow() bool {
	return s.endErr != nil || len(s.behind) > 0 || len(s.joined) > 0 || s.lost
}

// rest parks a stream with which all is done. The lock is held.
func (s *Stream) rest() {
	select {
	case <-s.wake:
	default:
	}
	s.parked = true
	if s.wrote || s.beat == nil {
		s.wrote, s.sent = false, s.m.clock.Now()
	}
	if s.beat == nil {
		s.beat = s.m.clock.AfterFunc(s.m.cfg.Heartbeat, s.beatOrWait)
	}
}

// beatOrWait runs when a heartbeat may be due.
func (s *Stream) beatOrWait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.endErr != nil {
		return
	}
	left := s.m.cfg.Heartbeat - s.m.clock.Since(s.sent)
	if left <= 0 {
		left = s.m.cfg.Heartbeat
		s.silent = true
		s.nudge()
	}
	s.beat.Reset(left)
}

// serve writes one frame of what waits for a parked stream, which gets in line again for the rest. It waits for nothing.
func (s *Stream) serve(f *wire.Frame) {
	defer func() {
		if p := recover(); p != nil {
			s.end(panicked(p))
			go s.resume()
		}
	}()
	s.mu.Lock()
	var near []nearby
	if s.slow() {
		if near = s.nearby(); near == nil {
			s.mu.Unlock()
			go s.resume()
			return
		}
	}
	w := s.takeFrame() // the whole queue, where something comes behind it
	s.mu.Unlock()

	f.Reset(2 * maxFrame) // as flush does
	s.frame = f
	err := s.writeQueue(w.queue, math.MaxInt)
	for _, n := range near {
		err = errors.Join(err, s.writePulled(n.pull, n.entries, s.asNew, math.MaxInt))
	}
	if near != nil {
		s.settle()
	}
	for _, ev := range w.events {
		s.writeEvent(ev)
	}
	if w.beat && f.Len() == 0 {
		f.Event(heartbeat)
		s.release()
	}
	if err == nil && f.Len() > 0 {
		err = s.flush()
	}
	s.frame = nil
	if err != nil {
		s.end(err)
	}
	if err != nil || s.direct.Waiting() {
		go s.resume()
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting() {
		s.m.writers.add(s)
		return
	}
	s.rest()
}

// resume gives the stream a goroutine until it can be parked again, or ends it.
func (s *Stream) resume() {
	s.frame = wire.NewFrame(s.direct.Codec())
	ctx := s.direct.Context()
	last, err := s.m.liveOn(ctx, s, s.guarded(ctx))
	if errors.Is(err, errParked) {
		return
	}
	last.direct.End(err)
	s.m.unregister(last)
}
