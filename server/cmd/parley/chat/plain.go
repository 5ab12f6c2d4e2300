package chat

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
)

// plain is the UI without a terminal: a line in, a line out, so that it can be scripted.
//
//	#3 bob: hello          a message
//	#4 * bob recalled #3   something that happened
//	* connected            a note
type plain struct {
	out   io.Writer
	lines chan string
}

// maxLine bounds a line of input, in bytes: a message has at most 16 KiB of text.
const maxLine = 64 << 10

// NewPlain reads lines from in and writes lines to out. Reading ends with in, or at the first line after ctx.
func NewPlain(ctx context.Context, in io.Reader, out io.Writer) UI {
	p := &plain{out: out, lines: make(chan string)}
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
	}()
	return p
}

func (p *plain) Message(l Line) {
	format := "#%d %s: %s\n"
	if l.Event {
		format = "#%d * %s %s\n"
	}
	fmt.Fprintf(p.out, format, l.Seq, l.Sender, strings.ReplaceAll(l.Text, "\n", "\n    "))
}

func (p *plain) Note(text string) { fmt.Fprintf(p.out, "* %s\n", text) }

func (p *plain) Typing(names []string) {
	if len(names) > 0 {
		p.Note("typing: " + strings.Join(names, ", "))
	}
}

func (p *plain) Lines() <-chan string  { return p.lines }
func (p *plain) Keys() <-chan struct{} { return nil }
