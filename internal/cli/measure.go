package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/controllers"
	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
	"github.com/endpointsync/endpoint-sync-operator/internal/report"
	"github.com/endpointsync/endpoint-sync-operator/internal/scrape"
	"github.com/endpointsync/endpoint-sync-operator/internal/survey"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
	"github.com/endpointsync/endpoint-sync-operator/internal/watch"
)

// minChanges is how many changes measure wants before it recommends anything: fewer make no episode to size for. The
// verdict has its own, statistical test on top.
const minChanges = 30

// generousBounds are what measure recommends within: from upstream's defaults up to what facts about the API server
// still recommend (300/1000 of what was measured to be of use, and the workers that kube-controller-manager accepts).
func generousBounds() v1alpha1.Bounds {
	low := v1alpha1.DefaultFlags()
	workers := v1alpha1.WorkersBound{Min: low.ConcurrentEndpointSyncs, Max: v1alpha1.MaxWorkers}
	return v1alpha1.Bounds{
		KubeAPIQPS:                     v1alpha1.QPSBound{Min: low.KubeAPIQPS, Max: 300},
		KubeAPIBurst:                   v1alpha1.BurstBound{Min: low.KubeAPIBurst, Max: 1000},
		ConcurrentEndpointSyncs:        workers,
		ConcurrentServiceEndpointSyncs: workers,
	}
}

// chosenOnly warns where lag is counted for some Services only.
const chosenOnly = "a model of the chosen Services alone: they share kube-controller-manager's budget, so that cause and prediction rest on the changes of all"

// sources is how measure and plan reach what they read.
type sources struct {
	conn    connection
	kcmURL  string
	current []string
}

func (o *sources) bind(cmd *cobra.Command) {
	flags := cmd.Flags()
	o.conn.bind(flags)
	flags.StringVar(&o.kcmURL, "kcm-url", "",
		"also read /flagz and /metrics of the kube-controller-manager there, with the kubeconfig's credentials: a loopback IP address, such as https://127.0.0.1:10257 of a port-forward")
	flags.StringSliceVar(&o.current, "current", nil,
		"flags to take for those that kube-controller-manager runs with, such as kube-api-qps=20,kube-api-burst=30; omitted: what can be read, else upstream's defaults")
}

// measureOptions are the flags of the measure command.
type measureOptions struct {
	sources

	length     time.Duration
	namespace  string
	service    string
	maxLag     time.Duration
	percentile float64
	output     string
	record     string // file for the trace; empty: none
	force      bool   // replace it
}

func newMeasureCommand() *cobra.Command {
	var opts measureOptions
	cmd := &cobra.Command{
		Use:   "measure",
		Short: "Measure endpoint lag from here, name the cause, and recommend flags; install and change nothing",
		Long: `Measure how late Pod changes become visible in EndpointSlices and Endpoints, for any cluster that a kubeconfig reaches.
Nothing is installed and nothing is written. It needs the right to list and watch pods, services, endpoints and
endpointslices, in all namespaces or, with --namespace, in that one. If it may, it also watches nodes and namespaces,
and reads the Lease kube-system/kube-controller-manager, what the operator's agents report, and what tells the platform.

While it runs it shows the lag so far and the cause so far, on standard error. It ends after --for, or with Ctrl-C, and
says: the lag per API and direction, how far it can be trusted, whether the objective is met, what limits the endpoint
controllers, which flags of kube-controller-manager would have met the objective on the changes seen, what they cost,
how to set them, for how long Pods should sleep in preStop, and what it could not see. Only changes that happen
meanwhile count, though a backlog that stands already shows its cause: start it before the rollout, or while the
incident runs.

With --record it also writes what it saw to a file, at the end or at Ctrl-C, whole or not at all: "plan --trace FILE"
replays it on another machine, with no cluster at hand. Such a trace names nobody: Services are numbers in it, and there
is no name of a Pod, Service, namespace, node or cluster, no label and no address; only times, flags and counters. A file
that is there already is kept, unless --force is given.

Exit status: 0 the objective is met, or nothing speaks against it; 1 an error; 2 the objective is missed.`,
		Example: `  endpoint-sync-operator measure --for 60s
  endpoint-sync-operator measure --namespace shop --service cart --objective 500ms -o json
  endpoint-sync-operator measure --record incident.trace`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return opts.run(cmd)
		},
	}
	opts.bind(cmd)
	flags := cmd.Flags()
	flags.DurationVar(&opts.length, "for", 0, "how long to measure; omitted: until Ctrl-C")
	flags.StringVarP(&opts.namespace, "namespace", "n", "", "count only the Services of this namespace")
	flags.StringVar(&opts.service, "service", "", "count only Services of this name")
	flags.DurationVar(&opts.maxLag, "objective", 2*time.Second, "the longest lag that is fine at the percentile")
	flags.Float64Var(&opts.percentile, "percentile", v1alpha1.DefaultPercentile, "percentile of the changes that must be within the objective: 50, 90 or 99")
	flags.StringVarP(&opts.output, "output", "o", string(report.FormatTable), "how to print the result: table, json or yaml")
	flags.StringVar(&opts.record, "record", "", "also write what was seen to this file, without names, for plan --trace")
	flags.BoolVar(&opts.force, "force", false, "with --record: replace the file if it is there already")
	return cmd
}

func (o *measureOptions) validate() error {
	switch {
	case o.length < 0:
		return fmt.Errorf("--for %s must not be negative", o.length)
	case o.maxLag <= 0:
		return fmt.Errorf("--objective %s must be longer than 0s", o.maxLag)
	case o.percentile < 50 || o.percentile >= 100:
		return fmt.Errorf("--percentile %g must be at least 50 and less than 100", o.percentile)
	case o.force && o.record == "":
		return errors.New("--force is about the file of --record, which is not given")
	}
	return nil
}

func (o *measureOptions) run(cmd *cobra.Command) error {
	if err := o.validate(); err != nil {
		return err
	}
	console, err := newConsole(cmd, o.output)
	if err != nil {
		return err
	}
	s, cluster, err := o.open(cmd.Context(), o.namespace)
	if err != nil {
		return err
	}
	return o.measure(cmd.Context(), s, cluster, console)
}

// measure runs the session, concludes and prints.
func (o *measureOptions) measure(ctx context.Context, s *session, cluster string, c *console) error {
	s.view = view{
		scope:     report.Scope{Cluster: cluster, Namespace: o.namespace, Service: o.service},
		measured:  o.measured(),
		objective: tuner.Objective{Percentile: o.percentile / 100, MaxLag: o.maxLag, MinSamples: minChanges},
	}
	if err := o.watch(ctx, s, c); err != nil {
		return err
	}
	if err := c.concluding(); err != nil {
		return err
	}
	m := &report.Measurement{Assessment: conclude(s)}
	if err := c.print(m); err != nil {
		return err
	}
	if !m.Met() {
		return &exitError{status: statusObjectiveMissed, err: errors.New("")} // the result says it all
	}
	return nil
}

// watch runs the session and records it, also what was seen before it broke.
func (o *measureOptions) watch(ctx context.Context, s *session, c *console) error {
	file, err := o.recording()
	if err != nil {
		return err
	}
	err = s.run(ctx, o.length, c.show)
	if file != nil && !s.since.IsZero() {
		saved := file.save(s.trace())
		err = errors.Join(err, saved)
		if saved == nil {
			err = errors.Join(err, c.live.Note(fmt.Sprintf("Recorded in %s; replay it with: endpoint-sync-operator plan --trace %[1]s", o.record)))
		}
	}
	return errors.Join(err, file.discard())
}

// conclude judges what the session has measured.
func conclude(s *session) report.Assessment {
	evidence, objective := s.evidence(s.until, s.view.measured), s.view.objective
	b := report.Basis{
		Scope:      s.view.scope,
		Objective:  objective,
		Evidence:   evidence,
		Verdict:    tuner.Verdict(evidence.Lag, objective),
		Bottleneck: tuner.Diagnose(evidence, objective),
		NotSeen:    s.limits().notSeen(evidence),
		Platform:   s.platform,
	}
	b.Decision = tuner.Decide(tuner.Inputs{
		Objective: objective, Bounds: generousBounds(), Evidence: evidence, Bottleneck: b.Bottleneck,
		Guardrails: controllers.GuardrailsOf(v1alpha1.Guardrails{}),
	})
	if s.view.measured != nil && s.narrow == "" {
		b.NotSeen = append(b.NotSeen, chosenOnly)
	}
	now := s.readings.running(s.current)
	b.Source, b.Assumed = now.source, now.assumed
	return report.Assess(b)
}

// measured returns which Services count; nil means all.
func (o *measureOptions) measured() func(lag.Service) bool {
	if o.namespace == "" && o.service == "" {
		return nil
	}
	return func(s lag.Service) bool {
		return (o.namespace == "" || s.Namespace == o.namespace) && (o.service == "" || s.Name == o.service)
	}
}

// open connects, checks that what is to be measured may be read, and returns a session that has not begun, and the
// address of the API server. With a namespace it makes do with the right to read that one.
func (o *sources) open(ctx context.Context, namespace string) (*session, string, error) {
	current, err := parseFlags(o.current)
	if err != nil {
		return nil, "", fmt.Errorf("--current: %w", err)
	}
	cfg, err := o.conn.restConfig()
	if err != nil {
		return nil, "", err
	}
	ctrl.SetLogger(logr.Discard()) // what matters is said in the result
	scheme, err := newScheme()
	if err != nil {
		return nil, "", err
	}
	reader, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return nil, "", fmt.Errorf("connect to %s: %w", cfg.Host, err)
	}
	s := &session{
		client: reader, tracker: lag.NewTracker(lag.Options{}), clock: clock.RealClock{}, current: current,
		unread: make(unreadable),
	}
	if s.narrow, err = narrowest(ctx, reader, namespace); err != nil {
		return nil, "", err
	}
	s.checkOptional(ctx)
	if s.feed, err = watch.NewFeed(cfg, s.tracker, watch.Options{Namespace: s.narrow}); err != nil {
		return nil, "", fmt.Errorf("set up the watches: %w", err)
	}
	if s.apiServer, err = scrape.NewAPIServer(cfg); err != nil {
		return nil, "", err
	}
	facts, err := survey.NewReader(cfg, reader)
	if err != nil {
		return nil, "", err
	}
	s.look = facts.Facts
	if err := o.openKCM(cfg, s); err != nil {
		return nil, "", err
	}
	return s, cfg.Host, nil
}

func (o *sources) openKCM(cfg *rest.Config, s *session) error {
	if o.kcmURL == "" {
		return nil
	}
	k, err := scrape.NewKCM(o.kcmURL, cfg, "")
	if err != nil {
		return fmt.Errorf("--kcm-url: %w", err)
	}
	s.kcm, s.kcmURL = k, o.kcmURL
	return nil
}

// narrowest is the namespace to watch: all of them, because they share kube-controller-manager's budget, unless only
// the given one may be read.
func narrowest(ctx context.Context, c client.Reader, namespace string) (string, error) {
	err := preflight(ctx, c, "")
	if namespace != "" && apierrors.IsForbidden(err) {
		return namespace, preflight(ctx, c, namespace)
	}
	return "", err
}
