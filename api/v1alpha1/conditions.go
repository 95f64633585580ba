package v1alpha1

// PauseAnnotation keeps the operator from starting any change while it is "true" on a policy. A change that is under way
// on a node ends there, committed or rolled back.
const PauseAnnotation = "endpointsync.io/pause"

// IsolationProbe is the name of an EndpointSyncNode that belongs to no node. The controller keeps it, so that each agent
// can ask whether the API server would refuse it the status of another node than its own.
const IsolationProbe = "zz-isolation-probe"

// Condition types of a policy, as kstatus and Argo CD understand them. All four are always present.
const (
	ConditionReady        = "Ready"
	ConditionReconciling  = "Reconciling"
	ConditionStalled      = "Stalled"
	ConditionObjectiveMet = "ObjectiveMet"
)

// Reasons, shared by conditions, Events, history and logs.
const (
	// Why nothing is wrong.
	ReasonObserving      = "Observing"
	ReasonRecommended    = "Recommended"
	ReasonObjectiveMet   = "ObjectiveMet"
	ReasonAsDesired      = "AsDesired"
	ReasonProgressing    = "Progressing"
	ReasonError          = "Error"
	ReasonReady          = "Ready"
	ReasonCommitted      = "Committed"
	ReasonUnchanged      = "Unchanged"
	ReasonRestored       = "Restored"
	ReasonRolloutStarted = "RolloutStarted"
	ReasonPersisted      = "Persisted"

	// Why the operator holds: a choice, not a fault.
	ReasonPaused              = "Paused"
	ReasonCooldownActive      = "CooldownActive"
	ReasonRestartBudgetSpent  = "RestartBudgetSpent"
	ReasonTooFewSamples       = "TooFewSamples"
	ReasonObjectiveMissed     = "ObjectiveMissed"
	ReasonNotTheFlags         = "NotTheFlags"
	ReasonModelNotTrusted     = "ModelNotTrusted"
	ReasonNoCheaperSetting    = "NoBetterSetting"
	ReasonSettingFailedBefore = "SettingFailedBefore"
	ReasonBacklogDraining     = "BacklogDraining"
	ReasonGuardrailBreached   = "GuardrailBreached"
	ReasonNoSignals           = "NoSignals"
	ReasonNodeUnhealthy       = "NodeUnhealthy"
	ReasonNodeNotReporting    = "NodeNotReporting"
	ReasonBoundReached        = "BoundReached"
	ReasonNoLeader            = "NoLeader"
	ReasonVersionSkew         = "VersionSkew"
	ReasonDrifted             = "Drifted"
	ReasonPlatformNotKnown    = "PlatformNotKnown"

	ReasonOutsideMaintenanceWindow = "OutsideMaintenanceWindow"

	// Why the policy is stalled: a person has to act.
	ReasonConflict            = "Conflict"
	ReasonInvalidSpec         = "InvalidSpec"
	ReasonNoControlPlaneNodes = "NoControlPlaneNodes"
	ReasonRolledBack          = "RolledBack"
	ReasonRefused             = "Refused"
	ReasonRollbackFailed      = "RollbackFailed"
	ReasonRolloutAbandoned    = "RolloutAbandoned"
	ReasonUnsupportedPlatform = "UnsupportedPlatform"
	ReasonPersistenceFailed   = "PersistenceFailed"

	// Why an agent refused or rolled back.
	ReasonUnsupportedManifest = "UnsupportedManifest"
	ReasonUnsupportedLayout   = "UnsupportedLayout"
	ReasonDuplicateManifest   = "DuplicateManifest"
	ReasonOutdated            = "OutdatedInstruction"
	ReasonConflictingEdit     = "ConflictingEdit"
	ReasonManifestAbsent      = "ManifestAbsent"
	ReasonNoSpace             = "NoSpace"
	ReasonReadOnly            = "ReadOnly"
	ReasonPermissionDenied    = "PermissionDenied"
	ReasonImmutable           = "Immutable"
	ReasonIOError             = "IOError"
	ReasonOutOfBounds         = "OutOfBounds"
	ReasonRateLimited         = "RateLimited"
	ReasonJournalUnreadable   = "JournalUnreadable"
	ReasonNotIsolated         = "NotIsolated"
	ReasonContended           = "Contended"
	ReasonCrashLooping        = "CrashLooping"
	ReasonNeverStarted        = "NeverStarted"
	ReasonNotPickedUp         = "NotPickedUp"
	ReasonNeverHealthy        = "NeverHealthy"
	ReasonWrongFlags          = "WrongFlags"
	ReasonNeverLeader         = "NeverLeader"
	ReasonInconclusive        = "Inconclusive"
)
