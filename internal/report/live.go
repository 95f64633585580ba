package report

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Live shows the present state of something long: redrawn in place on a terminal, a line each time elsewhere.
type Live struct {
	w     io.Writer
	style Style
	drawn int // lines that stand on the terminal
}

// NewLive returns a display that writes to w, which is usually standard error.
func NewLive(w io.Writer, s Style) *Live { return &Live{w: w, style: s} }

// Redraws says whether updates replace each other, so that they may come often and be long.
func (l *Live) Redraws() bool { return l.style.Terminal }

// Update shows text instead of what the last update showed. Lines are cut at the terminal's width, and lines for which
// it is not high enough are left out: what has scrolled away cannot be redrawn.
func (l *Live) Update(text string) error {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	out := ""
	if l.style.Terminal {
		out = l.erase()
		if room := l.style.Height - 1; room > 0 {
			lines = lines[:min(room, len(lines))]
		}
		for i, line := range lines {
			lines[i] = cut(line, l.style.width())
		}
		l.drawn = len(lines)
	}
	return l.write(out + strings.Join(lines, "\n") + "\n")
}

// Show shows progress: as a table where it is redrawn, as a line elsewhere.
func (l *Live) Show(p *Progress) error {
	if !l.Redraws() {
		return l.Update(p.Line())
	}
	var text strings.Builder
	if err := p.Text(&text, l.style); err != nil {
		return err
	}
	return l.Update(text.String())
}

// Clear takes the last update from the terminal. Elsewhere it does nothing.
func (l *Live) Clear() error {
	out := l.erase()
	l.drawn = 0
	if out == "" {
		return nil
	}
	return l.write(out)
}

// Note writes a line that stays, in place of the last update.
func (l *Live) Note(text string) error {
	out := l.erase()
	l.drawn = 0
	return l.write(out + Clean(text) + "\n")
}

// erase moves the cursor to where the last update began and clears the screen from there.
func (l *Live) erase() string {
	if l.drawn == 0 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA\r\x1b[J", l.drawn)
}

func (l *Live) write(text string) error {
	if _, err := io.WriteString(l.w, text); err != nil {
		return fmt.Errorf("show progress: %w", err)
	}
	return nil
}

// cut shortens a line to a width in columns. What is cut may end a colour, so colours end with the line.
func cut(line string, width int) string {
	if visibleWidth(line) <= width {
		return line
	}
	out, columns := "", 0
	for line != "" {
		if code := painted.FindStringIndex(line); code != nil && code[0] == 0 {
			out, line = out+line[:code[1]], line[code[1]:]
			continue
		}
		r, size := utf8.DecodeRuneInString(line)
		if columns++; columns > width {
			break
		}
		out, line = out+string(r), line[size:]
	}
	if strings.Contains(out, "\x1b[") {
		out += "\x1b[0m"
	}
	return out
}
