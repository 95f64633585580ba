package tests

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/operator"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
)

const (
	// defaultKills is how many rollouts are interrupted; LAB_KILLS overrides it.
	defaultKills = 20
	// aimedShare is how many of them are aimed at each moment that is hit seldom or not at all by chance: one in 20.
	aimedShare = 20
	// rolloutSpan is about how long a rollout takes here, beginSpan how long it takes to begin, and handOutSpan how long
	// the controller takes to hand out a revision: the moment of a random kill is drawn from one of them.
	rolloutSpan = 4 * time.Second
	beginSpan   = 300 * time.Millisecond
	handOutSpan = 10 * time.Millisecond
	// endLimit is how long an interrupted rollout may take to end after the process came back.
	endLimit = 3 * time.Minute
	// downTimeout is the agent's patience with a process that does not come: the stand-in comes within half a second.
	downTimeout = 5 * time.Second
)

// Moments of a rollout: the phases of the agent's journal, as its file says them, and the time before.
const (
	notHandedOut     = "not handed out" // by the controller
	notBegun         = "before"         // the agent has not begun
	phaseIntent      = "intent"
	phaseApplied     = "applied"
	phaseRollingBack = "rollingback"
	phaseCommitted   = "committed"
	phaseRolledBack  = "rolledback"
)

// shot is one kill: of a process, in a phase of the journal or, if that is empty, at a random moment.
type shot struct{ victim, phase string }

// fails reports whether the rollout must fail to come to the phase.
func (s shot) fails() bool { return s.phase == phaseRollingBack || s.phase == phaseRolledBack }

// suits reports whether the phase comes in a rollout that puts flags back, which does not fail here, or in one that
// changes them, which the controller does not hand out here.
func (s shot) suits(restoring bool) bool {
	if restoring {
		return !s.fails()
	}
	return s.phase != notHandedOut
}

// killer interrupts rollouts on one node and keeps count. It asks for new flags itself, as the controller would; that
// they go again is the controller's own doing, after the policy was deleted.
type killer struct {
	*rig.Rig
	watch     *rig.Watcher
	processes map[string]*operator.Process
	random    *rand.Rand
	shots     []shot                    // that are left
	kills     map[string]map[string]int // by process and moment
	revision  int64
	restores  int      // rollouts that the controller drove
	allowed   []string // hashes of every whole manifest so far
	current   []byte   // the manifest as it must be between rollouts
}

func TestKillDuringRollouts(t *testing.T) {
	t.Parallel()
	kills, seed := fromEnv(t, "LAB_KILLS", defaultKills), fromEnv(t, "LAB_SEED", int(time.Now().UnixNano()%1_000_000))
	t.Logf("LAB_KILLS=%d LAB_SEED=%d", kills, seed)
	k := newKiller(t, seed)
	k.shots = k.draw(kills)
	began := time.Now()
	for len(k.shots) > 0 && !t.Failed() {
		if k.revision == int64(2*kills) {
			t.Fatalf("after %d rollouts these kills are still to be had: %+v", k.revision, k.shots)
		}
		k.rollout(t)
	}
	t.Logf("%d rollouts with a kill each, %d of them driven by the controller, in %s; the manifest was read %d times",
		k.revision, k.restores, time.Since(began).Round(time.Second), k.watch.Reads())
	for _, victim := range []string{operator.Agent, operator.Controller} {
		t.Logf("kills of %s: %s", victim, spread(k.kills[victim]))
	}
}

func newKiller(t *testing.T, seed int) *killer {
	t.Helper()
	k := &killer{
		Rig: rig.New(t, environment, environment.Own(t), rig.Options{
			Node:         "kill",
			RestartDelay: func() time.Duration { return 300 * time.Millisecond },
			BackOffBase:  200 * time.Millisecond,
			KCMArgs:      []string{"--leader-elect-retry-period=200ms"},
		}),
		processes: map[string]*operator.Process{},
		random:    rand.New(rand.NewPCG(uint64(seed), 0)),
		kills:     map[string]map[string]int{operator.Agent: {}, operator.Controller: {}},
	}
	k.current = k.Original
	k.allowed = []string{rig.Hash(k.Original)}
	k.watch = rig.Watch(t, k.ManifestDir)
	k.start(t, operator.Agent)
	k.start(t, operator.Controller)
	return k
}

// draw returns the kills of a run in a random order: some in each phase of the journal, some before the controller has
// handed out anything, and the others at random moments of agent and controller by turns.
func (k *killer) draw(kills int) []shot {
	var all []shot
	for range max(kills/aimedShare, 1) {
		all = append(all, shot{operator.Controller, notHandedOut})
		for _, phase := range []string{phaseIntent, phaseApplied, phaseRollingBack, phaseCommitted, phaseRolledBack} {
			all = append(all, shot{operator.Agent, phase})
		}
	}
	for i := range kills - len(all) {
		all = append(all, shot{victim: []string{operator.Controller, operator.Agent}[i%2]})
	}
	k.random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

func fromEnv(t *testing.T, name string, fallback int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s, want a number of at least 1", name, text)
	}
	return n
}

func (k *killer) start(t *testing.T, process string) {
	t.Helper()
	if process == operator.Controller {
		k.processes[process] = k.StartController(t)
		return
	}
	k.processes[process] = k.StartAgent(t, "--down-timeout="+downTimeout.String())
}

// rollout has the flags changed or put back, kills a process at some moment, starts it again and holds the end against
// the promise.
func (k *killer) rollout(t *testing.T) {
	t.Helper()
	k.revision++
	restoring := !bytes.Equal(k.current, k.Original)
	s := k.next(restoring)
	want := v1alpha1.ChangeResult{Outcome: v1alpha1.OutcomeCommitted}
	if restoring {
		k.restores++
		k.current = k.Original
		if s.phase == notHandedOut {
			k.freeze(t, s.victim)
		}
		k.Cluster.DeletePolicy(t, policyName)
	} else {
		want = k.apply(t, s)
	}
	at := k.kill(t, s)
	if k.kills[s.victim][at]++; s.phase != "" && s.phase != at {
		k.shots = append(k.shots, s) // The phase was over too soon.
	}
	k.start(t, s.victim)

	last := k.AwaitEnd(t, k.revision, endLimit).Last
	what := fmt.Sprintf("revision %d, %s killed in phase %q", k.revision, s.victim, at)
	if last.Revision != k.revision || last.Outcome != want.Outcome || last.Flags != want.Flags {
		t.Errorf("%s: last = %+v, want %s of %q", what, last, want.Outcome, want.Flags)
	}
	if got := k.Read(t); !bytes.Equal(got, k.current) {
		t.Errorf("%s: the manifest is\n%s\nwant\n%s", what, got, k.current)
	}
	if got := k.handedOut(t); got != k.revision {
		t.Errorf("%s: revision %d was handed out", what, got)
	}
	k.watch.Verify(t, k.allowed...)
	k.AwaitHealthy(t, time.Minute)
}

// next takes the next kill that suits this rollout.
func (k *killer) next(restoring bool) shot {
	for i, s := range k.shots {
		if s.suits(restoring) {
			k.shots = slices.Delete(k.shots, i, i+1)
			return s
		}
	}
	return shot{victim: operator.Agent}
}

// apply asks for new flags and returns how that must end.
func (k *killer) apply(t *testing.T, s shot) v1alpha1.ChangeResult {
	t.Helper()
	policy := enforce()
	policy.DeletionPolicy = v1alpha1.DeletionRestore
	generation := k.Cluster.ApplyPolicy(t, policyName, policy)
	// A setting that failed is refused the next time, so none comes twice.
	flags := v1alpha1.Flags{KubeAPIQPS: 20 + int32(k.revision), KubeAPIBurst: 30 + int32(k.revision)}
	fresh := k.With(t, flags)
	k.allowed = append(k.allowed, rig.Hash(fresh))
	behaviour, want := "", v1alpha1.ChangeResult{Outcome: v1alpha1.OutcomeCommitted, Flags: flags}
	if s.fails() || (s.phase == "" && k.random.IntN(4) == 0) {
		behaviour, want.Outcome = fmt.Sprintf("exit --kube-api-qps=%d", flags.KubeAPIQPS), v1alpha1.OutcomeRolledBack
	} else {
		k.current = fresh
	}
	k.Misbehave(t, behaviour)
	spec := instruction(k.revision, generation, flags)
	spec.DeletionPolicy = policy.DeletionPolicy
	k.Instruct(t, spec)
	return want
}

// kill kills a process at a random moment, or in a phase, and returns how far the rollout was then.
func (k *killer) kill(t *testing.T, s shot) string {
	t.Helper()
	switch s.phase {
	case notHandedOut: // It was frozen before there was anything to hand out.
	case "":
		span := []time.Duration{handOutSpan, beginSpan, rolloutSpan}[k.random.IntN(3)]
		time.Sleep(time.Duration(k.random.Int64N(int64(span)))) // The moment is the point.
	default:
		k.awaitPhase(t, s.phase)
	}
	k.freeze(t, s.victim)
	at := k.moment(t)
	if s.victim == operator.Controller && k.handedOut(t) < k.revision {
		at = notHandedOut
	}
	k.processes[s.victim].Kill()
	return at
}

// freeze stops a process before it is killed, so that what is read then is what the kill left.
func (k *killer) freeze(t *testing.T, process string) {
	t.Helper()
	if err := k.processes[process].Signal(syscall.SIGSTOP); err != nil {
		t.Fatalf("%s died by itself: %v", process, err)
	}
}

// handedOut is the newest revision that the node was told.
func (k *killer) handedOut(t *testing.T) int64 {
	t.Helper()
	node, err := k.Object(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if node.Spec.Revision == nil {
		return 0
	}
	return *node.Spec.Revision
}

// awaitPhase returns when the journal holds a phase of this rollout, or the rollout is over. Some phases last for
// milliseconds.
func (k *killer) awaitPhase(t *testing.T, wanted string) {
	t.Helper()
	for deadline := time.Now().Add(endLimit); time.Now().Before(deadline); time.Sleep(100 * time.Microsecond) {
		if slices.Contains([]string{wanted, phaseCommitted, phaseRolledBack}, k.moment(t)) {
			return
		}
	}
	t.Fatalf("the journal never came to phase %q", wanted)
}

// moment says how far the rollout is.
func (k *killer) moment(t *testing.T) string {
	t.Helper()
	j := k.Journal(t)
	switch {
	case !slices.Contains([]string{"", phaseIntent, phaseApplied, phaseRollingBack, phaseCommitted, phaseRolledBack}, j.Phase):
		t.Fatalf("the journal has phase %q, which this test does not know", j.Phase)
	case j.Revision < k.revision: // There is none yet, or it still holds the end of the rollout before.
		return notBegun
	}
	return j.Phase
}

func spread(kills map[string]int) string {
	var parts []string
	for _, moment := range slices.Sorted(maps.Keys(kills)) {
		parts = append(parts, fmt.Sprintf("%s %d", moment, kills[moment]))
	}
	return strings.Join(parts, ", ")
}
