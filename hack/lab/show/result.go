// Package show runs the lab's two scenes, the demo and the benchmark, and writes what they saw. It judges nothing: the
// figures are the observer's and, beside them, the operator's own.
package show

import (
	"fmt"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"k8s.io/utils/ptr"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/observer"
)

// lagFigures are the lag of one resource in one phase.
type lagFigures struct {
	Changes    int64   `json:"changes"`
	P50Seconds float64 `json:"p50Seconds"`
	P99Seconds float64 `json:"p99Seconds"`
	Pending    int64   `json:"pending"`
	// Apart are changes that the operator counts and keeps out of the percentiles, because they began unseen or met a time
	// without a leader. The observer has none.
	Apart int64 `json:"apart"`
}

// all says that every one of so many changes is over and counted, in the percentiles or apart.
func (f lagFigures) all(changes int64) bool { return f.Changes+f.Apart == changes && f.Pending == 0 }

// bothFigures are the lag of both resources.
type bothFigures struct {
	EndpointSlice lagFigures `json:"endpointSlice"`
	Endpoints     lagFigures `json:"endpoints"`
}

// phase is one incident of the demo: the operator's own figures, and the observer's.
type phase struct {
	Name        string           `json:"name"`
	Flags       map[string]int32 `json:"flags"`
	FlipSeconds float64          `json:"flipSeconds"`
	bothFigures
	Observer bothFigures `json:"observer"`
}

// demoResult is out/demo/result.json.
type demoResult struct {
	KubernetesVersion       string  `json:"kubernetesVersion"`
	Services                int     `json:"services"`
	Phases                  []phase `json:"phases"`
	KCMRestarts             int     `json:"kcmRestarts"`
	HandoverSeconds         float64 `json:"handoverSeconds"`
	ObserverHandoverSeconds float64 `json:"observerHandoverSeconds"`
	Bottleneck              string  `json:"bottleneck"`
	PredictedP99Seconds     float64 `json:"predictedP99Seconds"`
}

// row is one setting of the benchmark.
type row struct {
	Name              string           `json:"name"`
	Flags             map[string]int32 `json:"flags"`
	Cost              int64            `json:"cost"`
	Rounds            int              `json:"rounds"`
	MedianP50Seconds  float64          `json:"medianP50Seconds"`
	MedianP99Seconds  float64          `json:"medianP99Seconds"`
	MinP99Seconds     float64          `json:"minP99Seconds"`
	MaxP99Seconds     float64          `json:"maxP99Seconds"`
	MedianFlipSeconds float64          `json:"medianFlipSeconds"`
	P99Seconds        []float64        `json:"p99Seconds"`
}

// benchResult is out/bench/result.json.
type benchResult struct {
	KubernetesVersion   string  `json:"kubernetesVersion"`
	Services            int     `json:"services"`
	MaxLagSeconds       float64 `json:"maxLagSeconds"`
	PredictedP99Seconds float64 `json:"predictedP99Seconds"`
	OperatorMet         bool    `json:"operatorMet"`
	Rows                []row   `json:"rows"`
}

// flagMap names flags as kube-controller-manager does.
func flagMap(f v1alpha1.Flags) map[string]int32 {
	out := map[string]int32{}
	for _, v := range f.List() {
		out[v.Name] = v.Value
	}
	return out
}

// observed are the observer's figures.
func observed(r observer.Result) bothFigures {
	figures := func(s observer.Summary) lagFigures {
		return lagFigures{
			Changes: int64(s.Changes), Pending: int64(s.Pending),
			P50Seconds: s.P50.Seconds(), P99Seconds: s.P99.Seconds(),
		}
	}
	return bothFigures{EndpointSlice: figures(r.EndpointSlice.Summary), Endpoints: figures(r.Endpoints.Summary)}
}

// reported are the operator's figures, from a policy's status, over both directions.
func reported(lags []v1alpha1.Lag) (bothFigures, error) {
	var out bothFigures
	for _, l := range lags {
		if l.Direction != v1alpha1.DirectionAny {
			continue
		}
		f := lagFigures{Changes: *l.Changes, Pending: *l.Open}
		for _, apart := range []*int64{l.Startup, l.Unseen, l.HandOver} {
			f.Apart += ptr.Deref(apart, 0)
		}
		for _, q := range []struct {
			text string
			into *float64
		}{{l.P50, &f.P50Seconds}, {l.P99, &f.P99Seconds}} {
			if err := seconds(q.text, q.into); err != nil {
				return out, fmt.Errorf("lag of %s in the policy's status: %w", l.Resource, err)
			}
		}
		switch l.Resource {
		case v1alpha1.ResourceEndpointSlice:
			out.EndpointSlice = f
		case v1alpha1.ResourceEndpoints:
			out.Endpoints = f
		}
	}
	return out, nil
}

// seconds reads a duration as a status shows it; none is 0.
func seconds(text string, into *float64) error {
	if text == "" {
		return nil
	}
	if len(text) > 2 && text[:2] == ">=" {
		text = text[2:]
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return err
	}
	*into = d.Seconds()
	return nil
}
