package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/controllers"
	"github.com/endpointsync/endpoint-sync-operator/internal/report"
)

// planOptions are the flags of the plan command.
type planOptions struct {
	sources

	name   string // of the policy; empty: the one in charge
	file   string // instead of the cluster's policy
	length time.Duration
	output string
	trace  string // a recording instead of a cluster; empty: none
	html   string // file for the plan as a page; empty: none
}

func newPlanCommand() *cobra.Command {
	var opts planOptions
	cmd := &cobra.Command{
		Use:   "plan [NAME | -f policy.yaml] [--trace FILE]",
		Short: "Show what a policy would do now, and why; change nothing",
		Long: `Measure for a while and show what the controller would conclude for a policy: verdict, bottleneck, the flags it would
set and what they would bring and cost, the rollout's next step, or why it holds. The policy is the one in charge (the
oldest), the one that is named, or one in a file that need not be in the cluster. Without the operator installed it still
diagnoses and recommends. Nothing is written.

With --for=0 nothing is measured: it shows what the policy's status says.

With --trace it replays what "measure --record FILE" wrote, with no cluster and no kubeconfig at hand. Without --file it
then plans as a policy in mode Recommend would, for the objective that was given to measure, within QPS 300, burst 1,000
and 50 workers. A trace names nobody: Services are numbers in it.

The curve shows for each QPS from 5 to the bound the cheapest burst and workers, the lag that the recorded changes would
have met with them, and what they cost. --html writes all of it as one page that needs no network and no script.`,
		Example: `  endpoint-sync-operator plan
  endpoint-sync-operator plan -f policy.yaml --for 2m -o json
  endpoint-sync-operator plan --trace incident.trace --html plan.html`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.name = strings.Join(args, "")
			return opts.run(cmd)
		},
	}
	opts.bind(cmd)
	flags := cmd.Flags()
	flags.StringVarP(&opts.file, "file", "f", "", "a file with the policy, instead of one in the cluster")
	flags.DurationVar(&opts.length, "for", 30*time.Second, "how long to measure; 0: not at all")
	flags.StringVarP(&opts.output, "output", "o", string(report.FormatTable), "how to print the plan: table, json or yaml")
	flags.StringVar(&opts.trace, "trace", "", "replay a file that measure --record wrote, instead of measuring; \"-\" reads standard input")
	flags.StringVar(&opts.html, "html", "", "also write the plan to this file as one self-contained page; a file that is there is replaced")
	return cmd
}

func (o *planOptions) run(cmd *cobra.Command) error {
	switch {
	case o.file != "" && o.name != "":
		return errors.New("give a policy's name or --file, not both")
	case o.length < 0:
		return fmt.Errorf("--for %s must not be negative", o.length)
	}
	if err := errors.Join(o.checkTrace(cmd), o.checkPage(cmd)); err != nil {
		return err
	}
	console, err := newConsole(cmd, o.output)
	if err != nil {
		return err
	}
	if o.trace != "" {
		return o.replay(cmd.InOrStdin(), console)
	}
	s, cluster, err := o.open(cmd.Context(), "")
	if err != nil {
		return err
	}
	return o.plan(cmd.Context(), s, cluster, console)
}

// plan measures, concludes as the controller would, and prints.
func (o *planOptions) plan(ctx context.Context, s *session, cluster string, c *console) error {
	policy, inCharge, err := o.choose(ctx, s.client)
	if err != nil {
		return err
	}
	var document *report.Plan
	if o.length == 0 {
		s.unread = make(unreadable)
		s.read(ctx)
		document = fromStatus(policy, s)
	} else {
		spec := policy.Spec.WithDefaults()
		measured, _ := controllers.Measured(spec.Services) // that it is invalid is said in the plan
		s.view = view{
			scope:    report.Scope{Cluster: cluster, Selected: measured != nil},
			measured: measured, objective: controllers.ObjectiveOf(spec.Objective),
		}
		if err := s.run(ctx, o.length, c.show); err != nil {
			return err
		}
		if err := c.concluding(); err != nil {
			return err
		}
		document = planned(situation(policy, inCharge, s), s)
	}
	document.Policy.File, document.Policy.InCharge, document.Scope.Cluster = o.file, inCharge, cluster
	if o.file != "" {
		document.NotSeen = append(document.NotSeen,
			"whether the API server takes the policy: only the file's form was checked (kubectl apply --dry-run=server does the rest)")
	}
	return o.show(document, c)
}

// checkPage says why the page cannot be written, before anything is measured.
func (o *planOptions) checkPage(cmd *cobra.Command) error {
	switch {
	case !cmd.Flags().Changed("html"):
		return nil
	case o.html == "" || o.html == "-":
		return fmt.Errorf("--html %q: give the name of a file", o.html)
	}
	if err := replaceable(o.html); err != nil {
		return fmt.Errorf("--html: %w", err)
	}
	return nil
}

// show prints the plan, and writes the page, if one is wanted: if that fails, the plan is not lost.
func (o *planOptions) show(document *report.Plan, c *console) error {
	err := c.print(document)
	if o.html != "" {
		if failed := replaceFile(o.html, document.HTML); failed != nil {
			err = errors.Join(err, fmt.Errorf("--html: %w", failed))
		}
	}
	return err
}

// choose returns the policy to plan for, with defaults, and the name of the one in charge. A policy from a file is
// taken for the one in charge: the question is what it would do.
func (o *planOptions) choose(ctx context.Context, c client.Reader) (v1alpha1.EndpointSyncPolicy, string, error) {
	policies, err := policiesByAge(ctx, c)
	switch {
	case err != nil && (o.file == "" || !meta.IsNoMatchError(err)):
		return v1alpha1.EndpointSyncPolicy{}, "", err
	case o.file != "":
		policy, err := readPolicy(o.file)
		if err != nil {
			return policy, "", err
		}
		return withGeneration(policy, policies), policy.Name, nil
	case len(policies) == 0:
		return v1alpha1.EndpointSyncPolicy{}, "", errors.New("there is no EndpointSyncPolicy in the cluster: give one with --file, or use measure")
	case o.name == "":
		return policies[0], policies[0].Name, nil
	}
	for _, p := range policies {
		if p.Name == o.name {
			return p, policies[0].Name, nil
		}
	}
	return v1alpha1.EndpointSyncPolicy{}, "", fmt.Errorf("there is no EndpointSyncPolicy %q; the one in charge is %q", o.name, policies[0].Name)
}

// policiesByAge returns all policies, the one in charge first.
func policiesByAge(ctx context.Context, c client.Reader) ([]v1alpha1.EndpointSyncPolicy, error) {
	policies, err := controllers.PoliciesByAge(ctx, c)
	if meta.IsNoMatchError(err) {
		return nil, fmt.Errorf("the operator is not installed there: give a policy with --file, or use measure: %w", err)
	} else if err != nil {
		return nil, fmt.Errorf("list policies: %w", err)
	}
	return policies, nil
}

// readPolicy reads the only policy of a file; unknown fields are refused.
func readPolicy(path string) (v1alpha1.EndpointSyncPolicy, error) {
	var policy v1alpha1.EndpointSyncPolicy
	text, err := os.ReadFile(path)
	if err != nil {
		return policy, fmt.Errorf("read the policy: %w", err)
	}
	if err := yaml.UnmarshalStrict(text, &policy); err != nil {
		return policy, fmt.Errorf("read the policy in %s: %w", path, err)
	}
	want := v1alpha1.GroupVersion.WithKind("EndpointSyncPolicy")
	if got := policy.GroupVersionKind(); got != want {
		return policy, fmt.Errorf("read the policy in %s: it is %s %q, want %s EndpointSyncPolicy",
			path, policy.APIVersion, policy.Kind, want.GroupVersion())
	}
	if policy.Name == "" {
		return policy, fmt.Errorf("read the policy in %s: metadata.name is missing", path)
	}
	return policy, nil
}

// withGeneration gives a policy from a file the generation that it would have in the cluster: settings that failed
// under an older one may be tried again.
func withGeneration(policy v1alpha1.EndpointSyncPolicy, policies []v1alpha1.EndpointSyncPolicy) v1alpha1.EndpointSyncPolicy {
	for _, p := range policies {
		if p.Name != policy.Name {
			continue
		}
		policy.Generation = p.Generation
		if !equality.Semantic.DeepEqual(p.Spec, policy.Spec) {
			policy.Generation++
		}
	}
	return policy
}
