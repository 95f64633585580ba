package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"

	"github.com/endpointsync/endpoint-sync-operator/internal/scrape"
)

const (
	// heartbeat is how often the status is written at least, so that its reader can tell a silent agent from a steady
	// node.
	heartbeat = 10 * time.Second

	// reportGap is how far apart two writes of the status are at least.
	reportGap = 500 * time.Millisecond

	// maxReportBackoff is how long a write that failed waits at most.
	maxReportBackoff = 30 * time.Second
)

// Agent looks after one node's manifest. All fields below view belong to the goroutine that works.
type Agent struct {
	cfg     Config
	log     logr.Logger
	clock   bootClock
	kcm     *scrape.KCM
	cluster cluster
	store   *store
	place   place
	view    *view

	journal  journal
	loaded   bool // the journal was read
	unsaved  bool // the journal could not be written
	tries    int  // at the present instruction
	activity activity
	silent   silence
	read     reading
	held     waiting
	heard    hearings
}

// Run looks after one node's manifest until ctx ends, and returns nil then. It comes up, goes on with an interrupted
// change and rolls back without an API server. A change that is under way when ctx ends is left as the journal has it;
// the next Run goes on with it. An error means that the agent could not start: a wrong Config, credentials that cannot
// be read, or another agent on the node.
func Run(ctx context.Context, cfg Config, config *rest.Config) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	kcm, err := scrape.NewKCM(cfg.KCMURL, config, cfg.KCMCAFile)
	if err != nil {
		return fmt.Errorf("--kcm-url and --kcm-ca-file: %w", err)
	}
	server, err := newAPIServer(config, cfg.NodeName)
	if err != nil {
		return err
	}
	now, err := newBootClock()
	if err != nil {
		return err
	}
	return start(ctx, cfg, now, kcm, server)
}

func start(ctx context.Context, cfg Config, now bootClock, kcm *scrape.KCM, server cluster) error {
	files, err := openStore(cfg.StateDir)
	if err != nil {
		return err
	}
	a := &Agent{
		cfg: cfg, log: logr.FromContextOrDiscard(ctx).WithName("agent").WithValues("node", cfg.NodeName),
		clock: now, kcm: kcm, cluster: server, store: files,
		place: place{dir: cfg.ManifestDir, name: cfg.ManifestName}, view: newView(),
		heard: hearings{},
	}
	a.log.Info("the agent has started", "manifestDir", cfg.ManifestDir, "manifest", cfg.ManifestName, "stateDir", cfg.StateDir)
	var group sync.WaitGroup
	group.Go(func() { server.watchNode(ctx, a.view.see) })
	group.Go(func() { a.reportAlways(ctx) })
	group.Go(func() { a.testIsolation(ctx) })
	a.work(ctx)
	group.Wait()
	return files.Close()
}

// reportAlways writes the status when it has changed and at every heartbeat. What cannot be written is written later,
// with the news of then.
func (a *Agent) reportAlways(ctx context.Context) {
	backoff := reportGap
	for {
		if !a.wait(ctx, heartbeat, a.view.changed) {
			return
		}
		status, ok := a.view.status(a.clock.now())
		if !ok {
			continue
		}
		if err := a.cluster.report(ctx, status); err != nil {
			a.log.Info("cannot write the status; trying again", "error", err.Error(), "after", backoff.String())
			backoff = min(2*backoff, maxReportBackoff)
			signal(a.view.changed)
		} else {
			backoff = reportGap
		}
		if !a.wait(ctx, backoff, nil) {
			return
		}
	}
}
