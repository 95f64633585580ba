package main

import (
	"fmt"
	"strings"
)

// The targets that the operator is held against.
const (
	mostMedianRestarts = 1
	mostRestarts       = 2
	mostOverProvision  = 1.3
)

// table is the result for a terminal.
func table(r Result) string {
	var b strings.Builder
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(&b, format+"\n", args...) }
	line("\n%-18s %5s  %-8s %-5s %-28s %-28s %-22s %-5s", "family", "seeds", "restarts", "wrong", "violations a seed",
		"over oracle + unavoidable", "cost over oracle", "worse")
	for _, f := range r.Families {
		line("%-18s %5d  %g..%d %s  %3d %s  %6.1f (%.0f oracle, %.0f unav.) %s  %.2f [%.2f, %.2f]  %.2f [%.2f, %.2f] %s  %d",
			f.Name, f.Seeds, f.MedianRestarts, f.MaxRestarts,
			mark[f.MedianRestarts <= mostMedianRestarts && f.MaxRestarts <= mostRestarts],
			f.WrongCauseActions, mark[f.WrongCauseActions == 0],
			f.ViolationsPerSeed, f.OracleViolationsPerSeed, f.UnavoidablePerSeed,
			mark[f.ViolationsPerSeed <= tolerated*f.OracleViolationsPerSeed+f.UnavoidablePerSeed],
			f.ViolationsOverOracle, f.ViolationsOverOracleInterval[0], f.ViolationsOverOracleInterval[1],
			f.OverProvisionOverOracle, f.OverProvisionOverOracleInterval[0], f.OverProvisionOverOracleInterval[1],
			mark[f.OverProvisionOverOracle <= mostOverProvision], f.WorseThanBestStatic)
	}
	line("\n%-18s %s", "violations a seed", "and cost over the oracle's, of the others")
	for _, f := range r.Families {
		texts := []string{}
		for _, name := range names(f) {
			s := f.Baselines[name]
			texts = append(texts, fmt.Sprintf("%s %.0f at %.1f", name, s.ViolationsPerSeed, s.OverProvisionOverOracle))
		}
		line("%-18s %s", f.Name, strings.Join(texts, " | "))
	}
	line("\nrestarts: median..max; wrong: raises on a wrong cause; worse: seeds with more violations than the best static\n" +
		"setting and the unavoidable; [ ]: 95 %% interval; * misses its target")
	return b.String()
}

// mark is a star where a target is missed.
var mark = map[bool]string{true: " ", false: "*"}
