package roster

// shardBits: an index is divided so that growing, which places every entry anew under the map's lock, takes a 64th of
// the time.
const shardBits = 6

// index finds numbers by the hash of what they stand for: open addressing over slots of 4 bytes, 3/8 to 3/4 of which are
// used. It never shrinks. The zero value is empty.
type index struct {
	shards [1 << shardBits]shard
}

type shard struct {
	slots []uint32 // number + 1; 0 is empty. Their count is a power of two
	used  int
}

// find returns the number with that hash for which same holds.
func (x *index) find(hash uint64, same func(n uint32) bool) (uint32, bool) {
	s := &x.shards[hash>>(64-shardBits)]
	if len(s.slots) == 0 {
		return 0, false
	}
	mask := uint64(len(s.slots) - 1) //nolint:gosec // there are slots
	for at := hash & mask; s.slots[at] != 0; at = (at + 1) & mask {
		if n := s.slots[at] - 1; same(n) {
			return n, true
		}
	}
	return 0, false
}

// add places a number that is not in the index; hashOf tells the hash of any that is.
func (x *index) add(hash uint64, n uint32, hashOf func(n uint32) uint64) {
	s := &x.shards[hash>>(64-shardBits)]
	if (s.used+1)*4 > len(s.slots)*3 {
		former := s.slots
		s.slots = make([]uint32, max(8, 2*len(former)))
		for _, v := range former {
			if v != 0 {
				s.place(hashOf(v-1), v)
			}
		}
	}
	s.place(hash, n+1)
	s.used++
}

func (s *shard) place(hash uint64, v uint32) {
	mask := uint64(len(s.slots) - 1) //nolint:gosec // there are slots
	at := hash & mask
	for s.slots[at] != 0 {
		at = (at + 1) & mask
	}
	s.slots[at] = v
}

// bytes is the memory that the index holds.
func (x *index) bytes() (n int64) {
	for i := range x.shards {
		n += 4 * int64(cap(x.shards[i].slots))
	}
	return n
}
