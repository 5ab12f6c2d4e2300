package chat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
	"golang.org/x/text/width"
)

// terminal is the UI of a person: a line to write on at the bottom, messages above it.
//
// draw is held by whoever changes the screen. The reader holds it, too, but for the time in which it waits for keys; so
// nothing comes between the end of a line and its being wiped away.
type terminal struct {
	t       *term.Terminal
	in, out *os.File
	lines   chan string
	keys    chan struct{}

	draw   sync.Mutex
	prompt string
}

const basePrompt = "> "

// NewTerminal takes the terminal over; call restore to give it back. in and out must be a terminal. Input ends with Ctrl-C,
// or Ctrl-D on an empty line.
func NewTerminal(ctx context.Context, in, out *os.File) (ui UI, restore func(), err error) {
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return nil, nil, fmt.Errorf("take over the terminal: %w", err)
	}
	t := &terminal{in: in, out: out, lines: make(chan string), keys: make(chan struct{}, 1), prompt: basePrompt}
	t.t = term.NewTerminal(t, basePrompt)
	t.t.AutoCompleteCallback = t.pressed
	t.fit()
	go t.read(ctx)
	return t, func() {
		t.draw.Lock()
		defer t.draw.Unlock()
		_, _ = io.WriteString(out, "\r\x1b[J")
		_ = term.Restore(int(in.Fd()), before)
	}, nil
}

// Read gives keys to the line editor.
func (t *terminal) Read(p []byte) (int, error) {
	t.draw.Unlock()
	defer t.draw.Lock()
	return t.in.Read(p)
}

// Write takes what the line editor draws.
func (t *terminal) Write(p []byte) (int, error) { return t.out.Write(p) }

// pressed is called for every key. It completes nothing; it only tells that somebody writes.
func (t *terminal) pressed(line string, _ int, key rune) (newLine string, newPos int, ok bool) {
	if special := key >= 0xd800 && key <= 0xdfff; key > ' ' && !special && !strings.HasPrefix(line, "/") && key != '/' {
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
		line, err := t.readLine()
		if err != nil {
			return
		}
		select {
		case t.lines <- line:
		case <-ctx.Done():
			return
		}
	}
}

// readLine reads a line and wipes it away: it comes back as a message, in its place.
func (t *terminal) readLine() (string, error) {
	t.draw.Lock()
	defer t.draw.Unlock()
	line, err := t.t.ReadLine()
	if err != nil && !errors.Is(err, term.ErrPasteIndicator) {
		return "", err
	}
	if columns, _, err := term.GetSize(int(t.out.Fd())); err == nil && columns > 0 {
		if n, ok := columnsOf(t.prompt + line); ok {
			fmt.Fprintf(t.out, "\x1b[%dA\r\x1b[J", n/columns+1)
		}
	}
	return line, nil
}

// columnsOf returns how many columns a text takes, if that can be told: characters of double width and such that combine
// are drawn differently by every terminal.
func columnsOf(s string) (n int, ok bool) {
	for _, r := range s {
		switch k := width.LookupRune(r).Kind(); {
		case k == width.EastAsianWide, k == width.EastAsianFullwidth, r >= 0x300 && r < 0x370, r >= 0x1f000:
			return 0, false
		}
		n++
	}
	return n, true
}

// fit follows the size of the window.
func (t *terminal) fit() {
	if columns, rows, err := term.GetSize(int(t.out.Fd())); err == nil && columns > 0 {
		_ = t.t.SetSize(columns, rows)
	}
}

func (t *terminal) print(text string) {
	t.draw.Lock()
	defer t.draw.Unlock()
	t.fit()
	_, _ = io.WriteString(t.t, text+"\n")
}

func (t *terminal) Message(l Line) {
	esc := t.t.Escape
	at := l.At.Format("15:04")
	text := strings.ReplaceAll(l.Text, "\n", "\n       ")
	name, color, tick := l.Sender, esc.Cyan, ""
	if l.Own {
		name, color, tick = "you", esc.Green, " ✓"
	}
	if l.Event {
		t.print(fmt.Sprintf("%s  %s%s %s  #%d%s", at, esc.Yellow, name, text, l.Seq, esc.Reset))
		return
	}
	t.print(fmt.Sprintf("%s  %s%s:%s %s  %s#%d%s%s", at, color, name, esc.Reset, text, esc.Blue, l.Seq, tick, esc.Reset))
}

func (t *terminal) Note(text string) {
	t.print("       " + string(t.t.Escape.Yellow) + text + string(t.t.Escape.Reset))
}

// Status goes into the prompt, where it comes and goes without leaving a trace.
func (t *terminal) Status(s Status) {
	var parts []string
	if s.Offline {
		parts = append(parts, "offline")
	}
	if s.Waiting > 0 {
		parts = append(parts, fmt.Sprintf("%d waiting", s.Waiting))
	}
	if len(s.Typing) > 0 {
		parts = append(parts, strings.Join(s.Typing, ", ")+" typing")
	}
	t.draw.Lock()
	defer t.draw.Unlock()
	t.prompt = basePrompt
	if len(parts) > 0 {
		t.prompt = "(" + strings.Join(parts, "; ") + ") " + basePrompt
	}
	t.fit()
	t.t.SetPrompt(t.prompt)
	_, _ = t.t.Write(nil) // draws the line anew
}

func (t *terminal) Lines() <-chan string  { return t.lines }
func (t *terminal) Keys() <-chan struct{} { return t.keys }
func (t *terminal) Err() error            { return nil }
