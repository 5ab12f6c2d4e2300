// Package refusal is the domain's typed "no": why a call was declined, in words that the caller may see.
//
// Domain packages return *Error and know no transport codes; server/rpc/errors.go is the only place that turns a
// Reason into a code and a wire detail. Everything that is not a refusal is a fault: it is logged whole and answered
// as an internal error.
//
// A refusal reaches the client as it is. Its text and metadata therefore hold nothing private: no message bodies, no
// tokens or keys, and nothing about users or sessions that the caller could not have seen anyway. Where existence
// itself is private, one reason covers "unknown" and "not yours" alike (see SessionUnavailable), and callers give
// both the same text and the same metadata.
package refusal

import "errors"

// Error is one refusal. Treat it as immutable: it may be shared by several waiters of one call.
type Error struct {
	// Reason says which rule declined the call; clients branch on it.
	Reason Reason
	// Text is one English sentence for developers who read logs. It is safe for clients and holds no private data.
	Text string
	// Meta has machine-readable details, such as "field" for InvalidField. It is nil when there are none.
	Meta map[string]string
}

// New makes a refusal. kv are metadata pairs: key, value, key, value; a last key without a value gets the empty one,
// and a repeated key keeps its last value.
func New(r Reason, text string, kv ...string) *Error {
	e := &Error{Reason: r, Text: text}
	if len(kv) == 0 {
		return e
	}
	e.Meta = make(map[string]string, (len(kv)+1)/2)
	for i := 0; i < len(kv); i += 2 {
		value := ""
		if i+1 < len(kv) {
			value = kv[i+1]
		}
		e.Meta[kv[i]] = value
	}
	return e
}

// Error returns the reason and the text. Metadata is left out, so that the line is constant per cause.
func (e *Error) Error() string {
	if e.Text == "" {
		return string(e.Reason)
	}
	return string(e.Reason) + ": " + e.Text
}

// Is makes errors.Is compare reasons only: errors.Is(err, refusal.New(refusal.Muted, "")) holds for every refusal with
// that reason, whatever its text and metadata.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error) // errors.Is unwraps; this compares one link of the chain
	return ok && t != nil && t.Reason == e.Reason
}

// Of returns the reason of the first refusal in err's chain. It is false for nil and for errors that are no refusal.
func Of(err error) (Reason, bool) {
	var e *Error
	if !errors.As(err, &e) || e == nil {
		return "", false
	}
	return e.Reason, true
}
