package report

import (
	"os"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// defaultWidth is how wide text is where the terminal does not say, in columns.
const defaultWidth = 80

// Style is what a writer can show. The zero value is a file or a pipe: plain text, nothing redrawn.
type Style struct {
	// Terminal says that a person watches: text may be redrawn in place.
	Terminal bool
	// Color says that colours are welcome.
	Color bool
	// Width in columns; 0 means 80.
	Width int
	// Height in lines; 0 means no limit.
	Height int
}

// Detect returns the style of a file. Colours need a terminal, and neither NO_COLOR (https://no-color.org) nor
// TERM=dumb, as getenv tells them.
func Detect(f *os.File, getenv func(string) string) Style {
	if !term.IsTerminal(int(f.Fd())) {
		return Style{}
	}
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil {
		width, height = 0, 0
	}
	dumb := getenv("TERM") == "dumb"
	return Style{Terminal: !dumb, Color: !dumb && getenv("NO_COLOR") == "", Width: width, Height: height}
}

func (s Style) width() int {
	if s.Width > 0 {
		return s.Width
	}
	return defaultWidth
}

// Good marks text as good news.
func (s Style) Good(text string) string { return s.paint("32", text) }

// Bad marks text as bad news.
func (s Style) Bad(text string) string { return s.paint("31", text) }

// Warn marks text as something to look at.
func (s Style) Warn(text string) string { return s.paint("33", text) }

// Bold marks text as a heading.
func (s Style) Bold(text string) string { return s.paint("1", text) }

func (s Style) paint(code, text string) string {
	if !s.Color || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// painted matches what paint and the plots add.
var painted = regexp.MustCompile("\x1b\\[[0-9;]*m")

// visibleWidth is how many columns a line takes.
func visibleWidth(line string) int { return utf8.RuneCountInString(painted.ReplaceAllString(line, "")) }

// Clean returns text from elsewhere without control characters, so that no object in a cluster can drive the terminal.
// Line breaks become spaces.
func Clean(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, text)
}
