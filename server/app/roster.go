package app

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-im/parley/server/device"
	"github.com/parley-im/parley/server/roster"
	"github.com/parley-im/parley/server/storage"
)

// relationMap is how the node's parts see the relation map, or PostgreSQL where none is kept.
type relationMap struct {
	access device.GateStore
	active roster.SessionLister
	report http.Handler // nil where none is kept
}

// relationMap makes a.roster, unless that is switched off. Run loads it, after the feed has started.
func (a *App) relationMap(db *storage.DB, reg prometheus.Registerer) relationMap {
	devices, positions := storage.Devices{DB: db}, storage.Positions{DB: db}
	if a.cfg.Roster.Mode == "off" {
		return relationMap{access: devices, active: positions}
	}
	a.roster = roster.New(storage.Roster{DB: db}, roster.Config{MaxBytes: a.cfg.Roster.MaxMB << 20}, a.clock, a.log, reg)
	return relationMap{access: roster.Access{Roster: a.roster, Store: devices},
		active: roster.ActiveSessions{Roster: a.roster, Store: positions}, report: a.roster}
}

// deviceMemory is all that this node remembers of who may call: the gate, and the relation map behind it.
type deviceMemory struct {
	gate   *device.Gate
	roster *roster.Roster // nil: none is kept
}

// Forget implements device.Forgetter. The map comes first: the gate asks it.
func (m deviceMemory) Forget(userID, deviceID string) {
	if m.roster != nil {
		m.roster.Doubt(userID)
	}
	m.gate.Forget(userID, deviceID)
}

// ForgetUser implements account.Forgetter.
func (m deviceMemory) ForgetUser(userID string) {
	if m.roster != nil {
		m.roster.Doubt(userID)
	}
	m.gate.ForgetUser(userID)
}
