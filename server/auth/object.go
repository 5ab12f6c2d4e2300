package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

var errObject = errors.New("not a proper JSON object")

// lastSecond is the end of the year 9999, the last time that RFC 3339 and protobuf timestamps can express.
const lastSecond = 253402300799

// object is a JSON object whose members are still encoded. Names are exact: unlike a struct's fields in encoding/json
// they are not folded, so "EXP" is not "exp".
type object map[string]json.RawMessage

// parseObject decodes one JSON object with nothing behind it but white space. It is stricter than encoding/json where
// two readers of the same bytes could come to different results: repeated names, invalid UTF-8 and unpaired
// surrogates, both of which encoding/json would replace silently, are errors.
func parseObject(data []byte) (object, error) {
	if !utf8.Valid(data) || !json.Valid(data) || unpairedSurrogate(data) {
		return nil, errObject
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, errObject
	}
	members := object{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, errObject
		}
		key, ok := name.(string)
		if _, repeated := members[key]; !ok || repeated {
			return nil, errObject
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, errObject
		}
		members[key] = value
	}
	return members, nil // json.Valid has seen the end already.
}

// has reports whether the object has the member, null included.
func (o object) has(name string) bool {
	_, ok := o[name]
	return ok
}

// text returns a member that must be a string. It is false if the member is missing or anything else.
func (o object) text(name string) (string, bool) {
	return text(o[name])
}

// texts returns a member that is a string or an array of strings. It is false for anything else.
func (o object) texts(name string) ([]string, bool) {
	raw := o[name]
	if one, ok := text(raw); ok {
		return []string{one}, true
	}
	var items []json.RawMessage
	if len(raw) == 0 || raw[0] != '[' || json.Unmarshal(raw, &items) != nil {
		return nil, false
	}
	all := make([]string, 0, len(items))
	for _, item := range items {
		s, ok := text(item)
		if !ok {
			return nil, false
		}
		all = append(all, s)
	}
	return all, true
}

// instant returns a member that is a NumericDate (RFC 7519, section 2): a number of seconds since 1970, fractions
// allowed, from 0 to lastSecond. It is false for anything else, strings and null included.
func (o object) instant(name string) (time.Time, bool) {
	raw := o[name]
	if len(raw) == 0 || raw[0] < '0' || raw[0] > '9' {
		return time.Time{}, false
	}
	if whole, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
		return time.Unix(whole, 0).UTC(), whole <= lastSecond
	}
	seconds, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || seconds > lastSecond {
		return time.Time{}, false
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*float64(time.Second))).UTC(), true
}

// text decodes a JSON string. The first byte decides: json.Unmarshal would take null for an empty string.
func text(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	var s string
	return s, json.Unmarshal(raw, &s) == nil
}

// unpairedSurrogate reports whether a \u escape in valid JSON text names half of a surrogate pair without the other
// half. Backslashes occur in strings only, so the text need not be parsed.
func unpairedSurrogate(data []byte) bool {
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		i++ // The escaped character; valid JSON has one.
		if data[i] != 'u' {
			continue
		}
		unit := hexUnit(data[i+1:])
		i += 4
		if unit < 0xD800 || unit > 0xDFFF {
			continue
		}
		next := data[i+1:]
		if unit > 0xDBFF || len(next) < 6 || next[0] != '\\' || next[1] != 'u' {
			return true
		}
		if low := hexUnit(next[2:]); low < 0xDC00 || low > 0xDFFF {
			return true
		}
		i += 6
	}
	return false
}

// hexUnit reads the four hexadecimal digits that valid JSON has behind \u.
func hexUnit(digits []byte) uint64 {
	unit, err := strconv.ParseUint(string(digits[:4]), 16, 16)
	if err != nil {
		return 0xDFFF // Not reachable in valid JSON; an unpaired surrogate refuses the text.
	}
	return unit
}
