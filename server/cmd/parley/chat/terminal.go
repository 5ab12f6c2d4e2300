package chat

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// terminal is the UI of a person: a line to write on at the bottom, messages above it.
type terminal struct {
	t     *term.Terminal
	lines chan string
	keys  chan struct{}
}

const prompt = "> "

// NewTerminal takes the terminal over; call restore to give it back. in must be a terminal. Input ends with Ctrl-C, or
// Ctrl-D on an empty line.
func NewTerminal(ctx context.Context, in, out *os.File) (ui UI, restore func(), err error) {
	fd := int(in.Fd())
	before, err := term.MakeRaw(fd)
	if err != nil {
		return nil, nil, fmt.Errorf("take over the terminal: %w", err)
	}
	t := &terminal{lines: make(chan string), keys: make(chan struct{}, 1)}
	t.t = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{in, out}, prompt)
	if width, height, err := term.GetSize(fd); err == nil && width > 0 {
		_ = t.t.SetSize(width, height)
	}
	t.t.AutoCompleteCallback = t.pressed
	go t.read(ctx)
	return t, func() { _ = term.Restore(fd, before) }, nil
}

// pressed is called for every key. It completes nothing; it only tells that somebody writes.
func (t *terminal) pressed(line string, _ int, key rune) (newLine string, newPos int, ok bool) {
	if key >= ' ' && !strings.HasPrefix(line, "/") {
		select {
		case t.keys <- struct{}{}:
		default:
		}
	}
	return "", 0, false
}

func (t *terminal) read(ctx context.Context) {
	defer close(t.lines)
	for {
		line, err := t.t.ReadLine()
		if err != nil {
			line = "/quit" // who presses Ctrl-C wants to leave now, whatever is still to be sent
		}
		select {
		case t.lines <- line:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

func (t *terminal) print(text string) { _, _ = io.WriteString(t.t, text+"\n") }

func (t *terminal) Message(l Line) {
	esc := t.t.Escape
	at, seq := l.At.Format("15:04"), fmt.Sprintf("#%d", l.Seq)
	if l.Event {
		t.print(fmt.Sprintf("%s%s  %s %s  %s%s", esc.Yellow, at, l.Sender, l.Text, seq, esc.Reset))
		return
	}
	name, color, tick := l.Sender, esc.Cyan, ""
	if l.Own {
		name, color, tick = "you", esc.Green, " ✓"
	}
	text := strings.ReplaceAll(l.Text, "\n", "\n       ")
	t.print(fmt.Sprintf("%s  %s%s:%s %s  %s%s%s", at, color, name, esc.Reset, text, esc.Blue, seq+tick, esc.Reset))
}

func (t *terminal) Note(text string) {
	t.print(string(t.t.Escape.Yellow) + "       " + text + string(t.t.Escape.Reset))
}

// Typing goes into the prompt, where it comes and goes without leaving a trace.
func (t *terminal) Typing(names []string) {
	if len(names) == 0 {
		t.t.SetPrompt(prompt)
	} else {
		t.t.SetPrompt("(" + strings.Join(names, ", ") + " typing ...) " + prompt)
	}
	_, _ = t.t.Write(nil) // draws the line anew
}

func (t *terminal) Lines() <-chan string  { return t.lines }
func (t *terminal) Keys() <-chan struct{} { return t.keys }
