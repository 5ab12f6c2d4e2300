package scan

import "fmt"

// Wire types of protobuf.
const (
	varintType  = 0
	fixed64Type = 1
	lenType     = 2
	fixed32Type = 5
)

// tag is the one byte that a field with a number below 16 begins with.
func tag(number, wireType byte) byte { return number<<3 | wireType }

// field is one field of a message: value for a varint, bytes for what has a length.
type field struct {
	number uint64
	value  uint64
	bytes  []byte
}

// next splits the first field off p.
func next(p []byte) (f field, rest []byte, err error) {
	key, n := uvarint(p)
	if n <= 0 {
		return f, nil, errTruncated
	}
	p = p[n:]
	f.number = key >> 3
	switch key & 7 {
	case varintType:
		f.value, n = uvarint(p)
		if n <= 0 {
			return f, nil, errTruncated
		}
	case lenType:
		size, m := uvarint(p)
		if m <= 0 || uint64(len(p)-m) < size { //nolint:gosec // not negative
			return f, nil, errTruncated
		}
		n = m + int(size) //nolint:gosec // not more than len(p)
		f.bytes = p[m:n]
	case fixed64Type:
		n = 8
	case fixed32Type:
		n = 4
	default:
		return f, nil, fmt.Errorf("scan: wire type %d", key&7)
	}
	if n > len(p) {
		return f, nil, errTruncated
	}
	return f, p[n:], nil
}

// uvarint reads a varint and its length; 0 means that p is too short, -1 that it is none.
func uvarint(p []byte) (v uint64, n int) {
	if len(p) > 0 && p[0] < 0x80 {
		return uint64(p[0]), 1
	}
	for i, b := range p {
		if i == 10 {
			return 0, -1
		}
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}
