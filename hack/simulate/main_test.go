package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/endpointsync/endpoint-sync-operator/hack/simulate/play"
)

func someRounds() []play.Round {
	rivals := make([]play.Score, len(play.RivalNames()))
	for i := range rivals {
		rivals[i] = play.Score{Violations: 40, MeanCost: 300, LastCost: 300}
	}
	round := play.Round{
		Changes: 1000, Operator: play.Score{Restarts: 1, Violations: 60, MeanCost: 120, LastCost: 130},
		Oracle: play.Score{Violations: 10, MeanCost: 100, LastCost: 100}, Unavoidable: 40, Rivals: rivals,
	}
	worse := round
	worse.Operator.Violations, worse.Operator.Restarts, worse.Wrong = 100, 2, 1
	return []play.Round{round, worse, round}
}

func TestSummarize(t *testing.T) {
	got := summarize(play.Family{Name: "some"}, someRounds())
	want := FamilyResult{
		Name: "some", Seeds: 3, WrongCauseActions: 1, ChangesPerSeed: 1000, OracleViolationsPerSeed: 10,
		UnavoidablePerSeed: 40, ExcessPerSeed: 22.3333, WorseThanBestStatic: 1,
		Summary: Summary{
			MedianRestarts: 1, MaxRestarts: 2, ViolationsPerSeed: 73.3333, ViolationsPerSeedInterval: [2]float64{60, 100},
			ViolationsOverOracle: 1.4667, ViolationsOverOracleInterval: [2]float64{1.2, 2},
			OverProvisionOverOracle: 1.2, OverProvisionOverOracleInterval: [2]float64{1.2, 1.2}, LastCostOverOracle: 1.3,
		},
	}
	got.Baselines = nil
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("summarize (-want +got):\n%s", diff)
	}
}

func TestThePlotIsXMLAndTheTableNamesWhatMisses(t *testing.T) {
	r := Result{Families: []FamilyResult{summarize(play.Family{Name: "some"}, someRounds())}}
	decoder := xml.NewDecoder(strings.NewReader(plot(r)))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the plot is no XML: %v", err)
		}
	}
	if text := table(r); !strings.Contains(text, "1 *") || !strings.Contains(text, "AIMD 40 at 3.0") {
		t.Errorf("table:\n%s\nwant a star at the wrong action, and the rivals", text)
	}
}
