package trace

import (
	"time"
)

// These types are the format: their names may not change within a version. They are not those of packages tuner and lag,
// which may.

type wire struct {
	Scope     scope     `json:"scope,omitzero"`
	Objective objective `json:"objective,omitzero"`
	Evidence  evidence  `json:"evidence"`
}

type scope struct {
	Selected bool     `json:"selected,omitempty"`
	Narrow   bool     `json:"narrow,omitempty"`
	Unread   []string `json:"unread,omitempty"`
}

type objective struct {
	Percentile float64       `json:"percentile"`
	MaxLag     time.Duration `json:"maxLagNs"`
	MinSamples int           `json:"minSamples"`
}

type evidence struct {
	Now         time.Time      `json:"now"`
	Leader      string         `json:"leader"`
	Version     string         `json:"version,omitempty"`
	Flags       flags          `json:"flags"`
	FlagsFrom   string         `json:"flagsFrom,omitempty"`
	Assumed     bool           `json:"assumed,omitempty"`
	FlagsBefore flags          `json:"flagsBefore,omitzero"`
	Settings    settings       `json:"settings,omitzero"`
	HandOver    time.Duration  `json:"handOverNs,omitempty"`
	Signals     []sample       `json:"signals,omitempty"`
	Server      []serverSample `json:"server,omitempty"`
	Before      []serverSample `json:"serverBefore,omitempty"`
	Lag         summary        `json:"lag"`
	Demand      demand         `json:"demand"`
}

type flags struct {
	KubeAPIQPS                     int32 `json:"kubeAPIQPS,omitempty"`
	KubeAPIBurst                   int32 `json:"kubeAPIBurst,omitempty"`
	ConcurrentEndpointSyncs        int32 `json:"concurrentEndpointSyncs,omitempty"`
	ConcurrentServiceEndpointSyncs int32 `json:"concurrentServiceEndpointSyncs,omitempty"`
}

type settings struct {
	SliceBatch     time.Duration `json:"endpointSliceBatchNs,omitempty"`
	EndpointsBatch time.Duration `json:"endpointsBatchNs,omitempty"`
	EndpointsOff   bool          `json:"endpointsOff,omitempty"`
	ReleaseOnExit  bool          `json:"releaseOnExit,omitempty"`
}

type sample struct {
	Time           time.Time     `json:"time"`
	ProcessStart   time.Time     `json:"processStart"`
	Writes         int64         `json:"writes"`
	LimiterWait    time.Duration `json:"limiterWaitNs"`
	RequestTime    time.Duration `json:"requestTimeNs"`
	StaleSyncs     int64         `json:"staleSyncs,omitempty"`
	FailedSyncs    int64         `json:"failedSyncs,omitempty"`
	Endpoints      queue         `json:"endpoints"`
	EndpointSlices queue         `json:"endpointSlices"`
}

type queue struct {
	Depth int64         `json:"depth"`
	Syncs int64         `json:"syncs"`
	Wait  time.Duration `json:"waitNs"`
	Work  time.Duration `json:"workNs"`
}

type serverSample struct {
	Time              time.Time     `json:"time"`
	ProcessStart      time.Time     `json:"processStart"`
	Writes            int64         `json:"writes"`
	WriteTime         time.Duration `json:"writeTimeNs"`
	WriteBuckets      []bucket      `json:"writeBuckets,omitempty"`
	PodWrites         int64         `json:"podWrites,omitempty"`
	PodWriteTime      time.Duration `json:"podWriteTimeNs,omitempty"`
	EndpointWrites    int64         `json:"endpointWrites,omitempty"`
	EndpointWriteTime time.Duration `json:"endpointWriteTimeNs,omitempty"`
	Requests          int64         `json:"requests,omitempty"`
	Refused           int64         `json:"refused,omitempty"`
	Queued            int64         `json:"queued,omitempty"`
	Rejected          int64         `json:"rejected,omitempty"`
	QueueWaits        int64         `json:"queueWaits,omitempty"`
	QueueWait         time.Duration `json:"queueWaitNs,omitempty"`
	EtcdWrites        int64         `json:"etcdWrites,omitempty"`
	EtcdTime          time.Duration `json:"etcdTimeNs,omitempty"`
	EtcdBuckets       []bucket      `json:"etcdBuckets,omitempty"`
}

type bucket struct {
	Bound time.Duration `json:"boundNs"` // of the last: the largest there is
	Count int64         `json:"count"`
}

type summary struct {
	From         time.Time     `json:"from"`
	To           time.Time     `json:"to"`
	Stats        []stat        `json:"stats,omitempty"`
	HandOver     []stat        `json:"handOver,omitempty"`
	AfterRestart []stat        `json:"afterRestart,omitempty"`
	Removal      quantile      `json:"removal,omitzero"`
	Removals     int           `json:"removals,omitempty"`
	ErrorBound   time.Duration `json:"errorBoundNs,omitempty"`
	BoundKnown   bool          `json:"boundKnown,omitempty"`
	Blind        []blindness   `json:"blind,omitempty"`
}

type stat struct {
	Resource             string        `json:"resource"`
	Direction            string        `json:"direction"`
	Changes              int           `json:"changes"`
	Closed               int           `json:"closed"`
	Open                 int           `json:"open"`
	Superseded           int           `json:"superseded,omitempty"`
	NotNeeded            int           `json:"notNeeded,omitempty"`
	Startup              int           `json:"startup,omitempty"`
	Gap                  int           `json:"gap,omitempty"`
	HandOver             int           `json:"handOver,omitempty"`
	OverCapacity         int           `json:"overCapacity,omitempty"`
	Unacted              int           `json:"unacted,omitempty"`
	Drift                int           `json:"drift,omitempty"`
	P50                  quantile      `json:"p50,omitzero"`
	P90                  quantile      `json:"p90,omitzero"`
	P99                  quantile      `json:"p99,omitzero"`
	P999                 quantile      `json:"p999,omitzero"`
	Max                  quantile      `json:"max,omitzero"`
	Marked               int           `json:"marked,omitempty"`
	AfterRestart         int           `json:"afterRestart,omitempty"`
	Episodes             int           `json:"episodes,omitempty"`
	OldestOpen           time.Duration `json:"oldestOpenNs,omitempty"`
	StartupOpen          int           `json:"startupOpen,omitempty"`
	OldestStartup        time.Duration `json:"oldestStartupNs,omitempty"`
	WrongEndpointSeconds float64       `json:"wrongEndpointSeconds,omitempty"`
}

type quantile struct {
	Value      time.Duration `json:"ns"`
	LowerBound bool          `json:"lowerBound,omitempty"`
}

type blindness struct {
	Kind string    `json:"kind"`
	From time.Time `json:"from"`
	To   time.Time `json:"to,omitzero"`
}

type demand struct {
	Start   time.Time `json:"start"`
	Changes []change  `json:"changes,omitempty"`
}

type change struct {
	At            time.Duration `json:"atNs"`
	Service       int32         `json:"service"`
	Direction     string        `json:"direction"`
	EndpointSlice outcome       `json:"endpointSlice,omitzero"`
	Endpoints     outcome       `json:"endpoints,omitzero"`
	HandOver      bool          `json:"handOver,omitempty"`
	Startup       bool          `json:"startup,omitempty"`
}

type outcome struct {
	Class string        `json:"class"`
	Lag   time.Duration `json:"lagNs"`
	Open  bool          `json:"open,omitempty"`
}
