package qualify

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
)

const (
	// endLimit bounds a rollout with its fault: the longest has a partition that outlasts the health timeout.
	endLimit = 5 * time.Minute
	// stableFor is how long a policy must be stalled, and nothing happen, to count as a stop.
	stableFor = 5 * time.Second
	// look is how often everything is looked at without an event.
	look = 50 * time.Millisecond
	// healthTimeout and minReady are the shortest that a policy may ask for.
	healthTimeout = 45 * time.Second
	minReady      = time.Second
	// firstSamples is the default of minSamples, which means nothing here: nothing is measured.
	firstSamples = 300
	// firstQPS and firstBurst are kube-controller-manager's defaults; each rollout asks for more than the one before.
	firstQPS, firstBurst = 20, 30
)

// direction of a rollout.
type direction string

const (
	applying  direction = "apply"   // of new flags, begun on one node by hand: the controller goes on with the others
	restoring direction = "restore" // of what the nodes had, because the policy was deleted
)

// ending is how a run may end.
type ending int

const (
	desired       ending = iota // all nodes have what was asked for
	stopped                     // the policy says that it is stalled, and why
	desiredOrStop               // either
)

// fault is what happens to a rollout. The zero value is none.
type fault struct {
	name    string
	control control // nobody: one controller
	ends    ending
	// before is called when everything is settled, and nothing has begun.
	before func(*trial)
	// during is called when the rollout has begun, and returns when whatever it broke is whole again.
	during func(*trial)
	// after is called when the rollout has ended.
	after func(*trial)
}

// trial is one rollout with its fault, and what is needed to judge it.
type trial struct {
	rig.T
	*fleet
	Rollout

	direction direction
	flags     v1alpha1.Flags // that are asked for; zero: the original manifests
	revision  int64          // of the rollout
	order     []*node        // in which the nodes are to be changed
	watchers  map[string]*rig.Watcher
	was       auditLog
	began     time.Time
}

// rollOut runs one rollout with a fault and notes what came of it. The fleet can be used again if nothing has failed.
func (tr *trial) rollOut(d direction, what fault) {
	tr.Helper()
	if what.control == nobody {
		what.control = alone
	}
	tr.direction, tr.watchers, tr.Reached = d, map[string]*rig.Watcher{}, true
	tr.run(tr, what.control)
	tr.order = tr.settle(tr)
	tr.began, tr.revision = time.Now(), tr.nextRevision()
	if tr.attempts++; d == applying {
		tr.flags = v1alpha1.Flags{KubeAPIQPS: firstQPS + int32(tr.attempts), KubeAPIBurst: firstBurst + int32(tr.attempts)}
	}
	for _, n := range tr.nodes {
		tr.watchers[n.Node] = rig.Watch(tr, n.ManifestDir)
	}
	_, _, tr.was = tr.audit.now()
	if what.before != nil {
		what.before(tr)
	}
	tr.begin()
	if what.during != nil {
		what.during(tr)
	}
	tr.await(what.ends)
	if what.after != nil {
		what.after(tr)
	}
	tr.conclude()
}

// target is what a node's manifest is to become.
func (tr *trial) target(n *node) []byte {
	if tr.direction == restoring {
		return n.Original
	}
	return n.With(tr, tr.flags)
}

// enforce is a policy that lets the operator write, and that asks for the shortest waits.
func enforce() v1alpha1.EndpointSyncPolicySpec {
	return v1alpha1.EndpointSyncPolicySpec{
		Mode: v1alpha1.ModeEnforce,
		Bounds: v1alpha1.Bounds{
			KubeAPIQPS:   v1alpha1.QPSBound{Min: firstQPS, Max: 1000},
			KubeAPIBurst: v1alpha1.BurstBound{Min: firstBurst, Max: 2000},
		},
		Rollout: v1alpha1.Rollout{
			Cooldown: "1m", HealthTimeout: v1alpha1.Duration(healthTimeout.String()), MinReady: v1alpha1.Duration(minReady.String()),
			RestartBudget: v1alpha1.RestartBudget{MaxRestarts: 16, Period: "1m"},
		},
		DeletionPolicy: v1alpha1.DeletionRestore,
	}
}

// begin has the rollout begin: by hand on the first node, as if the controller had just decided it, or by the policy's end.
// After a stop the policy, which has the same name as all before, gets a higher generation than each that failed: what
// failed is remembered by it.
func (tr *trial) begin() {
	tr.Helper()
	if tr.direction == restoring {
		tr.cluster.DeletePolicy(tr, policyName)
		return
	}
	policy := enforce()
	generation := tr.cluster.ApplyPolicy(tr, policyName, policy)
	for ; generation <= int64(tr.stops); generation = tr.cluster.ApplyPolicy(tr, policyName, policy) {
		policy.Objective.MinSamples = firstSamples + int32(generation)
	}
	tr.order[0].Instruct(tr, v1alpha1.EndpointSyncNodeSpec{
		Revision: new(tr.revision), Action: v1alpha1.ActionApply, Flags: tr.flags,
		PolicyName: policyName, PolicyGeneration: generation, DeletionPolicy: policy.DeletionPolicy,
		HealthTimeout: policy.Rollout.HealthTimeout, MinReady: policy.Rollout.MinReady,
	})
}

// until returns true when the condition holds, and false when the rollout has ended before, or the limit is over.
func (tr *trial) until(holds func() bool) bool {
	limit := time.After(endLimit)
	for {
		switch {
		case holds():
			return true
		case tr.reached() == "" || tr.stalled() != nil:
			return holds()
		}
		select {
		case <-tr.audit.next():
		case <-time.After(look):
		case <-limit:
			return false
		case <-tr.Context().Done():
			return false
		}
	}
}

// told reports whether a node was told something in this rollout.
func (tr *trial) told(n *node) bool {
	objects, _, _ := tr.audit.now()
	return revisionOf(objects[n.Node]) >= tr.revision
}

// reached says what is not yet as it was asked for, or nothing.
func (tr *trial) reached() string {
	objects, _, _ := tr.audit.now()
	for _, n := range tr.nodes {
		o := objects[n.Node]
		outcome := o.Status.Last.Outcome
		switch told := o.Spec.PolicyName != ""; {
		case inFlight(o):
			return fmt.Sprintf("%s is at revision %d, phase %s", n.Node, revisionOf(o), o.Status.Phase)
		case tr.direction == applying && o.Spec.Flags != tr.flags, tr.direction == restoring && told && o.Spec.Action != v1alpha1.ActionRestore:
			return n.Node + " was not told"
		case told && outcome != v1alpha1.OutcomeCommitted && outcome != v1alpha1.OutcomeUnchanged:
			return fmt.Sprintf("%s: %s %s: %s", n.Node, outcome, o.Status.Last.Reason, o.Status.Last.Message)
		case !bytes.Equal(n.Read(tr), tr.target(n)):
			return n.Node + " has another manifest"
		}
	}
	return ""
}

// stalled is the policy's condition if that says that a person has to act, and no node is in flight.
func (tr *trial) stalled() *metav1.Condition {
	objects, policy, _ := tr.audit.now()
	if policy == nil || policy.Status.ObservedGeneration != policy.Generation {
		return nil
	}
	for _, o := range objects {
		if inFlight(o) {
			return nil
		}
	}
	c := meta.FindStatusCondition(policy.Status.Conditions, v1alpha1.ConditionStalled)
	if c == nil || c.Status != metav1.ConditionTrue {
		return nil
	}
	return c
}

// await returns when the rollout has ended in one of the ways in which it may.
func (tr *trial) await(ends ending) {
	tr.Helper()
	var since time.Time
	var why string
	rig.Await(tr, endLimit, func() string { return "the end of the rollout: " + why + tr.says() }, func(context.Context) bool {
		if why = tr.reached(); why == "" && ends != stopped {
			tr.Ended = endDesired
			return true
		}
		c := tr.stalled()
		switch {
		case c == nil:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) >= stableFor:
			tr.Ended, tr.Reason, tr.Message = endStopped, c.Reason, c.Message
			return true
		}
		return false
	})
	if tr.Ended == endStopped && ends == desired {
		tr.Errorf("it stopped: %s: %s", tr.Reason, tr.Message)
	}
}

// says is what the policy says of itself.
func (tr *trial) says() string {
	_, policy, _ := tr.audit.now()
	if policy == nil {
		return "; there is no policy"
	}
	var all strings.Builder
	for _, c := range policy.Status.Conditions {
		fmt.Fprintf(&all, "; %s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message)
	}
	return all.String()
}

// conclude judges what was seen.
func (tr *trial) conclude() {
	tr.Helper()
	_, _, now := tr.audit.now()
	s := seen{nodes: map[string]seenNode{}, log: now.since(tr.was)}
	for _, n := range tr.nodes {
		w, before, target := tr.watchers[n.Node], tr.contents[n.Node], rig.Hash(tr.target(n))
		sightings := w.Sightings()
		s.nodes[n.Node] = seenNode{target: target, sightings: sightings, swaps: w.Swaps(), problems: w.Problems(before, target)}
		tr.Changes += max(len(sightings)-1, 0)
		tr.contents[n.Node] = rig.Hash(n.Read(tr))
	}
	v := judge(s)
	tr.TwoInFlight, tr.LeaderNotLast, tr.ChangedTwice = len(v.twoInFlight), len(v.leaderNotLast), len(v.changedTwice)
	tr.HandOvers, tr.Relists = max(len(s.log.leaders)-1, 0), s.log.relists
	for _, problem := range v.all() {
		tr.Error(problem)
	}
	for i, p := range tr.controllers {
		if ended(p) {
			tr.Errorf("controller %d ended by itself", i+1)
		}
	}
	if tr.Ended == endStopped {
		tr.stops++
		tr.checkStop()
	}
	tr.Seconds = seconds(time.Since(tr.began))
}

// checkStop holds a stop against what a person needs: which node, why, and what to do.
func (tr *trial) checkStop() {
	tr.Helper()
	objects, _, _ := tr.audit.now()
	for name, o := range objects {
		last := o.Status.Last
		if last.Revision < tr.revision || last.Outcome == v1alpha1.OutcomeCommitted || last.Outcome == v1alpha1.OutcomeUnchanged {
			continue
		}
		for _, word := range []string{name, last.Reason} {
			if !strings.Contains(tr.Message+" "+tr.Reason, word) {
				tr.Errorf("the policy is stalled by %s (%s) and does not say %q: %s", name, last.Reason, word, tr.Message)
			}
		}
	}
}
