package contract

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-im/parley/server/e2e/rig"
)

// patience is how long an expectation may take to come true. Far longer than it takes: the machine may be busy.
const patience = 2 * time.Minute

// plays counts, so that each play has users and stores of its own on the one server.
var plays atomic.Int64

// play is one run of a scenario with one assignment of languages to devices.
type play struct {
	t       testing.TB
	server  *rig.Server
	s       scenario
	suffix  string            // of this play's users
	runners map[string]runner // by device
	links   map[string]*link
	tokens  map[string]string
	grpc    bool // Kotlin's devices speak gRPC

	mu       sync.Mutex
	sessions map[string]string // id by name
}

// run plays the whole scenario.
func (p *play) run() {
	defer p.ended()
	p.suffix = fmt.Sprintf(".p%d", plays.Add(1))
	p.sessions, p.links, p.tokens = map[string]string{}, map[string]*link{}, map[string]string{}
	for _, user := range p.s.Users {
		p.server.Token(user+p.suffix, "elsewhere")
	}
	for _, d := range slices.Sorted(maps.Keys(p.s.Devices)) {
		p.tokens[d] = p.server.Token(p.s.Devices[d]+p.suffix, d)
		p.links[d] = newLink(p.t, strings.TrimPrefix(p.server.URL, "http://"))
	}
	p.t.Cleanup(func() {
		for d := range p.s.Devices {
			_, _ = p.call(d, "close", nil)
		}
	})
	for _, d := range p.s.Open {
		p.step(d, step{On: d, Do: "open"})
	}
	for _, d := range p.s.Open {
		p.step(d+" opens", step{See: []string{d}, Expect: map[string]any{"connection": "live"}})
	}
	p.steps("", p.s.Steps)
}

func (p *play) steps(at string, steps []step) {
	for i, st := range steps {
		p.step(fmt.Sprintf("%sstep %d", at, i+1), st)
	}
}

func (p *play) step(at string, st step) {
	p.t.Helper()
	switch {
	case st.Together != nil:
		var all sync.WaitGroup
		for i, one := range st.Together {
			all.Go(func() {
				defer p.ended()
				p.step(fmt.Sprintf("%s.%d", at, i+1), one)
			})
		}
		all.Wait()
		if p.t.Failed() {
			panic(stopped{})
		}
	case st.Server == "kill":
		p.server.Kill()
	case st.Server == "restart":
		p.server.Restart()
	case st.Link != nil:
		for d, way := range st.Link {
			if !p.links[d].set(way) {
				p.fail(at, "no such way of a link: %s", way)
			}
		}
	case st.See != nil:
		for _, d := range st.See {
			p.see(at, d, st)
		}
	case st.Agree != nil:
		p.agree(at, st)
	case st.On != "":
		p.on(at, st)
	default:
		p.fail(at, "nothing to do")
	}
}

// on has a device do something and judges its answer.
func (p *play) on(at string, st step) {
	with := maps.Clone(st.With)
	if with == nil {
		with = map[string]any{}
	}
	if st.Session != "" {
		with["session"] = p.session(st.Session)
	}
	if bodies := st.texts(); bodies != nil {
		with["bodies"] = bodies
	}
	if st.Do == "open" {
		p.opening(st.On, with)
	}
	a, err := p.call(st.On, st.Do, with)
	reason := ""
	if a.Refused != nil {
		reason = a.Refused.Reason
	}
	switch {
	case err != nil:
		p.fail(at, "%s %s: %v", st.On, st.Do, err)
	case a.Failed != "":
		p.fail(at, "%s %s: the runner failed: %s", st.On, st.Do, a.Failed)
	case reason != st.Refused:
		p.fail(at, "%s %s: refused %q (%s), want %q", st.On, st.Do, reason, message(a.Refused), st.Refused)
	case st.As != "":
		var id string
		if json.Unmarshal(a.OK, &id) != nil || id == "" {
			p.fail(at, "%s %s: no session: %s", st.On, st.Do, a.OK)
		}
		p.mu.Lock()
		p.sessions[st.As] = id
		p.mu.Unlock()
	case st.Answer != nil:
		if got := p.plain(a.OK); !same(got, st.Answer) {
			p.fail(at, "%s %s: %v, want %v", st.On, st.Do, got, st.Answer)
		}
	}
}

func (st step) texts() []string {
	if st.Many != nil {
		return st.Many.texts()
	}
	return st.Bodies
}

// opening adds what every opening needs: where the server is, and who the device is.
func (p *play) opening(device string, with map[string]any) {
	with["baseUrl"] = p.links[device].url()
	with["tokens"] = []string{p.tokens[device]}
	if with["badToken"] == true {
		with["tokens"] = []string{"not.a.token", p.tokens[device]}
	}
	delete(with, "badToken")
	if with["store"] == true {
		with["store"] = device + p.suffix
	}
	if p.grpc {
		with["grpc"] = true
	}
}

// call gives a call to the device's runner, with this play's users instead of the scenario's.
func (p *play) call(device, do string, with map[string]any) (answer, error) {
	with = maps.Clone(with)
	for _, key := range []string{"user", "users", "members"} {
		switch v := with[key].(type) {
		case string:
			with[key] = v + p.suffix
		case []any:
			users := make([]string, len(v))
			for i, u := range v {
				users[i] = fmt.Sprint(u) + p.suffix
			}
			with[key] = users
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	return p.runners[device].work(ctx, call{Device: device + p.suffix, Do: do, With: with})
}

// look is all that a device shows of a session, in the scenario's names.
func (p *play) look(device, session string) (map[string]any, error) {
	id := "00000000-0000-0000-0000-000000000000"
	if session != "" {
		id = p.session(session)
	}
	a, err := p.call(device, "look", map[string]any{"session": id})
	if err == nil && (a.Failed != "" || a.Refused != nil) {
		err = fmt.Errorf("look: %s %s", a.Failed, message(a.Refused))
	}
	if err != nil {
		return nil, err
	}
	view, ok := p.plain(a.OK).(map[string]any)
	if !ok {
		return nil, fmt.Errorf("look: %s", a.OK)
	}
	return view, nil
}

// see waits until a device shows what is expected.
func (p *play) see(at, device string, st step) {
	p.until(at, device, st.Session, func(view map[string]any) error {
		return fits(st.Expect, view)
	})
}

// agree waits until all devices list the log up to the head, and judges that it is the same log, without a hole.
func (p *play) agree(at string, st step) {
	var first []any
	for i, d := range st.Agree {
		view := p.until(at, d, st.Session, func(view map[string]any) error {
			listed, _ := view["listed"].([]any)
			if len(listed) == 0 || !strings.HasPrefix(fmt.Sprint(listed[len(listed)-1]), fmt.Sprint(st.Head)+" ") {
				return fmt.Errorf("it does not end at %d", st.Head)
			}
			return nil
		})
		listed, _ := view["listed"].([]any)
		if i == 0 {
			first = listed
			p.inOrder(at, d, st, listed)
		} else if !reflect.DeepEqual(first, listed) {
			p.fail(at, "%s (%s) and %s (%s) differ:\n%v\n%v", st.Agree[0], p.language(st.Agree[0]), d, p.language(d), first, listed)
		}
		if problems, _ := view["problems"].([]any); len(problems) > 0 {
			p.fail(at, "%s (%s): %v", d, p.language(d), problems)
		}
	}
}

// inOrder judges that seqs follow one another up to the head, and that numbered texts came each once and in order.
func (p *play) inOrder(at, device string, st step, listed []any) {
	seen := map[string]int{}
	for i, e := range listed {
		seq, text, _ := strings.Cut(fmt.Sprint(e), " ")
		if want := fmt.Sprint(st.Head - int64(len(listed)-1-i)); seq != want {
			p.fail(at, "%s (%s): %v is where %s belongs", device, p.language(device), e, want)
		}
		_, body, _ := strings.Cut(text, " ")
		for name := range st.Texts {
			if rest, ok := strings.CutPrefix(body, name); ok && strings.Trim(rest, "0123456789") == "" {
				if rest != fmt.Sprint(seen[name]) {
					p.fail(at, "%s (%s): %v is where %s%d belongs", device, p.language(device), e, name, seen[name])
				}
				seen[name]++
			}
		}
	}
	for name, n := range st.Texts {
		if seen[name] != n {
			p.fail(at, "%s (%s): %d of %d texts %s", device, p.language(device), seen[name], n, name)
		}
	}
}

// until looks again and again until the view is as it should be, and returns it.
func (p *play) until(at, device, session string, ok func(view map[string]any) error) map[string]any {
	p.t.Helper()
	end := time.Now().Add(patience)
	for {
		view, err := p.look(device, session)
		if err != nil {
			p.fail(at, "%s (%s): %v", device, p.language(device), err)
		}
		if err = ok(view); err == nil {
			return view
		}
		if time.Now().After(end) {
			text, _ := json.MarshalIndent(view, "", " ") //nolint:errchkjson // it came as JSON
			p.fail(at, "%s (%s): %v\n%s", device, p.language(device), err, text)
		}
		time.Sleep(25 * time.Millisecond)
	}
}

// fits says in what a view differs from what is expected of it: of a map only the named fields count.
func fits(want, view map[string]any) error {
	for _, key := range slices.Sorted(maps.Keys(want)) {
		got, there := view[key]
		if !there {
			return fmt.Errorf("nothing is said of %s", key)
		}
		w, inner := want[key].(map[string]any)
		if g, is := got.(map[string]any); inner && is {
			if err := fits(w, g); err != nil {
				return err
			}
			continue
		}
		if !same(got, want[key]) {
			return fmt.Errorf("%s is %v, want %v", key, got, want[key])
		}
	}
	return nil
}

// same compares values of JSON with values of YAML, whose numbers have other types.
func same(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// plain turns an answer into values, with the scenario's names for users and sessions.
func (p *play) plain(raw json.RawMessage) any {
	text := strings.ReplaceAll(string(raw), p.suffix, "")
	p.mu.Lock()
	for name, id := range p.sessions {
		text = strings.ReplaceAll(text, id, name)
	}
	p.mu.Unlock()
	var v any
	_ = json.Unmarshal([]byte(text), &v)
	return v
}

func (p *play) session(name string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions[name]
}

func (p *play) language(device string) string { return nameOf(p.runners[device]) }

func (p *play) fail(at, format string, a ...any) {
	p.t.Helper()
	p.t.Errorf("%s: %s: %s", p.s.file, at, fmt.Sprintf(format, a...))
	panic(stopped{})
}

// stopped ends a play that failed, from whichever goroutine it did.
type stopped struct{}

// ended takes the end of a play that failed, which has been reported.
func (*play) ended() {
	if r := recover(); r != nil && r != (stopped{}) {
		panic(r)
	}
}

func message(r *refusal) string {
	if r == nil {
		return ""
	}
	return r.Message
}
