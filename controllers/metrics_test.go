package controllers

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

func TestAPolicysFiguresGoWithIt(t *testing.T) {
	b := newBench(t, policyObject(v1alpha1.ModeRecommend))
	registry := prometheus.NewPedanticRegistry()
	if err := b.Metrics.Register(registry, b.Tracker, b.clock); err != nil {
		t.Fatal(err)
	}
	b.reconcile(t)
	recommended := b.policy(t).Status.Recommended.Flags
	want := map[string]float64{
		"endpointsync_policy_objective_seconds default": 2,
		"endpointsync_policy_objective_met default":     0,
	}
	for _, f := range v1alpha1.DefaultFlags().List() {
		want["endpointsync_policy_flag "+f.Name+" default running"] = float64(f.Value)
	}
	for _, f := range recommended.List() {
		want["endpointsync_policy_flag "+f.Name+" default recommended"] = float64(f.Value)
	}
	if diff := cmp.Diff(want, policyFigures(t, registry)); diff != "" {
		t.Errorf("figures (-want +got):\n%s", diff)
	}
	if err := b.client.Delete(t.Context(), b.policy(t)); err != nil {
		t.Fatal(err)
	}
	b.reconcile(t)
	if got := policyFigures(t, registry); len(got) > 0 {
		t.Errorf("figures of a deleted policy: %v, want none", got)
	}
}

// policyFigures returns the gauges of policies by name and label values.
func policyFigures(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if !slices.ContainsFunc(m.GetLabel(), isPolicy) {
				continue
			}
			words := []string{f.GetName()}
			for _, l := range m.GetLabel() {
				words = append(words, l.GetValue())
			}
			got[strings.Join(words, " ")] = m.GetGauge().GetValue()
		}
	}
	return got
}

func isPolicy(l *dto.LabelPair) bool { return l.GetName() == "policy" }
