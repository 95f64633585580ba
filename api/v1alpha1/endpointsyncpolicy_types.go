package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Mode says how far the operator may go.
// +kubebuilder:validation:Enum=Observe;Recommend;Enforce
type Mode string

// The modes. An unknown or empty mode is treated as Observe.
const (
	ModeObserve   Mode = "Observe"   // measure and report; never write a manifest
	ModeRecommend Mode = "Recommend" // also compute flags and print the snippet; never write a manifest
	ModeEnforce   Mode = "Enforce"   // also roll the flags out
)

// DeletionPolicy says what becomes of the flags when the policy goes.
// +kubebuilder:validation:Enum=Retain;Restore
type DeletionPolicy string

// The deletion policies.
const (
	DeletionRetain  DeletionPolicy = "Retain"
	DeletionRestore DeletionPolicy = "Restore"
)

// Relax says whether flags may be lowered again.
// +kubebuilder:validation:Enum=Never;AfterQuiet
type Relax string

// The relax modes.
const (
	RelaxNever      Relax = "Never"
	RelaxAfterQuiet Relax = "AfterQuiet"
)

// Persistence says where, besides the manifest, the flags are kept.
// +kubebuilder:validation:Enum=None;KubeadmConfig
type Persistence string

// The persistence modes.
const (
	PersistenceNone          Persistence = "None"
	PersistenceKubeadmConfig Persistence = "KubeadmConfig"
)

// Duration is a length of time as Go writes it ("2s", "1m30s"): people read and review these in Git. Fields bound it by
// rules that look at no more than 20 characters: three terms of six digits cannot overflow.
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=64
// +kubebuilder:validation:Pattern=`^([0-9]{1,6}(\.[0-9]{1,3})?(ms|s|m|h))+$`
type Duration string

// EndpointSyncPolicySpec is the objective for endpoint lag and the bounds within which flags may be changed for it.
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="!has(self.mode) || self.mode != 'Enforce' || has(self.bounds)",message="mode Enforce touches only flags that have bounds: set at least kubeAPIQPS {min, max}, each 1 to 1000, and kubeAPIBurst {min, max}, each 1 to 2000",fieldPath=".bounds",reason="FieldValueRequired"
type EndpointSyncPolicySpec struct {
	// mode says how far the operator may go. Omitted means Observe: measure and report, write nothing.
	// +optional
	Mode Mode `json:"mode,omitempty"`

	// objective is what the endpoint lag is held against. Omitted means 99 % within 2s over 10m.
	// +optional
	Objective Objective `json:"objective,omitempty,omitzero"`

	// bounds limit what the operator may write. A flag without a bound is never touched.
	// +optional
	Bounds Bounds `json:"bounds,omitempty,omitzero"`

	// services selects whose endpoints are measured. Omitted means all Services with a selector.
	// +optional
	Services ServiceScope `json:"services,omitempty,omitzero"`

	// guardrails stop a raise, and undo one, by the health of the API server. Omitted means the limits that their fields
	// default to, where the operator can read the API server's metrics; a policy that sets any of them raises nothing where
	// it cannot.
	// +optional
	Guardrails Guardrails `json:"guardrails,omitempty,omitzero"`

	// rollout says when and how carefully control-plane nodes are changed.
	// +optional
	Rollout Rollout `json:"rollout,omitempty,omitzero"`

	// persistence says where, besides the manifests, the flags are kept. Omitted means None: they last until something
	// rewrites the manifests. KubeadmConfig also writes them into ConfigMap kube-system/kubeadm-config once all nodes have
	// them, so that `kubeadm upgrade` keeps them; changed by hand there, they are written again. What they were before
	// comes back when a policy that restores is deleted, and with None. It needs the permission that config/kubeadm-config
	// grants.
	// +optional
	Persistence Persistence `json:"persistence,omitempty"`

	// deletionPolicy says what becomes of the flags when this policy goes. Omitted means Retain: they stay.
	// Restore puts back what each node had before the operator's first change.
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
}

// Objective is a service level objective for endpoint lag: the percentile of changes that must be visible within maxLag.
// +kubebuilder:validation:MinProperties=1
type Objective struct {
	// percentile of changes that must be visible within maxLag, 50 to 99. Omitted means 99.
	// +optional
	// +kubebuilder:validation:Minimum=50
	// +kubebuilder:validation:Maximum=99
	// +kubebuilder:validation:XValidation:rule="self >= 50 && self <= 99",messageExpression="'want 50 to 99, not %d'.format([self])"
	Percentile int32 `json:"percentile,omitempty"`

	// maxLag is the longest lag allowed at the percentile, 10ms to 10m. Omitted means 2s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.size() <= 20 && self.matches('^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h))+$') && duration(self) >= duration('10ms') && duration(self) <= duration('10m')",messageExpression="'want 10ms to 10m, such as 500ms or 2s, not ' + strings.quote(self)"
	MaxLag Duration `json:"maxLag,omitempty"`

	// window is how far back changes count, 1m to 24h. Omitted means 10m.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.size() <= 20 && self.matches('^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h))+$') && duration(self) >= duration('1m') && duration(self) <= duration('24h')",messageExpression="'want 1m to 24h, such as 10m or 1h30m, not ' + strings.quote(self)"
	Window Duration `json:"window,omitempty"`

	// minSamples is how many changes must have been seen before the operator decides, 1 to 1000000. Omitted means 300:
	// 299 changes without a violation show "99 % within maxLag" at 95 % confidence.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 1000000",messageExpression="'want 1 to 1000000, not %d'.format([self])"
	MinSamples int32 `json:"minSamples,omitempty"`
}

// Bounds limit what may be written, flag by flag.
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="!has(self.kubeAPIQPS) || has(self.kubeAPIBurst)",message="kubeAPIQPS is bounded, and a rate cannot be sized without its burst: set kubeAPIBurst {min, max}, each 1 to 2000, or neither",fieldPath=".kubeAPIBurst",reason="FieldValueRequired"
// +kubebuilder:validation:XValidation:rule="!has(self.kubeAPIBurst) || has(self.kubeAPIQPS)",message="kubeAPIBurst is bounded, and a burst cannot be sized without its rate: set kubeAPIQPS {min, max}, each 1 to 1000, or neither",fieldPath=".kubeAPIQPS",reason="FieldValueRequired"
type Bounds struct {
	// kubeAPIQPS bounds --kube-api-qps: requests per second of each controller's client, 1 to 1000.
	// +optional
	KubeAPIQPS QPSBound `json:"kubeAPIQPS,omitempty,omitzero"`

	// kubeAPIBurst bounds --kube-api-burst: requests, 1 to 2000.
	// +optional
	KubeAPIBurst BurstBound `json:"kubeAPIBurst,omitempty,omitzero"`

	// concurrentEndpointSyncs bounds the workers of the Endpoints controller, 1 to 50.
	// +optional
	ConcurrentEndpointSyncs WorkersBound `json:"concurrentEndpointSyncs,omitempty,omitzero"`

	// concurrentServiceEndpointSyncs bounds the workers of the EndpointSlice controller, 1 to 50.
	// +optional
	ConcurrentServiceEndpointSyncs WorkersBound `json:"concurrentServiceEndpointSyncs,omitempty,omitzero"`
}

// QPSBound is a closed range of --kube-api-qps.
// +kubebuilder:validation:XValidation:rule="self.min <= self.max",messageExpression="'want min <= max, both 1 to 1000, not min %d and max %d'.format([self.min, self.max])"
type QPSBound struct {
	// min is the lowest value that may be written; it is not a floor to enforce. 1 to 1000.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 1000",messageExpression="'want 1 to 1000, not %d'.format([self])"
	Min int32 `json:"min,omitempty"`

	// max is the highest value that may be written, 1 to 1000.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 1000",messageExpression="'want 1 to 1000, not %d'.format([self])"
	Max int32 `json:"max,omitempty"`
}

// BurstBound is a closed range of --kube-api-burst.
// +kubebuilder:validation:XValidation:rule="self.min <= self.max",messageExpression="'want min <= max, both 1 to 2000, not min %d and max %d'.format([self.min, self.max])"
type BurstBound struct {
	// min is the lowest value that may be written; it is not a floor to enforce. 1 to 2000.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2000
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 2000",messageExpression="'want 1 to 2000, not %d'.format([self])"
	Min int32 `json:"min,omitempty"`

	// max is the highest value that may be written, 1 to 2000.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2000
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 2000",messageExpression="'want 1 to 2000, not %d'.format([self])"
	Max int32 `json:"max,omitempty"`
}

// WorkersBound is a closed range of a worker count.
// +kubebuilder:validation:XValidation:rule="self.min <= self.max",messageExpression="'want min <= max, both 1 to 50, not min %d and max %d'.format([self.min, self.max])"
type WorkersBound struct {
	// min is the lowest value that may be written; it is not a floor to enforce. 1 to 50.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=50
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 50",messageExpression="'want 1 to 50, not %d'.format([self])"
	Min int32 `json:"min,omitempty"`

	// max is the highest value that may be written, 1 to 50.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=50
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 50",messageExpression="'want 1 to 50, not %d'.format([self])"
	Max int32 `json:"max,omitempty"`
}

// ServiceScope selects Services by their own and their namespace's labels; both must match.
// +kubebuilder:validation:MinProperties=1
type ServiceScope struct {
	// namespaceSelector selects namespaces by label. Omitted or empty means all.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn', 'Exists', 'DoesNotExist'] && (e.operator in ['In', 'NotIn']) == (has(e.values) && size(e.values) > 0))",message="every operator must be In or NotIn, with values, or Exists or DoesNotExist, without",fieldPath=".matchExpressions"
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`

	// selector selects Services by label. Omitted or empty means all.
	// +optional
	// +kubebuilder:validation:XValidation:rule="!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn', 'Exists', 'DoesNotExist'] && (e.operator in ['In', 'NotIn']) == (has(e.values) && size(e.values) > 0))",message="every operator must be In or NotIn, with values, or Exists or DoesNotExist, without",fieldPath=".matchExpressions"
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
}

// Guardrails are limits on the API server's health that stop a raise, and undo one after which they are exceeded.
// +kubebuilder:validation:MinProperties=1
type Guardrails struct {
	// maxMutatingLatency is the p99 of requests that change one object, webhooks and waits in queues left out, above which
	// nothing is raised, 10ms to 1m. Omitted means 1s. Writes to etcd may take 0.15 of it at p99, and requests of the
	// priority level workload-high may wait 0.2 of it on average.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.size() <= 20 && self.matches('^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h))+$') && duration(self) >= duration('10ms') && duration(self) <= duration('1m')",messageExpression="'want 10ms to 1m, such as 500ms or 1.5s, not ' + strings.quote(self)"
	MaxMutatingLatency Duration `json:"maxMutatingLatency,omitempty"`

	// maxRejectedPercent is the share of requests refused with 429, of all and of those of the priority level
	// workload-high, above which nothing is raised, 1 to 100. Omitted means 1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 100",messageExpression="'want 1 to 100, not %d'.format([self])"
	MaxRejectedPercent int32 `json:"maxRejectedPercent,omitempty"`
}

// Rollout says when and how carefully nodes are changed.
// +kubebuilder:validation:MinProperties=1
type Rollout struct {
	// cooldown is the shortest time between two changes of values, 1m to 168h. Omitted means 30m. Rolling back is exempt.
	// Each agent keeps 10m by itself (its --min-interval), so that less than that takes effect only where it is lowered.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.size() <= 20 && self.matches('^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h))+$') && duration(self) >= duration('1m') && duration(self) <= duration('168h')",messageExpression="'want 1m to 168h, such as 30m or 1h30m, not ' + strings.quote(self)"
	Cooldown Duration `json:"cooldown,omitempty"`

	// healthTimeout is how long a changed node has to be proven healthy before it is rolled back, 45s to 15m.
	// Omitted means 2m.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.size() <= 20 && self.matches('^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h))+$') && duration(self) >= duration('45s') && duration(self) <= duration('15m')",messageExpression="'want 45s to 15m, such as 90s or 2m, not ' + strings.quote(self)"
	HealthTimeout Duration `json:"healthTimeout,omitempty"`

	// minReady is how long proven health must last before a node counts as done, 1s to 10m. Omitted means 30s.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.size() <= 20 && self.matches('^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('10m')",messageExpression="'want 1s to 10m, such as 30s or 1m30s, not ' + strings.quote(self)"
	MinReady Duration `json:"minReady,omitempty"`

	// restartBudget limits restarts of kube-controller-manager over all nodes.
	// +optional
	RestartBudget RestartBudget `json:"restartBudget,omitempty,omitzero"`

	// maintenanceWindows are the only times at which a node may be started on; one window that is open is enough. Omitted
	// means at any time. A node that is changing when its window closes ends its change, and the others wait for the next
	// window. Rolling back, undoing a change and restoring are exempt.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	MaintenanceWindows []MaintenanceWindow `json:"maintenanceWindows,omitempty"`

	// relax says whether flags may be lowered again after a quiet time. Omitted means Never. AfterQuiet lowers QPS and
	// burst, at most once a day, by three tenths or more, and only if the worst episodes of the last seven days would
	// still have met the objective.
	// +optional
	Relax Relax `json:"relax,omitempty"`
}

// RestartBudget limits restarts of kube-controller-manager over all nodes, rollbacks included. A rollback is never
// refused for it.
// +kubebuilder:validation:MinProperties=1
type RestartBudget struct {
	// maxRestarts in period, 1 to 16. Omitted means 6.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16
	// +kubebuilder:validation:XValidation:rule="self >= 1 && self <= 16",messageExpression="'want 1 to 16, not %d'.format([self])"
	MaxRestarts int32 `json:"maxRestarts,omitempty"`

	// period over which restarts are counted, 1m to 168h. Omitted means 24h.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self.size() <= 20 && self.matches('^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h))+$') && duration(self) >= duration('1m') && duration(self) <= duration('168h')",messageExpression="'want 1m to 168h, such as 30m or 1h30m, not ' + strings.quote(self)"
	Period Duration `json:"period,omitempty"`
}

// MaintenanceWindow is a recurring time in which nodes may be changed.
type MaintenanceWindow struct {
	// name tells windows apart.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// schedule is when the window opens, as cron writes it: minute, hour, day of the month, month of the year, day of the week (0 to 6
	// or SUN to SAT), such as "0 2 * * 1-5". A time that a change to daylight saving skips opens nothing on that day, and
	// one that comes twice opens the window twice.
	// +required
	// +kubebuilder:validation:MinLength=9
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^[0-9A-Za-z*?,/-]+( +[0-9A-Za-z*?,/-]+){4}$')",messageExpression="'want five fields of cron, minute, hour, day, month and weekday, such as 0 2 * * 1-5, not ' + strings.quote(self)"
	Schedule string `json:"schedule,omitempty"`

	// duration is how long the window stays open, 1m to 168h.
	// +required
	// +kubebuilder:validation:XValidation:rule="self.size() <= 20 && self.matches('^([0-9]{1,6}([.][0-9]{1,3})?(ms|s|m|h))+$') && duration(self) >= duration('1m') && duration(self) <= duration('168h')",messageExpression="'want 1m to 168h, such as 30m or 1h30m, not ' + strings.quote(self)"
	Duration Duration `json:"duration,omitempty"`

	// timeZone of the schedule, from the IANA database, such as Europe/Madrid. Omitted means UTC.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self != 'Local' && self.matches('^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$')",messageExpression="'want a name of the IANA database, such as Europe/Madrid, not ' + strings.quote(self)"
	TimeZone string `json:"timeZone,omitempty"`
}

// EndpointSyncPolicyStatus is what the operator saw, concluded and did for a policy.
// +kubebuilder:validation:MinProperties=1
type EndpointSyncPolicyStatus struct {
	// conditions are Ready, Reconciling, Stalled and ObjectiveMet, all always present.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that this status speaks of.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// lag per resource and direction, over the objective's window or since the last change of flags, whichever is
	// shorter.
	// +optional
	// +listType=map
	// +listMapKey=resource
	// +listMapKey=direction
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=6
	Lag []Lag `json:"lag,omitempty"`

	// bottleneck is what limits the endpoint controllers, as far as could be told.
	// +optional
	Bottleneck Bottleneck `json:"bottleneck,omitempty,omitzero"`

	// recommended is the cheapest setting that would have met the objective on the changes that were recorded.
	// +optional
	Recommended Recommendation `json:"recommended,omitempty,omitzero"`

	// persisted are the flags that ConfigMap kube-system/kubeadm-config holds on behalf of this policy. Omitted means none.
	// +optional
	Persisted Flags `json:"persisted,omitempty,omitzero"`

	// desiredRevision is the last revision that was handed to any node.
	// +optional
	// +kubebuilder:validation:Minimum=1
	DesiredRevision int64 `json:"desiredRevision,omitempty"`

	// nodes are the control-plane nodes as their agents last reported them.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Nodes []NodeSummary `json:"nodes,omitempty"`

	// history is the last ten changes, newest first.
	// +optional
	// +listType=map
	// +listMapKey=revision
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=10
	History []HistoryEntry `json:"history,omitempty"`
}

// Resource is the API in which a change becomes visible.
// +kubebuilder:validation:Enum=EndpointSlice;Endpoints
type Resource string

// The resources.
const (
	ResourceEndpointSlice Resource = "EndpointSlice"
	ResourceEndpoints     Resource = "Endpoints"
)

// Direction tells additions from removals.
// +kubebuilder:validation:Enum=Any;Addition;Removal
type Direction string

// The directions. Any takes both together; it informs and never decides.
const (
	DirectionAny      Direction = "Any"
	DirectionAddition Direction = "Addition"
	DirectionRemoval  Direction = "Removal"
)

// Lag summarises how late changes became visible in one resource and direction.
type Lag struct {
	// resource in which the changes became visible.
	// +required
	Resource Resource `json:"resource,omitempty"`

	// direction of the changes.
	// +required
	Direction Direction `json:"direction,omitempty"`

	// changes that the percentiles run over, closed and open.
	// +required
	// +kubebuilder:validation:Minimum=0
	Changes *int64 `json:"changes,omitempty"`

	// open changes are not visible yet; they count with their age so far.
	// +required
	// +kubebuilder:validation:Minimum=0
	Open *int64 `json:"open,omitempty"`

	// p50 lag. A leading ">=" marks a lower bound that rests on open changes.
	// +optional
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=24
	P50 string `json:"p50,omitempty"`

	// p99 lag. A leading ">=" marks a lower bound that rests on open changes.
	// +optional
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=24
	P99 string `json:"p99,omitempty"`

	// errorBound is by how much the lag of any of the changes may be wrong. Omitted where it is not known for all of them.
	// +optional
	ErrorBound Duration `json:"errorBound,omitempty"`

	// episodes are the bursts that the changes came in, half a minute or more apart. Changes of one burst hang together:
	// a percentile from one or two says little about the next.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Episodes *int64 `json:"episodes,omitempty"`

	// startup differences stood when the operator began to look. Nobody knows since when, so that they are in no
	// percentile.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Startup *int64 `json:"startup,omitempty"`

	// unseen changes began while a watch was broken. Nobody knows when, so that they are in no percentile.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Unseen *int64 `json:"unseen,omitempty"`

	// handOver changes were open while no kube-controller-manager led. They speak of the hand-over and not of the flags, so
	// that they are in no percentile.
	// +optional
	// +kubebuilder:validation:Minimum=0
	HandOver *int64 `json:"handOver,omitempty"`
}

// BottleneckType names what limits the endpoint controllers.
// +kubebuilder:validation:Enum=None;NoLeader;ClientRateLimit;Workers;APIServer;StaleRetries;Batching;HotService;Dropped;Unknown
type BottleneckType string

// The bottlenecks that are told apart.
const (
	// BottleneckNone says that the objective is not missed.
	BottleneckNone BottleneckType = "None"
	// BottleneckNoLeader says that no kube-controller-manager acts.
	BottleneckNoLeader BottleneckType = "NoLeader"
	// BottleneckClientRateLimit says that writes wait for tokens (--kube-api-qps, --kube-api-burst).
	BottleneckClientRateLimit BottleneckType = "ClientRateLimit"
	// BottleneckWorkers says that Services wait while every worker is busy (--concurrent-…-syncs).
	BottleneckWorkers BottleneckType = "Workers"
	// BottleneckAPIServer says that writes wait for the API server or etcd.
	BottleneckAPIServer BottleneckType = "APIServer"
	// BottleneckStaleRetries says that syncs give up because the cache does not show their own last write yet.
	BottleneckStaleRetries BottleneckType = "StaleRetries"
	// BottleneckBatching says that changes wait for a batch period.
	BottleneckBatching BottleneckType = "Batching"
	// BottleneckHotService says that few Services are late, each in the one worker that may have it, and the others are not.
	BottleneckHotService BottleneckType = "HotService"
	// BottleneckDropped says that Services are in no queue although their changes are not published.
	BottleneckDropped BottleneckType = "Dropped"
	// BottleneckUnknown says that nothing that was seen explains the lag.
	BottleneckUnknown BottleneckType = "Unknown"
)

// Bottleneck is what limits the endpoint controllers, with the evidence.
type Bottleneck struct {
	// type names the bottleneck.
	// +required
	Type BottleneckType `json:"type,omitempty"`

	// message is the evidence, for a person.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// advice is what a person can do about it and what that would bring. Omitted where the operator can do what helps.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Advice string `json:"advice,omitempty"`

	// evidence speaks for and against each cause that was weighed, the likeliest first.
	// +optional
	// +listType=map
	// +listMapKey=cause
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=10
	Evidence []CauseEvidence `json:"evidence,omitempty"`
}

// CauseEvidence is what speaks for and against one cause.
type CauseEvidence struct {
	// cause that was weighed.
	// +required
	Cause BottleneckType `json:"cause,omitempty"`

	// for lists what speaks for it.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=6
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	For []string `json:"for,omitempty"`

	// against lists what speaks against it.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=6
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=256
	Against []string `json:"against,omitempty"`
}

// Recommendation is a setting with what it would have brought and what it costs.
// +kubebuilder:validation:MinProperties=1
type Recommendation struct {
	// flags inside the bounds.
	// +optional
	Flags Flags `json:"flags,omitempty,omitzero"`

	// uncapped is what would be recommended without the policy's bounds.
	// +optional
	Uncapped Flags `json:"uncapped,omitempty,omitzero"`

	// predictedLag at the objective's percentile under flags.
	// +optional
	PredictedLag Duration `json:"predictedLag,omitempty"`

	// cost of flags: the most requests that all kube-controller-manager clients together could send in ten seconds,
	// plus a small term for each worker.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Cost int64 `json:"cost,omitempty"`

	// currentCost is the cost of the flags that run now.
	// +optional
	// +kubebuilder:validation:Minimum=1
	CurrentCost int64 `json:"currentCost,omitempty"`

	// handOver is about how long no kube-controller-manager will act while flags are rolled out: the leader is changed
	// last, and once.
	// +optional
	HandOver Duration `json:"handOver,omitempty"`

	// advice is what a person can do to make that shorter. Omitted where it is short already.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Advice string `json:"advice,omitempty"`

	// reason why flags were chosen, or why the operator holds.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`

	// message explains reason to a person.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// snippet is ready to commit: the flags as the cluster's platform takes them, with how to apply it in comments. Omitted
	// while the platform is not known.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=2048
	Snippet string `json:"snippet,omitempty"`
}

// NodeSummary is one control-plane node as its agent last reported it.
type NodeSummary struct {
	// name of the node.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// phase of the change on this node.
	// +optional
	Phase ChangePhase `json:"phase,omitempty"`

	// running are the flags of the running process.
	// +optional
	Running Flags `json:"running,omitempty,omitzero"`

	// leader says whether this node's kube-controller-manager leads.
	// +optional
	Leader *bool `json:"leader,omitempty"`

	// healthy says whether this node's kube-controller-manager answers healthz.
	// +optional
	Healthy *bool `json:"healthy,omitempty"`

	// message is the agent's last word on a change, if any.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}

// HistoryEntry is one change of flags with its evidence.
type HistoryEntry struct {
	// revision of the change.
	// +required
	// +kubebuilder:validation:Minimum=1
	Revision int64 `json:"revision,omitempty"`

	// time at which the change was decided.
	// +required
	Time metav1.Time `json:"time,omitempty,omitzero"`

	// from are the flags before the change.
	// +optional
	From Flags `json:"from,omitempty,omitzero"`

	// to are the flags that were asked for.
	// +optional
	To Flags `json:"to,omitempty,omitzero"`

	// purpose of the change. Omitted means Raise.
	// +optional
	Purpose Purpose `json:"purpose,omitempty"`

	// kcmVersion that the change was made on.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	KCMVersion string `json:"kcmVersion,omitempty"`

	// policyGeneration is the generation of the spec that the change was decided for. A failure is forgotten when the
	// spec changes.
	// +optional
	// +kubebuilder:validation:Minimum=1
	PolicyGeneration int64 `json:"policyGeneration,omitempty"`

	// bottleneck that the change was for.
	// +optional
	Bottleneck BottleneckType `json:"bottleneck,omitempty"`

	// measuredLag at the objective's percentile, in the worst row, when the change was decided.
	// +optional
	MeasuredLag Duration `json:"measuredLag,omitempty"`

	// load that measuredLag rests on: what comes after is comparable if it has at least half of it.
	// +optional
	Load Load `json:"load,omitempty,omitzero"`

	// predictedLag at the objective's percentile.
	// +optional
	PredictedLag Duration `json:"predictedLag,omitempty"`

	// achievedLag at the objective's percentile, in the worst row, when the effect was judged.
	// +optional
	AchievedLag Duration `json:"achievedLag,omitempty"`

	// effect is what came of the change. Omitted until enough has happened to tell, and for an undoing.
	// +optional
	Effect Effect `json:"effect,omitempty"`

	// harm says which guardrail was breached, if the effect is Harmed.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Harm string `json:"harm,omitempty"`

	// judgedTime is when the effect was settled. A failed setting is not tried again for 24 hours from then, unless the
	// policy's spec or the version of kube-controller-manager changes.
	// +optional
	JudgedTime metav1.Time `json:"judgedTime,omitempty,omitzero"`

	// metTime is when the objective was first met after the change, at a load like that before it.
	// +optional
	MetTime metav1.Time `json:"metTime,omitempty,omitzero"`

	// before is the lag that the change was decided on.
	// +optional
	// +listType=map
	// +listMapKey=resource
	// +listMapKey=direction
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=6
	Before []Lag `json:"before,omitempty"`

	// after is the lag since the change was committed.
	// +optional
	// +listType=map
	// +listMapKey=resource
	// +listMapKey=direction
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=6
	After []Lag `json:"after,omitempty"`

	// outcome of the change. Omitted while it is under way.
	// +optional
	Outcome Outcome `json:"outcome,omitempty"`

	// reason of the outcome.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`

	// message explains the outcome to a person.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// handOver is how long no kube-controller-manager led because of the change.
	// +optional
	HandOver Duration `json:"handOver,omitempty"`
}

// EndpointSyncPolicy asks for endpoint changes to become visible in time, and says within which bounds
// kube-controller-manager may be retuned for it. The oldest policy acts; others are Stalled with reason Conflict.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=esp
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Met",type=string,JSONPath=`.status.conditions[?(@.type=="ObjectiveMet")].status`
// +kubebuilder:printcolumn:name="Bottleneck",type=string,JSONPath=`.status.bottleneck.type`
// +kubebuilder:printcolumn:name="Slice-P99",type=string,JSONPath=`.status.lag[?(@.resource=="EndpointSlice")].p99`,priority=1
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type EndpointSyncPolicy struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what people ask for.
	// +required
	Spec EndpointSyncPolicySpec `json:"spec,omitzero"`

	// status is what the operator saw and did.
	// +optional
	Status EndpointSyncPolicyStatus `json:"status,omitempty,omitzero"`
}

// EndpointSyncPolicyList is a list of policies.
//
// +kubebuilder:object:root=true
type EndpointSyncPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []EndpointSyncPolicy `json:"items"`
}
