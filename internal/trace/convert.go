package trace

import (
	"fmt"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// Struct conversions, such as queue(q), compile only while both types have the same fields: whoever changes one is told.

// each applies f to all of a list; an empty list becomes nil.
func each[A, B any](list []A, f func(A) B) []B {
	if len(list) == 0 {
		return nil
	}
	out := make([]B, len(list))
	for i, v := range list {
		out[i] = f(v)
	}
	return out
}

func toWire(t Trace) wire {
	e := t.Evidence
	return wire{
		Scope:     scope(t.Scope),
		Objective: objective(t.Objective),
		Evidence: evidence{
			Now: e.Now.UTC(), Leader: leaderNames[e.Leader], Version: e.Version,
			Flags: flags(e.Flags), FlagsFrom: string(t.FlagsFrom), Assumed: t.Assumed,
			FlagsBefore: flags(t.FlagsBefore), Settings: settings(e.Settings), HandOver: e.HandOver,
			Signals: each(e.Signals, toSample), Server: each(e.Server, toServerSample), Before: each(e.ServerBefore, toServerSample),
			Lag: toSummary(e.Lag), Demand: demand{Start: e.Demand.Start.UTC(), Changes: each(e.Demand.Changes, toChange)},
		},
	}
}

func fromWire(w wire) (Trace, error) {
	in := w.Evidence
	t := Trace{
		Scope: Scope(w.Scope), Objective: tuner.Objective(w.Objective), FlagsFrom: FlagsFrom(in.FlagsFrom),
		Assumed: in.Assumed, FlagsBefore: v1alpha1.Flags(in.FlagsBefore),
		Evidence: tuner.Evidence{
			Now: in.Now, Version: in.Version, Flags: v1alpha1.Flags(in.Flags), Settings: tuner.Settings(in.Settings), HandOver: in.HandOver,
			Signals: each(in.Signals, fromSample), Server: each(in.Server, fromServerSample),
			ServerBefore: each(in.Before, fromServerSample),
		},
	}
	var err error
	if t.Evidence.Leader, err = named[tuner.LeaderState](leaderNames, in.Leader, "leader"); err != nil {
		return t, err
	}
	if t.Evidence.Lag, err = fromSummary(in.Lag); err != nil {
		return t, err
	}
	t.Evidence.Demand, err = fromDemand(in.Demand)
	return t, err
}

var leaderNames = []string{tuner.LeaderUnknown: "Unknown", tuner.Led: "Led", tuner.Leaderless: "Leaderless"}

// classNames and kindNames are the names of classes and kinds, by their values.
var (
	classNames = namesUpTo(lag.Drift)
	kindNames  = namesUpTo(lag.KindNamespace)
)

func namesUpTo[T interface {
	~uint8
	fmt.Stringer
}](last T) []string {
	names := make([]string, 0, int(last)+1)
	for v := T(0); v <= last; v++ {
		names = append(names, v.String())
	}
	return names
}

// named finds the value of a name.
func named[T ~int | ~uint8](names []string, name, what string) (T, error) {
	for i, n := range names {
		if n == name {
			return T(i), nil
		}
	}
	return 0, fmt.Errorf("it is damaged: %s %q is none of %q", what, name, names)
}

func toSample(s tuner.Sample) sample {
	return sample{
		Time: s.Time.UTC(), ProcessStart: s.ProcessStart.UTC(),
		Writes: s.Writes, LimiterWait: s.LimiterWait, RequestTime: s.RequestTime, StaleSyncs: s.StaleSyncs, FailedSyncs: s.FailedSyncs,
		Endpoints: queue(s.Endpoints), EndpointSlices: queue(s.EndpointSlices),
	}
}

func fromSample(s sample) tuner.Sample {
	return tuner.Sample{
		Time: s.Time, ProcessStart: s.ProcessStart,
		Writes: s.Writes, LimiterWait: s.LimiterWait, RequestTime: s.RequestTime, StaleSyncs: s.StaleSyncs, FailedSyncs: s.FailedSyncs,
		Endpoints: tuner.QueueSample(s.Endpoints), EndpointSlices: tuner.QueueSample(s.EndpointSlices),
	}
}

func toServerSample(s tuner.ServerSample) serverSample {
	return serverSample{
		Time: s.Time.UTC(), ProcessStart: s.ProcessStart.UTC(),
		Writes: s.Writes, WriteTime: s.WriteTime,
		WriteBuckets: each(s.WriteBuckets, func(b tuner.Bucket) bucket { return bucket(b) }),
		PodWrites:    s.PodWrites, PodWriteTime: s.PodWriteTime,
		EndpointWrites: s.EndpointWrites, EndpointWriteTime: s.EndpointWriteTime,
		Requests: s.Requests, Refused: s.Refused,
		Queued: s.Queued, Rejected: s.Rejected, QueueWaits: s.QueueWaits, QueueWait: s.QueueWait,
		EtcdWrites: s.EtcdWrites, EtcdTime: s.EtcdTime,
		EtcdBuckets: each(s.EtcdBuckets, func(b tuner.Bucket) bucket { return bucket(b) }),
	}
}

func fromServerSample(s serverSample) tuner.ServerSample {
	return tuner.ServerSample{
		Time: s.Time, ProcessStart: s.ProcessStart,
		Writes: s.Writes, WriteTime: s.WriteTime,
		WriteBuckets: each(s.WriteBuckets, func(b bucket) tuner.Bucket { return tuner.Bucket(b) }),
		PodWrites:    s.PodWrites, PodWriteTime: s.PodWriteTime,
		EndpointWrites: s.EndpointWrites, EndpointWriteTime: s.EndpointWriteTime,
		Requests: s.Requests, Refused: s.Refused,
		Queued: s.Queued, Rejected: s.Rejected, QueueWaits: s.QueueWaits, QueueWait: s.QueueWait,
		EtcdWrites: s.EtcdWrites, EtcdTime: s.EtcdTime,
		EtcdBuckets: each(s.EtcdBuckets, func(b bucket) tuner.Bucket { return tuner.Bucket(b) }),
	}
}

func toSummary(s lag.Summary) summary {
	return summary{
		From: s.From.UTC(), To: s.To.UTC(),
		Stats: each(s.Stats, toStat), HandOver: each(s.HandOver, toStat), AfterRestart: each(s.AfterRestart, toStat),
		Removal: quantile(s.Removal), Removals: s.Removals, ErrorBound: s.ErrorBound, BoundKnown: s.BoundKnown,
		Blind: each(s.Blind, func(b lag.Blindness) blindness {
			return blindness{Kind: kindNames[b.Kind], From: b.From.UTC(), To: b.To.UTC()}
		}),
	}
}

func fromSummary(s summary) (lag.Summary, error) {
	out := lag.Summary{
		From: s.From, To: s.To,
		Stats: each(s.Stats, fromStat), HandOver: each(s.HandOver, fromStat), AfterRestart: each(s.AfterRestart, fromStat),
		Removal: lag.Quantile(s.Removal), Removals: s.Removals, ErrorBound: s.ErrorBound, BoundKnown: s.BoundKnown,
	}
	for _, b := range s.Blind {
		k, err := named[lag.Kind](kindNames, b.Kind, "kind")
		if err != nil {
			return out, err
		}
		out.Blind = append(out.Blind, lag.Blindness{Kind: k, From: b.From, To: b.To})
	}
	return out, nil
}

func toStat(s lag.Stat) stat {
	return stat{
		Resource: string(s.Resource), Direction: string(s.Direction),
		Changes: s.Changes, Closed: s.Closed, Open: s.Open, Superseded: s.Superseded, NotNeeded: s.NotNeeded,
		Startup: s.Startup, Gap: s.Gap, HandOver: s.HandOver, OverCapacity: s.OverCapacity, Unacted: s.Unacted, Drift: s.Drift,
		P50: quantile(s.P50), P90: quantile(s.P90), P99: quantile(s.P99), P999: quantile(s.P999), Max: quantile(s.Max),
		Marked: s.Marked, AfterRestart: s.AfterRestart, Episodes: s.Episodes,
		OldestOpen: s.OldestOpen, StartupOpen: s.StartupOpen, OldestStartup: s.OldestStartup,
		WrongEndpointSeconds: s.WrongEndpointSeconds,
	}
}

func fromStat(s stat) lag.Stat {
	return lag.Stat{
		Resource: lag.Resource(s.Resource), Direction: lag.Direction(s.Direction),
		Changes: s.Changes, Closed: s.Closed, Open: s.Open, Superseded: s.Superseded, NotNeeded: s.NotNeeded,
		Startup: s.Startup, Gap: s.Gap, HandOver: s.HandOver, OverCapacity: s.OverCapacity, Unacted: s.Unacted, Drift: s.Drift,
		P50: lag.Quantile(s.P50), P90: lag.Quantile(s.P90), P99: lag.Quantile(s.P99), P999: lag.Quantile(s.P999),
		Max: lag.Quantile(s.Max), Marked: s.Marked, AfterRestart: s.AfterRestart, Episodes: s.Episodes,
		OldestOpen: s.OldestOpen, StartupOpen: s.StartupOpen, OldestStartup: s.OldestStartup,
		WrongEndpointSeconds: s.WrongEndpointSeconds,
	}
}

func toChange(c lag.Change) change {
	return change{
		At: c.At, Service: c.Service, Direction: string(c.Direction), HandOver: c.HandOver, Startup: c.Startup,
		EndpointSlice: outcome{Class: classNames[c.SliceClass], Lag: c.SliceLag, Open: c.SliceOpen},
		Endpoints:     outcome{Class: classNames[c.EndpointsClass], Lag: c.EndpointsLag, Open: c.EndpointsOpen},
	}
}

func fromDemand(d demand) (lag.Demand, error) {
	out := lag.Demand{Start: d.Start}
	if len(d.Changes) == 0 {
		return out, nil
	}
	classes := make(map[string]lag.Class, len(classNames))
	for i, name := range classNames {
		classes[name] = lag.Class(i)
	}
	out.Changes = make([]lag.Change, len(d.Changes))
	for i, c := range d.Changes {
		slice, known := classes[c.EndpointSlice.Class]
		endpoints, alsoKnown := classes[c.Endpoints.Class]
		if !known || !alsoKnown {
			return out, fmt.Errorf("it is damaged: change %d has class %q and %q, want those of %q",
				i, c.EndpointSlice.Class, c.Endpoints.Class, classNames)
		}
		out.Changes[i] = lag.Change{
			At: c.At, Service: c.Service, Direction: lag.Direction(c.Direction), HandOver: c.HandOver, Startup: c.Startup,
			SliceClass: slice, SliceLag: c.EndpointSlice.Lag, SliceOpen: c.EndpointSlice.Open,
			EndpointsClass: endpoints, EndpointsLag: c.Endpoints.Lag, EndpointsOpen: c.Endpoints.Open,
		}
	}
	return out, nil
}
