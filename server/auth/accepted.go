package auth

import (
	"crypto/sha256"
	"encoding/binary"
)

// KeyMark identifies a verification key: its issuer, its id there, its algorithm and its bytes. A key that is replaced
// under the same id has another mark.
type KeyMark [sha256.Size]byte

func markOf(issuer string, key *verificationKey) KeyMark {
	var content []byte
	for _, part := range [][]byte{[]byte(issuer), []byte(key.id), []byte(key.alg.String()), key.raw} {
		content = binary.AppendUvarint(content, uint64(len(part))) // Lengths keep neighbours apart.
		content = append(content, part...)
	}
	return sha256.Sum256(content)
}

// AcceptedKeys are the keys of all issuers at one time. It is immutable.
type AcceptedKeys struct {
	marks map[KeyMark]struct{}
	// incomplete: an issuer's keys could not be had.
	incomplete bool
}

// AcceptedKeys returns the keys that count now. What goes on for longer than a call, such as a stream, asks it from time
// to time whether the key that let it in still counts. It waits for no network; a source on a disk may read it.
func (v *Verifier) AcceptedKeys() AcceptedKeys {
	a := AcceptedKeys{marks: make(map[KeyMark]struct{})}
	for _, issuer := range v.issuers {
		keys, err := issuer.Source.Keys()
		if err != nil {
			a.incomplete = true
			continue
		}
		for i := range keys.keys {
			a.marks[markOf(issuer.Name, &keys.keys[i])] = struct{}{}
		}
	}
	return a
}

// Check returns nil for the mark of a key that counts. Else it is a refusal, as for a token of that key: UNAVAILABLE while
// an issuer's keys cannot be had, since the key may be one of those, and TOKEN_INVALID otherwise. The zero mark is no
// key's.
func (a AcceptedKeys) Check(mark KeyMark) error {
	if _, ok := a.marks[mark]; ok {
		return nil
	}
	if a.incomplete {
		return errUnavailable
	}
	return errKeyUnknown
}
