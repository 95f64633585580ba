package scale

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Result is what the benchmark writes.
type Result struct {
	GoMaxProcs int     `json:"cores"` // of the machine
	Points     []Point `json:"points"`
	Tracker    Tracker `json:"tracker"`
}

// Point is one size of cluster. A figure that could not be measured is null.
type Point struct {
	Shape
	ControllerRSSBytes     int64    `json:"controllerRSSBytes"`     // at most, from its start to the end of the churn (VmHWM)
	PlainInformersRSSBytes int64    `json:"plainInformersRSSBytes"` // at most, from its start until synced and settled (VmHWM)
	DefaultCacheRSSBytes   int64    `json:"defaultCacheRSSBytes"`   // the same
	ControllerCores        float64  `json:"controllerCores"`        // processor seconds per second of churn
	P99DelaySeconds        *float64 `json:"p99DelaySeconds"`        // from the receipt of an event to the tracker, of all kinds

	Controller ControllerFigures `json:"controller"`
	Plain      RivalFigures      `json:"plainInformers"`
	Default    RivalFigures      `json:"defaultCache"`
	Sizes      Sizes             `json:"objectBytes"`
}

// ControllerFigures are details of the controller's run.
type ControllerFigures struct {
	SyncSeconds        float64 `json:"syncSeconds"`    // from the start to the end of the work on the first lists
	SyncedRSSBytes     int64   `json:"syncedRSSBytes"` // when that was done
	SyncedPeakRSSBytes int64   `json:"syncedPeakRSSBytes"`
	SyncCPUSeconds     float64 `json:"syncCPUSeconds"`

	SteadySeconds           float64 `json:"steadySeconds"` // without churn
	SteadyCores             float64 `json:"steadyCores"`
	ListsSteady             int64   `json:"listsSteady"`
	WatchRenewalsSteady     int64   `json:"watchRenewalsSteady"`
	RequestsPerSecondSteady float64 `json:"requestsPerSecondSteady"` // without renewals of watches

	ChurnSeconds             float64             `json:"churnSeconds"`
	ChangesPerSecond         float64             `json:"changesPerSecond"`
	EventsPerSecond          float64             `json:"eventsPerSecond"` // Pods, slices and Endpoints
	ListsChurn               int64               `json:"listsChurn"`
	WatchRenewalsChurn       int64               `json:"watchRenewalsChurn"`
	RequestsPerSecondChurn   float64             `json:"requestsPerSecondChurn"` // without renewals of watches
	WatchesExpired           int64               `json:"watchesExpired"`
	MaxEventsBehind          int64               `json:"maxEventsBehind"` // that a watch had still to be sent
	RSSAfterChurnBytes       int64               `json:"rssAfterChurnBytes"`
	AnonymousAfterChurnBytes int64               `json:"anonymousAfterChurnBytes"` // of that, without its program
	HeapGoalBeforeBytes      int64               `json:"heapGoalBeforeChurnBytes"` // of the Go runtime: tells growth from garbage
	HeapGoalAfterBytes       int64               `json:"heapGoalAfterChurnBytes"`
	GrowthBytes              int64               `json:"growthBytes"`          // from the end of the first minute, or half, to the end
	GrowthBytesPerMinute     float64             `json:"growthBytesPerMinute"` // slope of the straight line through the samples since
	P99DelayByKind           map[string]*float64 `json:"p99DelaySecondsByKind"`
	OpenChangesAfter         *float64            `json:"openChangesAfterChurn"`
}

// RivalFigures are details of a rival's run.
type RivalFigures struct {
	SyncSeconds     float64 `json:"syncSeconds"`
	SettledRSSBytes int64   `json:"settledRSSBytes"`
	Lists           int64   `json:"lists"`
}

// print writes the result as a table.
func (r Result) print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "Pods\tServices\tcontroller\tplain informers\tshare\tdefault cache\tshare\tcores\tp99 delay\tgrowth/min\tLISTs\trequests/s\t")
	for _, p := range r.Points {
		delay := "–"
		if p.P99DelaySeconds != nil {
			delay = fmt.Sprintf("%.2f ms", *p.P99DelaySeconds*1000)
		}
		_, _ = fmt.Fprintf(table, "%d\t%d\t%s\t%s\t%s\t%s\t%s\t%.2f\t%s\t%s\t%d\t%.2f\t\n", p.Pods, p.Services,
			megabytes(float64(p.ControllerRSSBytes)), megabytes(float64(p.PlainInformersRSSBytes)),
			share(p.ControllerRSSBytes, p.PlainInformersRSSBytes), megabytes(float64(p.DefaultCacheRSSBytes)),
			share(p.ControllerRSSBytes, p.DefaultCacheRSSBytes), p.ControllerCores, delay,
			megabytes(p.Controller.GrowthBytesPerMinute), p.Controller.ListsSteady, p.Controller.RequestsPerSecondSteady)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if r.Tracker.EventsPerSecond == nil {
		return nil
	}
	_, err := fmt.Fprintf(w, "\ntracker: %.0f events/s on one core, %.0f bytes and %.1f allocations per change (%s)\n",
		*r.Tracker.EventsPerSecond, *r.Tracker.BytesPerChange, *r.Tracker.AllocsPerChange, r.Tracker.Benchmark)
	return err
}

// megabytes are millions of bytes, as the limits of the issue are.
func megabytes(bytes float64) string { return fmt.Sprintf("%.1f MB", bytes/1e6) }

func share(part, whole int64) string {
	if whole == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f %%", 100*float64(part)/float64(whole))
}
