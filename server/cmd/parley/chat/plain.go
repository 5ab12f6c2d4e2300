package chat

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
)

// plain is the UI without a terminal: a line in, a line out, so that it can be scripted. Messages go to out; what happened
// and notes go to notes, where they are in nobody's way:
//
//	bob: hello             a message
//	    and good bye       the rest of one with several lines
//	* bob recalled #3      something that happened
//	* connected            a note
type plain struct {
	out, notes io.Writer
	lines      chan string
	err        error // set before lines is closed
	typing     string
}

// maxLine bounds a line of input, in bytes: a message has at most 16 KiB of text.
const maxLine = 64 << 10

// NewPlain reads lines from in, and writes messages to out and the rest to notes. Reading ends with in, or at the first
// line after ctx.
func NewPlain(ctx context.Context, in io.Reader, out, notes io.Writer) UI {
	p := &plain{out: out, notes: notes, lines: make(chan string)}
	go func() {
		defer close(p.lines)
		scanner := bufio.NewScanner(in)
		scanner.Buffer(nil, maxLine)
		for scanner.Scan() {
			select {
			case p.lines <- scanner.Text():
			case <-ctx.Done():
				return
			}
		}
		if err := scanner.Err(); err != nil {
			p.err = fmt.Errorf("read the input: %w", err)
		}
	}()
	return p
}

func (p *plain) Message(l Line) {
	text := strings.ReplaceAll(l.Text, "\n", "\n    ")
	if l.Event {
		p.Note(l.Sender + " " + text)
		return
	}
	fmt.Fprintf(p.out, "%s: %s\n", l.Sender, text)
}

func (p *plain) Note(text string) { fmt.Fprintf(p.notes, "* %s\n", text) }

func (p *plain) Status(s Status) {
	now := strings.Join(s.Typing, ", ")
	if now != "" && now != p.typing {
		p.Note(now + " typing")
	}
	p.typing = now
}

func (p *plain) Lines() <-chan string  { return p.lines }
func (p *plain) Keys() <-chan struct{} { return nil }
func (p *plain) Err() error            { return p.err }
