package controllers

import (
	"context"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/rollout"
)

// threeNodes is a bench with two standbys besides cp-1, which leads.
func threeNodes(t *testing.T) bench {
	t.Helper()
	b := newBench(t, policyObject(v1alpha1.ModeEnforce))
	for _, name := range []string{"cp-2", "cp-3"} {
		n := standby(name)
		n.ResourceVersion = ""
		if err := b.client.Create(t.Context(), &n); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// starting is the plan and the step that start a node, as a pass would find them.
func (b bench) starting(t *testing.T, node string) (rollout.Plan, rollout.Step) {
	t.Helper()
	b.hear(t)
	plan := rollout.Plan{
		Target: rollout.Target{Action: v1alpha1.ActionApply, Flags: someFlags}, Policy: "default", Generation: 1,
		MaxRestarts: 6, Period: failureTTL,
	}
	step := rollout.Step{Kind: rollout.Start, Node: node, Revision: 1}
	return plan, step
}

func instruction() v1alpha1.EndpointSyncNodeSpec {
	return v1alpha1.EndpointSyncNodeSpec{
		Action: v1alpha1.ActionApply, Flags: someFlags, PolicyName: "default", PolicyGeneration: 1,
		DeletionPolicy: v1alpha1.DeletionRetain, HealthTimeout: "2m", MinReady: "5s",
	}
}

func (b bench) told(t *testing.T, name string) int64 {
	t.Helper()
	var n v1alpha1.EndpointSyncNode
	if err := b.client.Get(t.Context(), client.ObjectKey{Name: name}, &n); err != nil {
		t.Fatal(err)
	}
	return value(n.Spec.Revision)
}

func TestAStartClaimsTheRolloutFirst(t *testing.T) {
	b := threeNodes(t)
	plan, step := b.starting(t, "cp-2")
	given, err := b.instruct(t.Context(), plan, step, instruction())
	if err != nil || given.revision != 1 || b.told(t, "cp-2") != 1 {
		t.Fatalf("instruct() = %+v, %v; cp-2 was told revision %d, want 1", given, err, b.told(t, "cp-2"))
	}
	var lease coordinationv1.Lease
	if err := b.client.Get(t.Context(), client.ObjectKey{Namespace: b.Namespace, Name: claimName}, &lease); err != nil {
		t.Fatal(err)
	}
	if holderOf(&lease) != "cp-2" {
		t.Errorf("the claim names %q, want cp-2", holderOf(&lease))
	}
}

func TestAStaleStepStartsNothing(t *testing.T) {
	tests := map[string]struct {
		change func(t *testing.T, b bench)
		step   rollout.Step
	}{
		"another node is in flight": {
			func(t *testing.T, b bench) {
				t.Helper()
				plan, step := b.starting(t, "cp-2")
				if _, err := b.instruct(t.Context(), plan, step, instruction()); err != nil {
					t.Fatal(err)
				}
			}, rollout.Step{Kind: rollout.Start, Node: "cp-3", Revision: 1},
		},
		"the Lease names another leader than the agents do": {
			func(t *testing.T, b bench) {
				t.Helper()
				lease := &coordinationv1.Lease{
					ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "kube-controller-manager"},
					Spec:       coordinationv1.LeaseSpec{HolderIdentity: new("cp-2_0b6e")},
				}
				if err := b.client.Create(t.Context(), lease); err != nil {
					t.Fatal(err)
				}
			}, rollout.Step{Kind: rollout.Start, Node: "cp-2", Revision: 1},
		},
		"the leader is not the last": {
			func(*testing.T, bench) {}, rollout.Step{Kind: rollout.Start, Node: "cp-1", Revision: 1},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := threeNodes(t)
			test.change(t, b)
			before := b.told(t, test.step.Node)
			plan, _ := b.starting(t, test.step.Node)
			given, err := b.instruct(t.Context(), plan, test.step, instruction())
			if err != nil || given.revision != 0 || b.told(t, test.step.Node) != before {
				t.Errorf("instruct() = %+v, %v, want nothing handed out", given, err)
			}
		})
	}
}

// pausing is a client that stops in front of one write, as a controller does that was suspended there.
type pausing struct {
	client.Client
	before func()
}

func (p *pausing) Patch(ctx context.Context, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
	if p.before != nil {
		resume := p.before
		p.before = nil
		resume()
	}
	return p.Client.Patch(ctx, obj, patch, opts...)
}

// TestASecondControllerFencesTheFirst pauses one controller between its claim and its instruction, lets another one start
// another node meanwhile, and wants the first one's instruction to fail.
func TestASecondControllerFencesTheFirst(t *testing.T) {
	for _, lose := range []string{"the claim is there", "somebody deletes the claim meanwhile"} {
		t.Run(lose, func(t *testing.T) {
			b := threeNodes(t)
			// A first rollout's claim, so that the first controller fences nobody and its next patch is the instruction.
			holder := "cp-2"
			claim := &coordinationv1.Lease{
				ObjectMeta: metav1.ObjectMeta{Namespace: b.Namespace, Name: claimName},
				Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder},
			}
			if err := b.client.Create(t.Context(), claim); err != nil {
				t.Fatal(err)
			}
			first := &PolicyReconciler{Live: b.client, Namespace: b.Namespace, Clock: b.clock, Signals: b.Signals}
			second := b.PolicyReconciler
			first.Client = &pausing{Client: b.client, before: func() {
				if lose != "the claim is there" {
					if err := b.client.Delete(t.Context(), claim); err != nil {
						t.Fatal(err)
					}
				}
				fleet, err := second.liveFleet(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if taken, err := second.takeTurn(t.Context(), fleet, "cp-3"); err != nil || !taken {
					t.Fatalf("takeTurn(cp-3) = %v, %v, want it taken", taken, err)
				}
			}}
			plan, step := b.starting(t, "cp-2")
			given, err := first.instruct(t.Context(), plan, step, instruction())
			if err != nil || given.revision != 0 || b.told(t, "cp-2") != 0 {
				t.Errorf("instruct() of the paused controller = %+v, %v; cp-2 was told %d, want nothing", given, err, b.told(t, "cp-2"))
			}
		})
	}
}
