package agent

import (
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

const (
	// maxRepeats is how often a setting that somebody else takes away is put back: once may follow an upgrade that wrote
	// the manifest anew, twice a tool that nobody has told yet. More is a fight, with a restart in every round.
	maxRepeats = 2

	// contestTTL is over which time repeats are counted: as long as a setting that failed is not tried again.
	contestTTL = failedTTL
)

// contest is the setting that the last change has written, and how often it was written again because somebody else had
// taken it away.
type contest struct {
	Flags            v1alpha1.Flags `json:"flags,omitzero"`
	PolicyGeneration int64          `json:"policyGeneration,omitempty"`
	Stood            bool           `json:"stood,omitempty"`   // the change was committed or displaced: we did not take it back
	Repeats          []time.Time    `json:"repeats,omitempty"` // newest first
}

// about reports whether the contest is about a setting. Other flags, and another spec of the policy, begin a new one.
func (c contest) about(flags v1alpha1.Flags, generation int64) bool {
	return c.Flags == flags && c.PolicyGeneration == generation
}

// begun takes in a change that has been written.
func (c contest) begun(now change, at time.Time) contest {
	if now.Action != v1alpha1.ActionApply {
		return contest{}
	}
	if !c.about(now.Flags, now.PolicyGeneration) {
		return contest{Flags: now.Flags, PolicyGeneration: now.PolicyGeneration}
	}
	if c.Stood {
		c.Repeats = prepend(c.Repeats, at, maxRepeats)
	}
	c.Stood = false
	return c
}

// ended takes in how that change has ended.
func (c contest) ended(outcome v1alpha1.Outcome) contest {
	c.Stood = outcome == v1alpha1.OutcomeCommitted || outcome == v1alpha1.OutcomeDisplaced
	return c
}

// decide refuses what would write a setting once too often. It speaks of an instruction that the manifest does not
// fulfil: where it does, nothing is contended.
func (c contest) decide(spec v1alpha1.EndpointSyncNodeSpec, now time.Time) decision {
	if spec.Action != v1alpha1.ActionApply || !c.Stood || !c.about(spec.Flags, spec.PolicyGeneration) ||
		len(c.Repeats) < maxRepeats || now.Sub(c.Repeats[maxRepeats-1]) >= contestTTL {
		return decision{}
	}
	return refuse(v1alpha1.ReasonContended, "somebody else keeps writing the manifest without %s, which was put back at %s and at %s: "+
		"that is not done a third time within %s. Give these flags to the tool that writes the manifest, or stop it; "+
		"then edit the policy's spec, which starts anew",
		c.Flags, c.Repeats[1].UTC().Format(time.RFC3339), c.Repeats[0].UTC().Format(time.RFC3339), contestTTL)
}
