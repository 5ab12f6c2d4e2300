package account

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/parley-im/parley/server/refusal"
)

// MaxIDBytes bounds a user id and a device id, in bytes.
const MaxIDBytes = 64

// CheckID is the rule for ids of users and devices, for every place where one enters: 1 to MaxIDBytes bytes of valid
// UTF-8 without control characters and without white space at either end. What differs only in what nobody can see
// would pass for somebody else. field names the request's field. Errors are INVALID_FIELD; the id is not in them.
func CheckID(field, id string) error {
	switch {
	case id == "" || len(id) > MaxIDBytes:
		return badField(field, "It must have 1 to 64 bytes.")
	case !utf8.ValidString(id):
		return badField(field, "It must be valid UTF-8.")
	case strings.ContainsFunc(id, unicode.IsControl):
		return badField(field, "It must not contain control characters.")
	case strings.TrimSpace(id) != id:
		return badField(field, "It must not begin or end with white space.")
	}
	return nil
}

// CheckText is the rule for free text that is stored as it is: valid UTF-8 without zero bytes, which PostgreSQL's text
// cannot hold. Lengths are the requests' validation rules. Errors are INVALID_FIELD; the text is not in them.
func CheckText(field, text string) error {
	if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
		return badField(field, "It must be valid UTF-8 without zero bytes.")
	}
	return nil
}

func badField(field, rule string) error {
	return refusal.New(refusal.InvalidField, "A field breaks its rule.", "field", field, "rule", rule)
}
