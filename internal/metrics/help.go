package metrics

// The help texts say what is counted, what the labels mean and what the figure is good for: they are all that somebody
// sees who finds the metric in a query editor.
const (
	helpLag = "Time from a change of the endpoints that a Service should have until kube-controller-manager had published it, " +
		"of published changes. resource is the API it was published in; direction Addition is an endpoint that traffic " +
		"should reach, Removal one that it should leave; stratum HandOver met a time without a leader, AfterRestart began " +
		"within a minute after a leader appeared, Normal is the rest. This is the SLI. Changes that wait are not in it yet: " +
		"see endpointsync_open_changes and endpointsync_oldest_open_change_seconds. Classic and native histogram."
	helpChanges = "Changes of the endpoints that a Service should have, by how they ended: each in one class. Closed and HandOver " +
		"were published (HandOver met a time without a leader); Superseded were overtaken by another and NotNeeded found " +
		"published already; Startup and Gap began where the operator could not see, OverCapacity are beyond the 1,000 " +
		"addresses of an Endpoints object, Unacted are of a kind that kube-controller-manager does not act on by itself. " +
		"The share that is not Closed says how much of what happened the lag speaks of."
	helpMarked = "Published changes whose end was seen late because the watch of what is published was broken. They count in " +
		"endpointsync_changes_total and not in endpointsync_change_lag_seconds: their lag would be the watch's."
	helpDrifts = "Times that a published endpoint left the desired state although that had not changed: the late publication of " +
		"an obsolete state, a slice being rearranged, or an edit by somebody else. They are no changes and have no lag."
	helpOpen   = "Changes that are not published yet. It rises in an incident before any lag is observed, and is 0 between them."
	helpOldest = "Age of the oldest change that is not published yet; 0 without one. Alert on it: a histogram shows a change that " +
		"waits only when it no longer does."
	helpWrong = "Endpoint-seconds that what is published was wrong: endpoints ready but missing (direction Addition) or gone but " +
		"published (Removal), each for as long as it was, those that still are included. Its rate is the number of wrong " +
		"endpoints on average: the harm that users feel."
	helpBound = "By how much the lag of any change of the last minute may be wrong, from the delay of the operator's own watches. " +
		"Absent when no change began in that minute, and while the bound is not known. Hold it against the objective before " +
		"trusting endpointsync_change_lag_seconds."
	helpReceiving = "Whether the operator's watch of this kind is caught up (1) or broken, catching up or never begun (0). At 0 " +
		"nothing is measured that needs it."
	helpStarts = "Watches that the operator began, by type: resume goes on where the one before ended and misses nothing, relist " +
		"reads everything anew and leaves a gap in what was measured. It should rise with type relist only when the " +
		"operator or an API server starts."
	helpProcessing = "Time from the receipt of an event by the operator's watch of this kind until it was measured. It is what the " +
		"measuring costs in time, not in accuracy: events are stamped at receipt."
	helpObjective = "Lag that a policy's objective allows at its percentile (spec.objective.maxLag). Only the operator's leader tells it."
	helpMet       = "Whether a policy's objective is met (1) or missed (0) in its window. Absent while there are too few changes to tell, " +
		"and from replicas that do not lead."
	helpWriteLatency = "99th percentile of the requests that change one object, of the API server that the operator talks to, over " +
		"the newest half minute with at least 100 of them; webhooks and waits in queues left out, dry runs not counted. " +
		"spec.guardrails.maxMutatingLatency is held against it. Absent where the API server's metrics cannot be read."
	helpRefused = "Share of all requests that this API server refused with 429 in the same time, 0 to 1. " +
		"spec.guardrails.maxRejectedPercent is held against it."
	helpEtcdLatency = "99th percentile of this API server's writes to etcd in the same time. More than 0.15 of " +
		"spec.guardrails.maxMutatingLatency stops a raise."
	helpQueueWait = "Mean time that requests of the priority level workload-high, kube-controller-manager's, waited in this API " +
		"server's queues in the same time. More than 0.2 of spec.guardrails.maxMutatingLatency stops a raise."
	helpGuardrail = "Whether the API server is beyond a limit of the policy's spec.guardrails (1), so that nothing is raised, or not " +
		"(0). Absent while too little is known of it, and from replicas that do not lead."
	helpPredicted = "Lag that the model predicted for the last change of flags, at the percentile of the policy's objective. Absent " +
		"where there was none."
	helpAchieved = "Lag that was measured after the last change of flags, at the percentile of the policy's objective, when its effect " +
		"was judged. Absent until then."
	helpFlag = "Flags of kube-controller-manager that the operator sizes, as its leader runs with them (setting running) and as they " +
		"would have met the policy's objective (recommended). Absent where they are not known."
)
