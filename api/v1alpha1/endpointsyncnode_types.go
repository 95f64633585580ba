package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Action is what an agent is to do with its node's manifest.
// +kubebuilder:validation:Enum=Apply;Restore
type Action string

// The actions. No action means: leave the manifest alone.
const (
	ActionApply   Action = "Apply"   // give the flags their values
	ActionRestore Action = "Restore" // give our flags the values that they had before our first change
)

// EndpointSyncNodeSpec is an instruction to one node's agent. It is written by the controller alone.
// +kubebuilder:validation:XValidation:rule="self.revision >= oldSelf.revision",messageExpression="'may not go back from %d to %d'.format([oldSelf.revision, self.revision])",fieldPath=".revision"
type EndpointSyncNodeSpec struct {
	// revision orders instructions: an agent acts on a revision that is higher than the last one it ended, and on no
	// other. 0 means that nothing was asked yet.
	// +required
	// +kubebuilder:validation:Minimum=0
	Revision *int64 `json:"revision,omitempty"`

	// action to take. Omitted means none.
	// +optional
	Action Action `json:"action,omitempty"`

	// flags to give their values when action is Apply; absent flags are left alone.
	// +optional
	Flags Flags `json:"flags,omitempty,omitzero"`

	// policyName is the policy on whose behalf the controller acts.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	PolicyName string `json:"policyName,omitempty"`

	// policyGeneration is the generation of that policy. A setting that failed may be tried again under a higher one.
	// +optional
	// +kubebuilder:validation:Minimum=1
	PolicyGeneration int64 `json:"policyGeneration,omitempty"`

	// deletionPolicy is that policy's, kept here so that it outlives the policy.
	// +optional
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`

	// healthTimeout is how long the new process has to be proven healthy.
	// +optional
	HealthTimeout Duration `json:"healthTimeout,omitempty"`

	// minReady is how long proven health must last.
	// +optional
	MinReady Duration `json:"minReady,omitempty"`
}

// ChangePhase is how far an agent is with a change.
// +kubebuilder:validation:Enum=Idle;Intent;Applied;RollingBack
type ChangePhase string

// The phases of a change.
const (
	PhaseIdle        ChangePhase = "Idle"        // no change is open
	PhaseIntent      ChangePhase = "Intent"      // journalled; the manifest is still the old one
	PhaseApplied     ChangePhase = "Applied"     // the manifest is the new one; the new process is being proven
	PhaseRollingBack ChangePhase = "RollingBack" // the old manifest is being put back and proven
)

// Outcome is how a change ended.
// +kubebuilder:validation:Enum=Committed;Unchanged;RolledBack;Displaced;Refused;RollbackFailed
type Outcome string

// The outcomes of a change.
const (
	OutcomeCommitted      Outcome = "Committed"      // the new flags were proven on a healthy new process
	OutcomeUnchanged      Outcome = "Unchanged"      // the manifest said so already; nothing was written
	OutcomeRolledBack     Outcome = "RolledBack"     // the old manifest runs again
	OutcomeDisplaced      Outcome = "Displaced"      // somebody else wrote the manifest meanwhile; theirs was left as it is
	OutcomeRefused        Outcome = "Refused"        // nothing was written
	OutcomeRollbackFailed Outcome = "RollbackFailed" // the old manifest could not be put back or does not run
)

// EndpointSyncNodeStatus is what the node's agent saw and did. It is written by that agent alone.
// +kubebuilder:validation:MinProperties=1
type EndpointSyncNodeStatus struct {
	// conditions are Ready: the agent reports and kube-controller-manager is healthy.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedRevision is the highest revision whose change has ended.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ObservedRevision int64 `json:"observedRevision,omitempty"`

	// reportTime is when the agent last wrote this status.
	// +optional
	ReportTime metav1.Time `json:"reportTime,omitempty,omitzero"`

	// phase of the change that is open, or Idle.
	// +optional
	Phase ChangePhase `json:"phase,omitempty"`

	// last is the last change that ended.
	// +optional
	Last ChangeResult `json:"last,omitempty,omitzero"`

	// running are the flags of the running process; omitted when they could not be read.
	// +optional
	Running Flags `json:"running,omitempty,omitzero"`

	// settings are what else the running process runs with that bears on lag; omitted when they could not be read.
	// +optional
	Settings KCMSettings `json:"settings,omitempty,omitzero"`

	// kcmVersion is the version of the running kube-controller-manager.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	KCMVersion string `json:"kcmVersion,omitempty"`

	// manifestHash is the sha256 of the manifest, in hex.
	// +optional
	// +kubebuilder:validation:MinLength=64
	// +kubebuilder:validation:MaxLength=64
	ManifestHash string `json:"manifestHash,omitempty"`

	// manifestChangeTime is when the agent last saw the manifest's bytes change, whoever changed them; after a start of
	// the agent, when its file was last changed or put in place. It does not go back while the agent runs.
	// +optional
	ManifestChangeTime metav1.Time `json:"manifestChangeTime,omitempty,omitzero"`

	// healthy says whether kube-controller-manager answers healthz.
	// +optional
	Healthy *bool `json:"healthy,omitempty"`

	// leader says whether this node's kube-controller-manager leads; omitted when that could not be read.
	// +optional
	Leader *bool `json:"leader,omitempty"`

	// signals are kube-controller-manager's own counters.
	// +optional
	Signals KCMSignals `json:"signals,omitempty,omitzero"`

	// restarts are the times of the restarts that our changes and rollbacks caused, newest first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Restarts []metav1.Time `json:"restarts,omitempty"`

	// failed are settings that were rolled back, newest first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Failed []FailedSetting `json:"failed,omitempty"`
}

// ChangeResult is how a change ended.
type ChangeResult struct {
	// revision of the change.
	// +required
	// +kubebuilder:validation:Minimum=1
	Revision int64 `json:"revision,omitempty"`

	// outcome of the change.
	// +required
	Outcome Outcome `json:"outcome,omitempty"`

	// reason of the outcome.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`

	// message explains the outcome to a person.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// flags that were asked for.
	// +optional
	Flags Flags `json:"flags,omitempty,omitzero"`

	// startTime is when the manifest was swapped, or when the change was refused.
	// +required
	StartTime metav1.Time `json:"startTime,omitempty,omitzero"`

	// finishTime is when the change ended.
	// +required
	FinishTime metav1.Time `json:"finishTime,omitempty,omitzero"`

	// handOver is how long no kube-controller-manager led because of the change, if this node's led before; omitted when
	// that could not be seen.
	// +optional
	HandOver Duration `json:"handOver,omitempty"`
}

// FailedSetting is a setting that was rolled back. It is not tried again on that version for 24 hours or until the
// policy's spec changes.
type FailedSetting struct {
	// flags that failed.
	// +required
	Flags Flags `json:"flags,omitempty,omitzero"`

	// kcmVersion on which they failed.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	KCMVersion string `json:"kcmVersion,omitempty"`

	// policyGeneration under which they were tried.
	// +optional
	// +kubebuilder:validation:Minimum=1
	PolicyGeneration int64 `json:"policyGeneration,omitempty"`

	// time at which they failed.
	// +required
	Time metav1.Time `json:"time,omitempty,omitzero"`

	// reason why they failed.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`
}

// KCMSignals are kube-controller-manager's own counters since its process started, as its /metrics shows them.
type KCMSignals struct {
	// time at which they were read.
	// +required
	Time metav1.MicroTime `json:"time,omitempty,omitzero"`

	// processStartTime of the process that they belong to.
	// +optional
	ProcessStartTime metav1.MicroTime `json:"processStartTime,omitempty,omitzero"`

	// writes is how many mutating requests the process has sent (POST, PUT, PATCH, DELETE).
	// +optional
	// +kubebuilder:validation:Minimum=0
	Writes *int64 `json:"writes,omitempty"`

	// limiterWaitMilliseconds is how long those writes waited for the client-side rate limiter, in all.
	// +optional
	// +kubebuilder:validation:Minimum=0
	LimiterWaitMilliseconds *int64 `json:"limiterWaitMilliseconds,omitempty"`

	// requestMilliseconds is how long those writes took, in all; it includes the wait for the limiter.
	// +optional
	// +kubebuilder:validation:Minimum=0
	RequestMilliseconds *int64 `json:"requestMilliseconds,omitempty"`

	// staleSyncs is how many syncs of EndpointSlices gave up because the cache did not show their own last write yet. Each
	// is tried again, after a second at first and twice as long each time.
	// +optional
	// +kubebuilder:validation:Minimum=0
	StaleSyncs *int64 `json:"staleSyncs,omitempty"`

	// failedSyncs is how many syncs of EndpointSlices ended in an error. Fifteen retries, then the Service is dropped
	// until its next event.
	// +optional
	// +kubebuilder:validation:Minimum=0
	FailedSyncs *int64 `json:"failedSyncs,omitempty"`

	// endpoints is the work queue of the Endpoints controller.
	// +optional
	Endpoints QueueSignals `json:"endpoints,omitempty,omitzero"`

	// endpointSlices is the work queue of the EndpointSlice controller.
	// +optional
	EndpointSlices QueueSignals `json:"endpointSlices,omitempty,omitzero"`
}

// KCMSettings are flags of kube-controller-manager that bear on lag and that nobody here writes.
// +kubebuilder:validation:MinProperties=1
type KCMSettings struct {
	// endpointSliceBatchPeriod is --endpointslice-updates-batch-period: how long a change of a Pod waits for others of its
	// Service before it is synced.
	// +optional
	EndpointSliceBatchPeriod Duration `json:"endpointSliceBatchPeriod,omitempty"`

	// endpointsBatchPeriod is --endpoint-updates-batch-period, the same for Endpoints.
	// +optional
	EndpointsBatchPeriod Duration `json:"endpointsBatchPeriod,omitempty"`

	// endpointsController says whether the Endpoints controller runs, as --controllers tells.
	// +optional
	EndpointsController *bool `json:"endpointsController,omitempty"`

	// releaseOnExit says whether a process that ends gives up its leadership at once: the feature gate
	// ControllerManagerReleaseLeaderElectionLockOnExit.
	// +optional
	ReleaseOnExit *bool `json:"releaseOnExit,omitempty"`
}

// QueueSignals are one work queue's counters.
// +kubebuilder:validation:MinProperties=1
type QueueSignals struct {
	// depth is how many keys wait now.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Depth *int64 `json:"depth,omitempty"`

	// syncs is how many keys were worked off.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Syncs *int64 `json:"syncs,omitempty"`

	// waitMilliseconds is how long keys waited in the queue, in all.
	// +optional
	// +kubebuilder:validation:Minimum=0
	WaitMilliseconds *int64 `json:"waitMilliseconds,omitempty"`

	// workMilliseconds is how long workers were busy, in all; it includes waits for the limiter.
	// +optional
	// +kubebuilder:validation:Minimum=0
	WorkMilliseconds *int64 `json:"workMilliseconds,omitempty"`
}

// EndpointSyncNode is the channel between the controller and the agent of the control-plane node of the same name:
// spec is the controller's instruction, status the agent's report. People read it and do not write it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=esn
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Revision",type=integer,JSONPath=`.spec.revision`
// +kubebuilder:printcolumn:name="Outcome",type=string,JSONPath=`.status.last.outcome`
// +kubebuilder:printcolumn:name="QPS",type=integer,JSONPath=`.status.running.kubeAPIQPS`
// +kubebuilder:printcolumn:name="Burst",type=integer,JSONPath=`.status.running.kubeAPIBurst`
// +kubebuilder:printcolumn:name="Leader",type=boolean,JSONPath=`.status.leader`
// +kubebuilder:printcolumn:name="Healthy",type=boolean,JSONPath=`.status.healthy`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type EndpointSyncNode struct {
	metav1.TypeMeta `json:",inline"`

	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the controller's instruction.
	// +required
	Spec EndpointSyncNodeSpec `json:"spec,omitzero"`

	// status is the agent's report.
	// +optional
	Status EndpointSyncNodeStatus `json:"status,omitempty,omitzero"`
}

// EndpointSyncNodeList is a list of nodes.
//
// +kubebuilder:object:root=true
type EndpointSyncNodeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []EndpointSyncNode `json:"items"`
}

// Nodes returns the items that stand for a node: all but the isolation probe.
func (l EndpointSyncNodeList) Nodes() []EndpointSyncNode {
	nodes := make([]EndpointSyncNode, 0, len(l.Items))
	for _, n := range l.Items {
		if n.Name != IsolationProbe {
			nodes = append(nodes, n)
		}
	}
	return nodes
}
