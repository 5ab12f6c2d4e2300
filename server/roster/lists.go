package roster

import "slices"

// traitBits is how much an edge tells of its row beside the other id.
const traitBits = 4

// edge is a row as a list has it: the other id's number, and traits in the low bits.
type edge uint32

func newEdge(n uint32, traits uint8) edge { return edge(n<<traitBits | uint32(traits)) }

func (e edge) number() uint32 { return uint32(e) >> traitBits }
func (e edge) traits() uint8  { return uint8(e & (1<<traitBits - 1)) }

// lists are sorted lists of edges, one per owner's number, in one arena. A list that outgrows its place moves to the
// arena's end; what it leaves behind is garbage, and compacted away when it is a quarter of the arena.
type lists struct {
	spans   []span
	arena   []edge
	garbage int // edges of the arena that belong to no list
}

// span is a list's place in the arena: n edges from at on, and room for room.
type span struct{ at, n, room uint32 }

// minGarbage is what is not worth compacting.
const minGarbage = 4096

// of returns an owner's edges; the slice is the arena's.
func (l *lists) of(owner uint32) []edge {
	if int(owner) >= len(l.spans) {
		return nil
	}
	s := l.spans[owner]
	return l.arena[s.at : s.at+s.n : s.at+s.n]
}

func search(list []edge, n uint32) (int, bool) {
	return slices.BinarySearchFunc(list, n, func(e edge, n uint32) int { return int(e.number()) - int(n) })
}

// find returns the owner's edge to n.
func (l *lists) find(owner, n uint32) (edge, bool) {
	list := l.of(owner)
	at, ok := search(list, n)
	if !ok {
		return 0, false
	}
	return list[at], true
}

// set puts an edge into a list, in the place of the one to the same number, and reports whether there was none.
func (l *lists) set(owner uint32, e edge) (added bool) {
	if int(owner) >= len(l.spans) {
		l.spans = append(l.spans, make([]span, int(owner)+1-len(l.spans))...)
	}
	list := l.of(owner)
	at, ok := search(list, e.number())
	if ok {
		list[at] = e
		return false
	}
	if s := l.spans[owner]; s.n == s.room {
		l.move(owner)
	}
	s := &l.spans[owner]
	s.n++
	list = l.arena[s.at : s.at+s.n]
	copy(list[at+1:], list[at:])
	list[at] = e
	return true
}

// move gives a full list a larger place.
func (l *lists) move(owner uint32) {
	l.compact()
	s := l.spans[owner]
	at, room := len(l.arena), s.n+s.n/4+2
	l.arena = append(l.arena, make([]edge, room)...)
	copy(l.arena[at:], l.arena[s.at:s.at+s.n])
	l.garbage += int(s.room)
	l.spans[owner] = span{uint32(at), s.n, room} //nolint:gosec // Config.MaxBytes keeps the arena below 2^32 edges
}

// remove takes the edge to n out of a list, and reports whether there was one.
func (l *lists) remove(owner, n uint32) bool {
	list := l.of(owner)
	at, ok := search(list, n)
	if !ok {
		return false
	}
	copy(list[at:], list[at+1:])
	s := &l.spans[owner]
	s.n--
	if s.n == 0 {
		l.garbage += int(s.room)
		*s = span{}
	}
	return true
}

// compact writes the arena anew, without garbage, once that is a quarter of it.
func (l *lists) compact() {
	if l.garbage < minGarbage || l.garbage < len(l.arena)/4 {
		return
	}
	arena := make([]edge, 0, len(l.arena)-l.garbage)
	for i := range l.spans {
		s := &l.spans[i]
		at := len(arena)
		arena = append(arena, l.arena[s.at:s.at+s.room]...)
		s.at = uint32(at) //nolint:gosec // no larger than before
	}
	l.arena, l.garbage = arena, 0
}

func (l *lists) bytes() int64 { return 12*int64(cap(l.spans)) + 4*int64(cap(l.arena)) }

// row is an edge with its owner, while lists are being made.
type row struct {
	owner uint32
	edge  edge
}

// flipped is the same row seen from its other end.
func (r row) flipped() row { return row{r.edge.number(), newEdge(r.owner, r.edge.traits())} }

// makeLists makes the lists of so many owners from rows in any order, each at its exact size; seen tells how to see a row.
func makeLists(owners int, rows []row, seen func(row) row) lists {
	l := lists{spans: make([]span, owners), arena: make([]edge, len(rows))}
	for _, r := range rows {
		l.spans[seen(r).owner].room++
	}
	at := uint32(0)
	for i := range l.spans {
		l.spans[i].at = at
		at += l.spans[i].room
	}
	for _, r := range rows {
		r = seen(r)
		s := &l.spans[r.owner]
		l.arena[s.at+s.n] = r.edge
		s.n++
	}
	for i := range l.spans {
		s := l.spans[i]
		slices.Sort(l.arena[s.at : s.at+s.n])
	}
	return l
}
