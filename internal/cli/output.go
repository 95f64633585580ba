package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/endpointsync/endpoint-sync-operator/internal/report"
)

// lineInterval is how often progress is told where it cannot be redrawn.
const lineInterval = 5 * time.Second

// console is where a subcommand's results and its progress go.
type console struct {
	out    io.Writer
	style  report.Style
	format report.Format
	live   *report.Live
	told   time.Time // when progress was last written
}

// newConsole prints results in the named format on standard output and progress on standard error.
func newConsole(cmd *cobra.Command, format string) (*console, error) {
	f, err := report.ParseFormat(format)
	if err != nil {
		return nil, fmt.Errorf("--output: %w", err)
	}
	out, progress := cmd.OutOrStdout(), cmd.ErrOrStderr()
	return &console{out: out, style: styleOf(out), format: f, live: report.NewLive(progress, styleOf(progress))}, nil
}

// styleOf is plain for everything that is not a terminal.
func styleOf(w io.Writer) report.Style {
	if f, ok := w.(*os.File); ok {
		return report.Detect(f, os.Getenv)
	}
	return report.Style{}
}

// print takes the progress away and writes the result.
func (c *console) print(d report.Document) error {
	if err := c.live.Clear(); err != nil {
		return err
	}
	return report.Print(c.out, d, c.format, c.style)
}

// replaceable says why a file cannot be written, before there is anything to write: a measurement does not come back.
func replaceable(path string) error {
	there, err := os.Stat(path)
	switch {
	case err == nil && there.IsDir():
		return fmt.Errorf("%s is a directory: give the name of a file", path)
	case err == nil && !there.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", path)
	}
	temp, err := beside(path)
	if err != nil {
		return err
	}
	return errors.Join(temp.Close(), os.Remove(temp.Name()))
}

// beside makes a file that can be renamed to path.
func beside(path string) (*os.File, error) {
	dir := filepath.Dir(path)
	temp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if reason := (*fs.PathError)(nil); errors.As(err, &reason) {
		return nil, fmt.Errorf("write to the directory %s: %w", dir, reason.Err) // not the name that nobody gave
	}
	return temp, err
}

// replaceFile writes a file, whole or not at all.
func replaceFile(path string, write func(io.Writer) error) error {
	temp, err := beside(path)
	if err != nil {
		return err
	}
	if err = errors.Join(write(temp), temp.Close()); err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}

// concluding says that the measurement is over and the model at work, which can take a while after many changes.
func (c *console) concluding() error {
	return c.live.Update("Working out what other flags would have brought ...")
}

// progress is how far a measurement is.
type progress struct {
	now time.Time
	// soFar is what it shows until now; nil while the first lists are awaited.
	soFar func() *report.Progress
}

// show tells progress: a table that is redrawn on a terminal, else a line every few seconds.
func (c *console) show(p progress) error {
	if !c.live.Redraws() && p.now.Sub(c.told) < lineInterval {
		return nil
	}
	c.told = p.now
	if p.soFar == nil {
		return c.live.Update("Waiting for the first lists of Pods, Services, EndpointSlices and Endpoints ...")
	}
	return c.live.Show(p.soFar())
}
