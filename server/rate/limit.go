package rate

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Limit is a token bucket: it holds at most Burst tokens and gets one more each Every. The zero Limit is off: it bounds
// nothing. As a setting it reads "2000/s:10000" (2,000 a second, 10,000 at once), "100/h" (100 an hour, 100 at once), or "off".
type Limit struct {
	Every time.Duration // positive
	Burst int64         // 1 to maxBurst
}

const (
	// maxBurst and maxWindow bound what a setting may say: numbers past them are mistakes.
	maxBurst  = 1_000_000_000
	maxWindow = 31 * 24 * time.Hour
	off       = "off"
)

// window is the time in which an empty bucket fills.
func (l Limit) window() time.Duration { return l.Every * time.Duration(l.Burst) }

// Off reports whether the limit bounds nothing.
func (l Limit) Off() bool { return l == Limit{} }

// per are the units of rates.
var per = map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}

// Set implements pflag.Value. It fails, and changes nothing, on what is no limit; a rate of 0 is none: only "off" is off.
func (l *Limit) Set(text string) error {
	if text == off {
		*l = Limit{}
		return nil
	}
	rate, burst, both := strings.Cut(text, ":")
	number, unit, _ := strings.Cut(rate, "/")
	n, err := strconv.ParseInt(number, 10, 64)
	period, known := per[unit]
	if err != nil || !known || n < 1 || n > maxBurst {
		return errLimit
	}
	b := n
	if both {
		if b, err = strconv.ParseInt(burst, 10, 64); err != nil || b < 1 || b > maxBurst {
			return errLimit
		}
	}
	every := period / time.Duration(n)
	if every < 1 || b > int64(maxWindow/every) {
		return errLimit
	}
	*l = Limit{Every: every, Burst: b}
	return nil
}

var errLimit = fmt.Errorf("not a limit such as 2000/s:10000, 100/h or %s", off)

// String implements pflag.Value: what Set takes.
func (l *Limit) String() string {
	if l == nil || l.Off() {
		return off
	}
	for _, unit := range []string{"s", "m", "h"} {
		if n := (per[unit] + l.Every/2) / l.Every; n > 0 && per[unit]/n == l.Every {
			text := strconv.FormatInt(int64(n), 10) + "/" + unit
			if int64(n) != l.Burst {
				text += ":" + strconv.FormatInt(l.Burst, 10)
			}
			return text
		}
	}
	return l.Every.String() + " each, " + strconv.FormatInt(l.Burst, 10) + " at once"
}

// Type implements pflag.Value.
func (*Limit) Type() string { return "limit" }
