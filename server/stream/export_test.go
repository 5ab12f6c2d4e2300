package stream

import (
	"runtime"

	dto "github.com/prometheus/client_model/go"
)

// MaxFrame is maxFrame.
const MaxFrame = maxFrame

// AwaitIdle waits until every live stream has handed all that waits to its sink and sleeps again.
func (m *Manager) AwaitIdle() {
	m.mu.Lock()
	live := make([]*Stream, 0, len(m.live))
	for _, e := range m.live {
		live = append(live, e.Stream)
	}
	m.mu.Unlock()
	for _, s := range live {
		for !s.idle() {
			runtime.Gosched()
		}
	}
}

func (s *Stream) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue) == 0 && len(s.behind) == 0 && len(s.wake) == 0
}

// Parked is how many streams wait without a goroutine.
func (m *Manager) Parked() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.live {
		e.mu.Lock()
		if e.parked {
			n++
		}
		e.mu.Unlock()
	}
	return n
}

// StartsWaiting is how many devices wait to be told where they stand.
func (m *Manager) StartsWaiting() int { return m.arrivals.Waiting() }

// Written is how many entries were written to streams; there must be metrics.
func (m *Manager) Written() int64 {
	var got dto.Metric
	if err := m.metrics.deliveries.Write(&got); err != nil {
		return -1
	}
	return int64(got.GetCounter().GetValue())
}
