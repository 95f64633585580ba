// Package logend shows how a log ends, for errors about the process that wrote it.
package logend

import (
	"io"
	"os"
	"path/filepath"
)

// size is how much of a log an error shows: about twenty lines.
const size = 4 << 10

// Of returns the end of a log, or why it cannot be read.
func Of(path string) string {
	f, err := os.Open(filepath.Clean(path))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	if info, statErr := f.Stat(); statErr == nil && info.Size() > size {
		_, _ = f.Seek(-size, io.SeekEnd)
	}
	text, _ := io.ReadAll(f)
	return string(text)
}
