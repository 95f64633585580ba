package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/controllers"
	"github.com/endpointsync/endpoint-sync-operator/internal/report"
	"github.com/endpointsync/endpoint-sync-operator/internal/trace"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// checkTrace says which flags make no sense beside --trace.
func (o *planOptions) checkTrace(cmd *cobra.Command) error {
	if o.trace == "" {
		if cmd.Flags().Changed("trace") {
			return errors.New("--trace needs a file that measure --record wrote, or \"-\" for standard input: its name is empty")
		}
		return nil
	}
	if o.name != "" {
		return errors.New("a recording knows no policies: give --file instead of a policy's name, or leave it out")
	}
	for _, name := range []string{"for", "kubeconfig", "context", "kcm-url"} {
		if cmd.Flags().Changed(name) {
			return fmt.Errorf("--trace replays a recording, with no cluster at hand: leave out --%s", name)
		}
	}
	return nil
}

// replay shows what a policy would have concluded from a recording. It talks to no cluster.
func (o *planOptions) replay(in io.Reader, c *console) error {
	recorded, err := readRecording(o.trace, in)
	if err != nil {
		return err
	}
	current, err := parseFlags(o.current)
	if err != nil {
		return fmt.Errorf("--current: %w", err)
	}
	policy, guardrails, err := o.policyFor()
	if err != nil {
		return err
	}
	if err := c.concluding(); err != nil {
		return err
	}
	known := limitsOf(recorded, current)
	recorded.Evidence.Flags = known.now.flags
	document := replayed(recorded, tuner.Inputs{
		Objective: o.objectiveFor(recorded, policy), Bounds: policy.Spec.Bounds, Evidence: recorded.Evidence, Guardrails: guardrails,
	}, known)
	document.Policy = policyRef(policy)
	document.Policy.File, document.Trace.File = o.file, o.trace
	document.Trace.NoObjective = recorded.Objective.MaxLag == 0
	if o.trace == "-" {
		document.Trace.File = standardInput
	}
	document.NotSeen = append(document.NotSeen, o.notReplayed(recorded, policy)...)
	return o.show(document, c)
}

// standardInput is what a recording without a file comes from, for a person.
const standardInput = "standard input"

// readRecording reads a trace from a file, or from in if the name is "-".
func readRecording(path string, in io.Reader) (trace.Trace, error) {
	if path == "-" {
		recorded, err := trace.Read(in)
		if err != nil {
			return recorded, fmt.Errorf("%s: %w", standardInput, err)
		}
		return recorded, nil
	}
	file, err := os.Open(filepath.Clean(path)) // for reading only
	if err != nil {
		return trace.Trace{}, fmt.Errorf("read a trace: %w", err)
	}
	recorded, err := trace.Read(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return trace.Trace{}, fmt.Errorf("%s: %w", path, err)
	}
	return recorded, nil
}

// policyFor is the file's policy with its guardrails as they were written, or one without a name that recommends within
// generousBounds.
func (o *planOptions) policyFor() (v1alpha1.EndpointSyncPolicy, tuner.Guardrails, error) {
	var policy v1alpha1.EndpointSyncPolicy
	policy.Spec.Mode, policy.Spec.Bounds = v1alpha1.ModeRecommend, generousBounds()
	if o.file != "" {
		var err error
		if policy, err = readPolicy(o.file); err != nil {
			return policy, tuner.Guardrails{}, err
		}
	}
	guardrails := controllers.GuardrailsOf(policy.Spec.Guardrails)
	policy.Spec = policy.Spec.WithDefaults()
	if _, invalid := controllers.Measured(policy.Spec.Services); invalid != "" {
		return policy, guardrails, fmt.Errorf("read the policy in %s: %s", o.file, invalid)
	}
	return policy, guardrails, nil
}

// objectiveFor is the policy's, or without one what the recording was held against.
func (o *planOptions) objectiveFor(recorded trace.Trace, policy v1alpha1.EndpointSyncPolicy) tuner.Objective {
	if o.file == "" && recorded.Objective.MaxLag > 0 {
		return recorded.Objective
	}
	return controllers.ObjectiveOf(policy.Spec.Objective)
}

// replayed concludes from a recording what the controller would have. There are no nodes, no past and no step: what the
// cluster was like besides is not recorded.
func replayed(recorded trace.Trace, in tuner.Inputs, known limits) *report.Plan {
	if in.Bounds == (v1alpha1.Bounds{}) {
		in.Bounds = generousBounds()
	}
	in.Bottleneck = tuner.Diagnose(in.Evidence, in.Objective)
	decision := tuner.Decide(in)
	return &report.Plan{
		Trace: &report.Recording{
			Recorded: recorded.Recorded, Tool: report.Clean(recorded.Tool), Version: report.Clean(in.Evidence.Version),
		},
		Assessment: report.Assess(report.Basis{
			Scope: report.Scope{Selected: recorded.Scope.Selected}, Objective: in.Objective, Evidence: in.Evidence,
			Verdict: tuner.Verdict(in.Evidence.Lag, in.Objective), Bottleneck: in.Bottleneck, Decision: decision,
			Source: known.now.source, Assumed: known.now.assumed, NotSeen: known.notSeen(in.Evidence),
		}),
		Conditions: []report.Condition{}, Nodes: []report.Node{}, Curve: report.Curve(tuner.Curve(in, decision)),
	}
}

// notReplayed is what a recording leaves open.
func (o *planOptions) notReplayed(recorded trace.Trace, policy v1alpha1.EndpointSyncPolicy) []string {
	var out []string
	if recorded.Scope.Selected {
		out = append(out, chosenOnly)
	}
	if s := policy.Spec.Services; s.Selector != nil || s.NamespaceSelector != nil {
		out = append(out, "which Services the policy selects: a recording has no labels, so that all that were measured count")
	}
	if o.file != "" && policy.Spec.Bounds == (v1alpha1.Bounds{}) {
		out = append(out, "bounds: the policy has none, so that nothing may be written; the recommendation stays within "+generousLimits())
	}
	return append(out, "which Services were slowest, the control-plane nodes, and settings that were tried before: a recording has none of that")
}
