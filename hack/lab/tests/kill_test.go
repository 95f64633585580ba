package tests

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/rig"
)

const (
	// defaultKills is how many rollouts are interrupted; LAB_KILLS overrides it.
	defaultKills = 20
	// rolloutSpan is about how long a rollout takes here: the moment of a random kill is drawn from it.
	rolloutSpan = 4 * time.Second
	// endLimit is how long an interrupted rollout may take to end after the agent came back.
	endLimit = 3 * time.Minute
	// downTimeout is the agent's patience with a process that does not come: the stand-in comes within half a second.
	downTimeout = 4 * time.Second
)

// phases of the agent's journal, as its file says them; the first is that of a journal that never held a change.
func phases() []string {
	return []string{"", "intent", "applied", "rollingback", "committed", "rolledback"}
}

// steerable are the phases that every rollout passes through, and so a kill can be aimed at, and whether the rollout
// must fail to get there.
func steerable() map[string]bool {
	return map[string]bool{"intent": false, "applied": false, "committed": false, "rollingback": true, "rolledback": true}
}

// killer interrupts rollouts on one node and keeps count.
type killer struct {
	*rig.Rig
	watch      *rig.Watcher
	agent      *rig.Proc
	generation int64
	random     *rand.Rand
	kills      map[string]int // by phase of the journal at the kill
	allowed    []string       // hashes of every whole manifest so far
	current    []byte         // the manifest as it must be between rollouts
}

func TestKillDuringRollouts(t *testing.T) {
	kills, seed := fromEnv(t, "LAB_KILLS", defaultKills), fromEnv(t, "LAB_SEED", int(time.Now().UnixNano()%1_000_000))
	t.Logf("LAB_KILLS=%d LAB_SEED=%d", kills, seed)
	c := environment.Own(t)
	k := &killer{
		Rig: rig.New(t, environment, c, rig.Options{
			Node:         "kill",
			RestartDelay: func() time.Duration { return 300 * time.Millisecond },
			BackOffBase:  200 * time.Millisecond,
			KCMArgs:      []string{"--leader-elect-retry-period=200ms"},
		}),
		generation: c.ApplyPolicy(t, policyName, enforce()),
		random:     rand.New(rand.NewPCG(uint64(seed), 0)),
		kills:      map[string]int{},
	}
	k.current = k.Original
	k.allowed = []string{rig.Hash(k.Original)}
	k.watch = rig.Watch(t, k.ManifestDir)
	k.start(t)
	began := time.Now()
	for revision := range int64(kills) {
		k.rollout(t, revision+1, kills)
		if t.Failed() {
			break
		}
	}
	t.Logf("%d rollouts with a kill each in %s; kills by journal phase: %s; the manifest was read %d times",
		kills, time.Since(began).Round(time.Second), k.spread(), k.watch.Reads())
	for phase := range steerable() {
		if k.kills[phase] == 0 && !t.Failed() {
			t.Errorf("no kill in phase %q", phase)
		}
	}
	k.watch.Verify(t, k.allowed...)
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

func (k *killer) start(t *testing.T) {
	t.Helper()
	k.agent = k.StartAgent(t, "--down-timeout="+downTimeout.String())
}

// rollout asks for new flags, kills the agent at some moment, starts it again and holds the end against the promise.
func (k *killer) rollout(t *testing.T, revision int64, total int) {
	t.Helper()
	aim, aimed := k.aim(revision, total)
	fails := steerable()[aim]
	if !aimed {
		fails = k.random.IntN(4) == 0
	}
	// A setting that failed is refused the next time, so none comes twice.
	flags := v1alpha1.Flags{KubeAPIQPS: 20 + int32(revision), KubeAPIBurst: 30 + int32(revision)}
	behaviour, outcome := "", v1alpha1.OutcomeCommitted
	if fails {
		behaviour, outcome = fmt.Sprintf("exit --kube-api-qps=%d", flags.KubeAPIQPS), v1alpha1.OutcomeRolledBack
	}
	k.Misbehave(t, behaviour)
	fresh := withFlags(t, k.Original, flags)
	k.allowed = append(k.allowed, rig.Hash(fresh))
	k.Instruct(t, instruction(revision, k.generation, flags))
	at := k.kill(t, aim, aimed)
	k.kills[at]++
	k.start(t)

	s := k.AwaitEnd(t, revision, endLimit)
	if s.Last.Outcome != outcome || s.Last.Flags != flags {
		t.Errorf("revision %d, killed in phase %q: last = %+v, want %s of %s", revision, at, s.Last, outcome, flags)
	}
	if !fails {
		k.current = fresh
	}
	if got := k.Read(t); !bytes.Equal(got, k.current) {
		t.Errorf("revision %d, killed in phase %q, %s: the manifest is\n%s\nwant\n%s", revision, at, outcome, got, k.current)
	}
	k.watch.Verify(t, k.allowed...)
	k.AwaitHealthy(t, time.Minute)
}

// aim picks a phase that was not hit yet, for every third rollout and, when few are left, for each.
func (k *killer) aim(revision int64, total int) (phase string, aimed bool) {
	var missing []string
	for p := range steerable() {
		if k.kills[p] == 0 {
			missing = append(missing, p)
		}
	}
	left := total - int(revision) + 1
	if len(missing) == 0 || (revision%3 != 0 && left > 2*len(missing)) {
		return "", false
	}
	slices.Sort(missing)
	return missing[k.random.IntN(len(missing))], true
}

// kill kills the agent at a random moment, or in a phase, and returns the phase that its journal held then.
func (k *killer) kill(t *testing.T, aim string, aimed bool) string {
	t.Helper()
	if !aimed {
		time.Sleep(time.Duration(k.random.Int64N(int64(rolloutSpan)))) // the moment is the point
		return k.strike(t)
	}
	// The journal still holds the end of the rollout before, so an end counts only after this one has begun.
	if aim == "committed" || aim == "rolledback" {
		k.awaitPhase(t, "intent", "applied", "rollingback")
	}
	k.awaitPhase(t, aim)
	return k.strike(t)
}

// strike freezes the agent, so that the journal that is read is the one at the kill.
func (k *killer) strike(t *testing.T) string {
	t.Helper()
	if err := k.agent.Signal(syscall.SIGSTOP); err != nil {
		t.Fatalf("the agent died by itself: %v", err)
	}
	at := k.phase(t)
	k.agent.Kill9()
	return at
}

// awaitPhase looks at the journal as often as it can until it holds one of the phases: some last for milliseconds.
func (k *killer) awaitPhase(t *testing.T, wanted ...string) {
	t.Helper()
	for deadline := time.Now().Add(endLimit); time.Now().Before(deadline); {
		if slices.Contains(wanted, k.phase(t)) {
			return
		}
	}
	t.Fatalf("the journal never came to a phase of %v", wanted)
}

// phase reads the journal's phase: a line of header, then JSON. It is replaced as a whole, so any read is whole.
func (k *killer) phase(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(k.StateDir, "journal"))
	if os.IsNotExist(err) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := bytes.Cut(content, []byte("\n"))
	var j struct {
		Phase string `json:"phase"`
	}
	if err = json.Unmarshal(body, &j); err != nil {
		t.Fatalf("the journal is torn: %v\n%s", err, content)
	}
	if !slices.Contains(phases(), j.Phase) {
		t.Fatalf("the journal has phase %q, which this test does not know", j.Phase)
	}
	return j.Phase
}

func (k *killer) spread() string {
	var parts []string
	for _, phase := range slices.Sorted(maps.Keys(k.kills)) {
		parts = append(parts, fmt.Sprintf("%s %d", cmp.Or(phase, "none"), k.kills[phase]))
	}
	return strings.Join(parts, ", ")
}

// withFlags is what the manifest must become: flags at the end of the command, in the order of kubeadm's ConfigMap.
func withFlags(t *testing.T, original []byte, flags v1alpha1.Flags) []byte {
	t.Helper()
	const after = "    image: "
	if bytes.Count(original, []byte(after)) != 1 {
		t.Fatalf("the manifest has no single line %q", after)
	}
	var lines strings.Builder
	for arg := range strings.FieldsSeq(flags.String()) {
		lines.WriteString("    - " + arg + "\n")
	}
	return bytes.Replace(original, []byte(after), []byte(lines.String()+after), 1)
}
