// Package trace is the file format of a recording: everything that deciding rests on, so that a decision can be
// replayed on another machine, with no cluster at hand, by this release or a later one. It opens no file, reads no
// clock and decides nothing.
//
// A trace names nobody. Services are numbers; there is no name of a Pod, a Service, a namespace, a node or a cluster,
// no address, and no label in it, and nothing of what goes through the Services. What is in it: when changes of
// endpoints happened and how late they were published, flags, settings, version and counters of
// kube-controller-manager, and counters of the API server.
//
// # Format, version 1
//
// A gzip stream (RFC 1952) of two lines of JSON, in UTF-8, 64 MiB at most; zcat and jq read it:
//
//	{"kind":"EndpointSyncTrace","version":1,"tool":"v1.2.3","recorded":"2026-01-02T15:04:05Z"}
//	{"scope":{…},"objective":{…},"evidence":{…}}
//
// The first line is a header, of at most 4 KiB; it says whether the second can be read. The version changes when a
// reader of the old one would misunderstand the new one. Fields may be added without that: readers pass over those that
// they do not know, and absent ones are zero. Times are RFC 3339 in UTC. A name that ends in Ns is a length of time in
// nanoseconds. Counters are totals since the start of their process.
//
// The second line, as the types in wire.go have it:
//
//	scope       selected: the lag is that of chosen Services only, while the demand is of all
//	            narrow: only one namespace was watched, so that the demand of the others is missing
//	            unread: what could not be read beside the watches, by a short name
//	objective   percentile (0 to 1), maxLagNs, minSamples; absent if none was given
//	evidence    now, leader (Led, Leaderless or Unknown), version, settings, handOverNs, signals, server and serverBefore (scrapes of
//	            the API server), lag, demand
//	  flags       kubeAPIQPS, kubeAPIBurst, concurrentEndpointSyncs, concurrentServiceEndpointSyncs of the leader
//	  flagsFrom   how they are known: Given, Agent, Process, Pod or Default
//	  assumed     at least one of them was not read
//	  flagsBefore what they were when the recording began, if that is something else
//	  lag         the rows of lag.Summary, without the list of the worst Services, which has names
//	  demand      start, and the changes in order of atNs, which counts from start: service, direction and, for each
//	              API that it concerns, class and lagNs, as in lag.Change; 50,000 at most
package trace
