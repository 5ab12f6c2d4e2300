package presence

import (
	"context"
	"maps"
	"slices"
	"time"
)

// leavePatience bounds taking this node's devices off the board at its end.
const leavePatience = time.Second

// expire makes devices offline whose grace is over.
func (t *Tracker) expire() {
	now := t.clock.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, at := range t.leaving {
		if !now.Before(at) {
			delete(t.leaving, k)
			if t.here[k.userID][k.deviceID].posted {
				t.changes[k] = false
			} else {
				delete(t.changes, k) // the board never heard of it
			}
			if delete(t.here[k.userID], k.deviceID); len(t.here[k.userID]) == 0 {
				delete(t.here, k.userID)
			}
			t.look(k.userID)
		}
	}
}

// refresh notes all devices here for the board, and everybody watched for a look.
func (t *Tracker) refresh() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for user, devices := range t.here {
		for device := range devices {
			k := deviceKey{user, device}
			if _, known := t.changes[k]; !known {
				t.changes[k] = true
			}
		}
	}
	for id := range t.by {
		t.dirty[id] = struct{}{}
	}
}

// buried looks again at everybody whose presence rests on a node that is not heard any more.
func (t *Tracker) buried() {
	t.mu.Lock()
	nodes := make(map[string]bool)
	for _, w := range t.by {
		for _, n := range w.on {
			nodes[n] = true
		}
	}
	t.mu.Unlock()
	for n := range nodes {
		nodes[n] = t.nodes.Alive(n)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, w := range t.by {
		if slices.ContainsFunc(w.on, func(n string) bool { alive, asked := nodes[n]; return asked && !alive }) {
			t.dirty[id] = struct{}{}
		}
	}
}

// tell writes changes to the board and then hints them. What the board did not take is tried again next time, unless it
// changed meanwhile. While no other node is heard only those are kept who went and are on the board, no more than that was
// told of: whoever is here is written once another node is there, but nobody else would ever take the others off.
func (t *Tracker) tell(ctx context.Context) {
	taken := t.take(t.board != nil && !t.nodes.Alone())
	for part := range slices.Chunk(slices.Collect(maps.Keys(taken)), atOnce) {
		changes := make([]Change, len(part))
		for i, k := range part {
			changes[i] = Change{UserID: k.userID, DeviceID: k.deviceID, Online: taken[k]}
		}
		if err := t.board.Put(ctx, t.nodes.Node(), changes); err != nil {
			t.mu.Lock()
			for _, k := range part {
				if _, newer := t.changes[k]; !newer {
					t.changes[k] = taken[k]
				} else if d, here := t.here[k.userID][k.deviceID]; here { // it came back meanwhile
					d.posted = true
					t.here[k.userID][k.deviceID] = d
				}
			}
			t.mu.Unlock()
			continue
		}
		for _, k := range part {
			t.nodes.PresenceChanged(k.userID)
		}
	}
}

// take returns what is to be written to the board, and notes that the board may know it: a write that failed may have
// happened. While nothing is written, who came is forgotten.
func (t *Tracker) take(write bool) map[deviceKey]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !write {
		maps.DeleteFunc(t.changes, func(_ deviceKey, online bool) bool { return online })
		return nil
	}
	taken := t.changes
	t.changes = make(map[deviceKey]bool)
	for k, online := range taken {
		if d, here := t.here[k.userID][k.deviceID]; online && here {
			d.posted = true
			t.here[k.userID][k.deviceID] = d
		}
	}
	return taken
}

// leave takes this node's devices off the board: whoever of them comes back does so elsewhere.
func (t *Tracker) leave(ctx context.Context) {
	if t.board == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leavePatience)
	defer cancel()
	t.mu.Lock()
	t.changes = make(map[deviceKey]bool)
	for user, devices := range t.here {
		for device := range devices {
			t.changes[deviceKey{user, device}] = false
		}
	}
	t.mu.Unlock()
	t.tell(ctx)
}

// askAgain asks whether doubted watches may go on, and ends them where they may not.
func (t *Tracker) askAgain(ctx context.Context) {
	t.mu.Lock()
	doubted := make(map[deviceKey][]string)
	for k := range t.doubted {
		if len(doubted) == atOnce {
			break
		}
		doubted[k] = slices.Clone(t.watches[k])
		delete(t.doubted, k)
	}
	t.mu.Unlock()
	for k, users := range doubted {
		seen, err := t.aud.Visible(ctx, k.userID, users)
		if err != nil {
			t.log.WarnContext(ctx, "rights to presence not checked", "error", err)
			t.mu.Lock()
			t.doubted[k] = struct{}{}
			t.mu.Unlock()
			return
		}
		may := make(map[string]struct{}, len(seen))
		for _, s := range seen {
			may[s.UserID] = struct{}{}
		}
		for _, id := range users {
			if _, ok := may[id]; !ok {
				t.forbid(k, id)
			}
		}
	}
}

// forbid ends the watch of one user, and leaves the watcher with one who is offline, since when nobody says.
func (t *Tracker) forbid(k deviceKey, userID string) {
	t.mu.Lock()
	i := slices.Index(t.watches[k], userID)
	if i < 0 {
		t.mu.Unlock()
		return
	}
	t.watches[k] = slices.Delete(t.watches[k], i, i+1)
	t.unwatchOne(k, userID)
	t.mu.Unlock()
	t.streams.NotifyDevice(k.userID, k.deviceID, event(Presence{UserID: userID}.Proto(k.userID)))
}

// show looks at users again and tells their watchers what changed.
func (t *Tracker) show(ctx context.Context) {
	t.mu.Lock()
	users := make([]Seen, 0, min(len(t.dirty), atOnce))
	for id := range t.dirty {
		if len(users) == atOnce {
			break
		}
		users = append(users, Seen{UserID: id})
		delete(t.dirty, id)
	}
	t.mu.Unlock()
	if len(users) == 0 {
		return
	}
	now := t.clock.Now()
	found, on := t.lookUp(ctx, users)
	type telling struct {
		to deviceKey
		p  Presence
	}
	var tell []telling
	t.mu.Lock()
	for i, p := range found {
		w := t.by[p.UserID]
		if w == nil {
			continue
		}
		p.LastSeen = w.looked(len(p.Devices) > 0, now)
		for k, told := range w.by {
			if !told || !w.told.same(p) {
				tell = append(tell, telling{k, p})
				w.by[k] = true
			}
		}
		w.told, w.on = p, on[i]
	}
	t.mu.Unlock()
	for _, x := range tell {
		t.streams.NotifyDevice(x.to.userID, x.to.deviceID, event(x.p.Proto(x.to.userID)))
	}
}

// presences returns what users are now, in their order.
func (t *Tracker) presences(ctx context.Context, users []Seen) []Presence {
	out, _ := t.lookUp(ctx, users)
	return out
}

// lookUp reads the board and what is here; on tells which other nodes each presence rests on. A board that cannot be read
// leaves what is here.
func (t *Tracker) lookUp(ctx context.Context, users []Seen) (out []Presence, on [][]string) {
	out, on = make([]Presence, len(users)), make([][]string, len(users))
	ids := make([]string, len(users))
	for i, u := range users {
		ids[i] = u.UserID
	}
	var places [][]Place
	if t.board != nil && !t.nodes.Alone() {
		places, _ = t.board.Get(ctx, ids) // as without a board
	}
	self := t.nodes.Node()
	for i, u := range users {
		online := t.devicesHere(u.UserID)
		if places != nil {
			for _, p := range places[i] {
				if p.Node != self && t.nodes.Alive(p.Node) {
					online = append(online, p.Device)
					on[i] = append(on[i], p.Node)
				}
			}
		}
		slices.Sort(online)
		out[i] = Presence{UserID: u.UserID, Devices: slices.Compact(online)}
		if len(online) == 0 {
			out[i].LastSeen = u.LastSeen
		}
	}
	return out, on
}

// devicesHere are a user's devices with a stream here, and those in their grace.
func (t *Tracker) devicesHere(userID string) (ids []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for device := range t.here[userID] {
		ids = append(ids, device)
	}
	return ids
}
