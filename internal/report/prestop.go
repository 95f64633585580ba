package report

import (
	"fmt"
	"math"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

const (
	// proxyAllowance is what a sleep adds for kube-proxy, which programs a node only after it has read what is published,
	// and which nothing here measures: a synchronisation that has just begun without the change, the second that is between
	// two by its own default (--iptables-min-sync-period, --nftables-min-sync-period), and one with the change, for two
	// seconds each on a busy node. A sleep that is too long delays the end of a Pod; one that is too short fails connections.
	proxyAllowance = 5 * time.Second

	// spare is what a sleep adds to what was seen: the longest of as many removals again is as likely longer as shorter.
	spare = 0.25

	// defaultGrace is terminationGracePeriodSeconds where a Pod does not say. The sleep is part of it.
	defaultGrace = 30

	// coversPercentile is how many removals it takes for a percentile of 99.9 not to be the longest of all.
	coversPercentile = 1000
)

// PreStop is for how long a Pod that ends has to go on serving, so that nobody who still finds it published meets a
// closed port.
type PreStop struct {
	// SleepSeconds is lifecycle.preStop.sleep.seconds: RemovalSeconds and a quarter of it, rounded up, and five seconds for
	// kube-proxy.
	SleepSeconds int `json:"sleepSeconds"`
	// RemovalSeconds is the 99.9th percentile of the lag of the Removals that were seen in both APIs; below 1,000 of them
	// it is the longest. With RemovalLowerBound it is that at least, and so is SleepSeconds.
	RemovalSeconds    float64 `json:"removalSeconds"`
	RemovalLowerBound bool    `json:"removalLowerBound,omitempty"`
	Removals          int     `json:"removals"`
	// Message says what the sleep rests on.
	Message string `json:"message"`
	// Snippet is the part of a Pod's template.
	Snippet string `json:"snippet"`
}

// preStop returns nil where no removal was seen.
func preStop(s lag.Summary) *PreStop {
	if s.Removals == 0 {
		return nil
	}
	p := &PreStop{
		SleepSeconds:   int(math.Ceil((1+spare)*s.Removal.Value.Seconds())) + int(proxyAllowance/time.Second),
		RemovalSeconds: seconds(s.Removal.Value), RemovalLowerBound: s.Removal.LowerBound, Removals: s.Removals,
	}
	p.Message = p.covered()
	p.Snippet = fmt.Sprintf("spec:\n  terminationGracePeriodSeconds: %d\n  containers:\n  - name: NAME\n"+
		"    lifecycle:\n      preStop:\n        sleep:\n          seconds: %d\n", p.SleepSeconds+defaultGrace, p.SleepSeconds)
	return p
}

// covered says what the sleep would have done.
func (p *PreStop) covered() string {
	atLeastText := ""
	if p.RemovalLowerBound {
		atLeastText = "at least "
	}
	what := fmt.Sprintf("99.9 %% of the %s removals seen", Count(int64(p.Removals)))
	switch {
	case p.Removals == 1:
		what = "the only removal seen"
	case p.Removals < coversPercentile:
		what = fmt.Sprintf("the longest of the %s removals seen", Count(int64(p.Removals)))
	}
	text := fmt.Sprintf("a sleep of %s%d s would have covered %s, %s%s, with a quarter to spare, and leaves %s for kube-proxy to follow",
		atLeastText, p.SleepSeconds, what, atLeastText, Seconds(p.RemovalSeconds), exact(proxyAllowance.Seconds()))
	if p.RemovalLowerBound {
		text += "; removals are still open, so it may take more"
	}
	return text + fmt.Sprintf(". Pods need a terminationGracePeriodSeconds that holds the sleep and what they need to end "+
		"(the default of %d s again, below).", defaultGrace)
}
