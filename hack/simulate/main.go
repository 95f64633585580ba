// Command simulate plays the operator's deciding code against simulated clusters, beside settings and rules that people
// use and an oracle that knows the future, and says who did how well. Nothing in it is part of the product. The same
// seeds give the same results, byte for byte.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/endpointsync/endpoint-sync-operator/hack/simulate/play"
)

func main() {
	debug.SetGCPercent(garbage)
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "simulate:", err)
		os.Exit(1)
	}
}

// garbage is how far the heap may grow before it is collected, in percent: there is little of it, and much that comes and
// goes.
const garbage = 400

func run(args []string, out, progress io.Writer) error {
	set := flag.NewFlagSet("simulate", flag.ContinueOnError)
	seeds := set.Int("seeds", 100, "how many scenes of each family are played")
	only := set.String("families", "", "play only the families whose name this regular expression matches")
	dir := set.String("out", "out/simulate", "where result.json and result.svg go")
	jobs := set.Int("jobs", runtime.NumCPU(), "how many scenes are played at a time")
	if err := set.Parse(args); err != nil {
		return err
	}
	wanted, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("--families: %w", err)
	}
	if *seeds < 1 || *jobs < 1 {
		return fmt.Errorf("--seeds is %d and --jobs %d, want at least 1", *seeds, *jobs)
	}
	var result Result
	for _, f := range play.Families() {
		if !wanted.MatchString(f.Name) {
			continue
		}
		_, _ = fmt.Fprintf(progress, "%-18s %s\n", f.Name, f.Story)
		result.Families = append(result.Families, summarize(f, rounds(f, *seeds, *jobs)))
	}
	if err = write(*dir, result); err != nil {
		return err
	}
	_, err = io.WriteString(out, table(result))
	return err
}

// rounds plays the scenes of the seeds 1 to n.
func rounds(f play.Family, n, jobs int) []play.Round {
	out := make([]play.Round, n)
	next := make(chan int)
	var players sync.WaitGroup
	for range jobs {
		players.Go(func() {
			for i := range next {
				out[i] = f.Play(uint64(i) + 1)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	players.Wait()
	return out
}

func write(dir string, r Result) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make the directory for results: %w", err)
	}
	text, err := r.JSON()
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{"result.json": text, "result.svg": []byte(plot(r))} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return fmt.Errorf("write results: %w", err)
		}
	}
	return nil
}
