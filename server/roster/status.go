package roster

import (
	"encoding/json"
	"net/http"

	"github.com/parley-im/parley/server/feed"
)

// Status is what is known of the map itself.
type Status struct {
	Loaded bool `json:"loaded"` // and nothing waits to be read again
	Fresh  bool `json:"fresh"`  // it answers
	// AgeSeconds is how far back the moment lies up to which the map has everything; 0 unless loaded.
	AgeSeconds  float64 `json:"age_seconds"`
	Bytes       int64   `json:"bytes"`
	Users       int64   `json:"users"`
	Relations   int64   `json:"relations"`
	Devices     int64   `json:"devices"`
	Memberships int64   `json:"memberships"`
}

// Status returns what is known of the map.
func (r *Roster) Status() (s Status) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	g := r.graph
	if g == nil {
		return s
	}
	s.Bytes = g.bytes()
	s.Users, s.Relations = g.rows[feed.User], g.rows[feed.UserToUser]
	s.Devices, s.Memberships = g.rows[feed.UserToDevice], g.rows[feed.UserToSession]
	if len(r.pending) == 0 {
		s.Loaded, s.Fresh, s.AgeSeconds = true, r.fresh(), r.age().Seconds()
	}
	return s
}

// Report is the answer of GET /debug/roster. Sums is nil when the map is not fresh.
type Report struct {
	Status
	Sums *Sums `json:"sums,omitempty"`
}

// ServeHTTP answers with a Report, whose age is of before the map was added up. For operators: adding up 10 M rows keeps
// a processor busy for some seconds.
func (r *Roster) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	report := Report{Status: r.Status()}
	if sums, ok := r.Sums(); ok {
		report.Sums = &sums
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(report); err != nil {
		r.log.WarnContext(req.Context(), "relation map report not sent", "error", err)
	}
}
