package staticpod

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/fake"
)

// patience is how long a condition may take before a test gives up; none should need more than a fraction.
const patience = 30 * time.Second

// TestMain lets the test binary stand in for the programs that static Pods run, and for a lab that is killed.
func TestMain(m *testing.M) {
	switch os.Args[0] {
	case "component":
		component(os.Args[1:])
	case "lab":
		_, err := Start(context.Background(), Options{
			ManifestDir: os.Args[1], LogDir: os.Args[2], NodeName: "n1", Binaries: map[string]string{"component": self()},
		})
		fmt.Fprintln(os.Stdout, "started", err)
		select {}
	}
	os.Exit(m.Run())
}

// component runs until SIGTERM, and otherwise as its arguments say.
func component(args []string) {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	fmt.Fprintln(os.Stdout, "running", args)
	for _, arg := range args {
		switch name, value, _ := strings.Cut(arg, "="); name {
		case "--exit":
			os.Exit(3)
		case "--deaf":
			term = nil
		case "--unhealthy":
			go http.ListenAndServe(value, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "no", http.StatusInternalServerError)
			}))
		}
	}
	<-term
	os.Exit(0)
}

func self() string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return path
}

type bench struct {
	*Runner
	t   *testing.T
	dir string
}

// start runs a runner over an empty directory. It never polls unless change says so.
func start(t *testing.T, change func(*Options)) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir()}
	o := Options{
		ManifestDir: b.dir, LogDir: t.TempDir(), NodeName: "Node1", PollInterval: time.Hour,
		Binaries:     map[string]string{"component": self()},
		RestartDelay: func() time.Duration { return 0 },
	}
	if change != nil {
		change(&o)
	}
	var err error
	if b.Runner, err = Start(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Stop)
	return b
}

// manifest is a static Pod whose container runs the component with args.
func manifest(name string, args ...string) string {
	pod := corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "kube-system"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Command: append([]string{"component"}, args...)}}},
	}
	return render(pod)
}

func render(pod corev1.Pod) string {
	b, err := json.Marshal(pod)
	if err != nil {
		panic(err)
	}
	return string(b) + "\n"
}

// swap puts a file in place as careful writers do: by rename.
func (b *bench) swap(name, content string) {
	b.t.Helper()
	tmp := filepath.Join(b.dir, ".tmp-"+name)
	if err := os.WriteFile(tmp, []byte(content), 0o600); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(b.dir, name)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) remove(name string) {
	b.t.Helper()
	if err := os.Remove(filepath.Join(b.dir, name)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) until(what string, ok func() bool) {
	b.t.Helper()
	until(b.t, what, ok)
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// of returns the processes of a Pod, oldest first.
func (b *bench) of(pod string) []Process {
	return slices.DeleteFunc(b.Processes(), func(p Process) bool { return p.Pod != "kube-system/"+pod+"-node1" })
}

func (b *bench) live(pod string) []Process {
	return slices.DeleteFunc(b.of(pod), func(p Process) bool { return !p.Exited.IsZero() })
}

// settle returns when the runner has seen every event so far: events come in order.
func (b *bench) settle() {
	b.t.Helper()
	name := fmt.Sprintf("sentinel%d", len(b.Processes()))
	b.swap(name, manifest(name))
	b.until("sentinel runs", func() bool { return len(b.live(name)) == 1 })
}

func TestEveryNonDotFileCountsWhateverItsExtension(t *testing.T) {
	b := start(t, nil)
	b.swap("a.yaml", manifest("a"))
	b.swap("b.manifest", manifest("b"))
	b.swap("c", manifest("c"))
	b.swap(".d.yaml", manifest("d"))
	b.swap("e.yaml.bak", manifest("e"))
	b.swap("f.txt", "not a manifest: [")
	if err := os.Mkdir(filepath.Join(b.dir, "g"), 0o750); err != nil {
		t.Fatal(err)
	}
	b.settle()
	for _, name := range []string{"a", "b", "c", "e"} {
		b.until(name+" runs", func() bool { return len(b.live(name)) == 1 })
	}
	if got := b.of("d"); len(got) != 0 {
		t.Errorf("a dot file was run: %+v", got)
	}
}

func TestFilesThatWereThereBeforeAreRun(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(manifest("a")), 0o600); err != nil {
		t.Fatal(err)
	}
	b := start(t, func(o *Options) { o.ManifestDir = dir })
	b.until("a runs", func() bool { return len(b.live("a")) == 1 })
}

func TestOfDuplicatesTheLexicallyLastWinsAtThePoll(t *testing.T) {
	b := start(t, func(o *Options) { o.PollInterval = 50 * time.Millisecond })
	b.swap("x.yaml.bak", manifest("x", "--last"))
	b.swap("x.yaml", manifest("x", "--first"))
	b.until("the last file's Pod runs alone", func() bool {
		live := b.live("x")
		return len(live) == 1 && slices.Contains(live[0].Args, "--last")
	})
}

func TestAFileThatCannotBeParsedDropsThePodAtThePollOnly(t *testing.T) {
	b := start(t, nil)
	b.swap("a.yaml", manifest("a"))
	b.until("a runs", func() bool { return len(b.live("a")) == 1 })
	b.swap("a.yaml", "{ torn")
	b.settle()
	if len(b.live("a")) != 1 {
		t.Errorf("the Pod was dropped before the poll")
	}

	p := start(t, func(o *Options) { o.PollInterval = 50 * time.Millisecond })
	p.swap("a.yaml", manifest("a"))
	p.until("a runs", func() bool { return len(p.live("a")) == 1 })
	p.swap("a.yaml", "{ torn")
	p.until("a is dropped", func() bool { return len(p.live("a")) == 0 })
}

func TestOnlyTheFirstYAMLDocumentCounts(t *testing.T) {
	b := start(t, nil)
	b.swap("a.yaml", manifest("a")+"---\n"+manifest("second"))
	b.settle()
	b.until("a runs", func() bool { return len(b.live("a")) == 1 })
	if got := b.of("second"); len(got) != 0 {
		t.Errorf("the second document was run: %+v", got)
	}
}

func TestCommentsAndTheSameBytesAgainRestartNothing(t *testing.T) {
	b := start(t, nil)
	b.swap("a.yaml", manifest("a"))
	b.until("a runs", func() bool { return len(b.live("a")) == 1 })
	b.swap("a.yaml", "# a comment\n"+manifest("a"))
	b.swap("a.yaml", manifest("a"))
	b.settle()
	if got := b.of("a"); len(got) != 1 || !got[0].Exited.IsZero() {
		t.Errorf("processes = %+v, want one that runs", got)
	}
}

func TestADefaultThatIsWrittenOutRestartsNothing(t *testing.T) {
	b := start(t, nil)
	b.swap("a.yaml", manifest("a"))
	b.until("a runs", func() bool { return len(b.live("a")) == 1 })
	b.swap("a.yaml", strings.Replace(manifest("a"), `"spec":{`, `"spec":{"restartPolicy":"Always","terminationGracePeriodSeconds":30,`, 1))
	b.settle()
	if got := b.of("a"); len(got) != 1 {
		t.Errorf("processes = %+v, want one", got)
	}
}

func TestAChangedPodIsEndedThenStartedAfterTheDelay(t *testing.T) {
	const delay = 300 * time.Millisecond
	b := start(t, func(o *Options) { o.RestartDelay = func() time.Duration { return delay } })
	b.swap("a.yaml", manifest("a", "--v=1"))
	b.until("the first runs", func() bool { return len(b.live("a")) == 1 })
	// The program must be ready for SIGTERM.
	b.until("the first speaks", func() bool { return len(read(t, b.of("a")[0].LogFile)) > 0 })
	swapped := time.Now()
	b.swap("a.yaml", manifest("a", "--v=2"))
	b.until("the second runs", func() bool { return len(b.of("a")) == 2 })
	old, fresh := b.of("a")[0], b.of("a")[1]
	switch {
	case old.UID == fresh.UID:
		t.Errorf("UID is still %s", old.UID)
	case old.ExitCode != 0:
		t.Errorf("old process ended with %d, want 0: SIGTERM first", old.ExitCode)
	case old.Exited.IsZero() || fresh.Started.Before(old.Exited):
		t.Errorf("new process started at %s, before the old one was gone at %s", fresh.Started, old.Exited)
	case fresh.Started.Sub(swapped) < delay:
		t.Errorf("new process started %s after the swap, want at least %s", fresh.Started.Sub(swapped), delay)
	case fresh.ConfigHash != string(fresh.UID):
		t.Errorf("config hash = %s, want the UID %s", fresh.ConfigHash, fresh.UID)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestAProcessThatIgnoresSIGTERMIsKilledAfterTheGracePeriod(t *testing.T) {
	b := start(t, nil)
	deaf := strings.Replace(manifest("a", "--deaf"), `"spec":{`, `"spec":{"terminationGracePeriodSeconds":1,`, 1)
	b.swap("a.yaml", deaf)
	b.until("a runs", func() bool { return len(b.live("a")) == 1 && len(read(t, b.of("a")[0].LogFile)) > 0 })
	b.swap("a.yaml", manifest("a"))
	b.until("the second runs", func() bool { return len(b.of("a")) == 2 })
	if got := b.of("a")[0]; got.ExitCode != -1 {
		t.Errorf("exit code = %d, want -1 (killed)", got.ExitCode)
	}
}

func TestARemovedFileEndsItsPod(t *testing.T) {
	b := start(t, nil)
	b.swap("a.yaml", manifest("a"))
	b.until("a runs", func() bool { return len(b.live("a")) == 1 })
	b.remove("a.yaml")
	b.until("a is gone", func() bool { return len(b.live("a")) == 0 })
	b.swap("a.yaml", manifest("a"))
	b.until("a runs again", func() bool { return len(b.live("a")) == 1 })
}

func TestCrashesAreRestartedWithADoublingBackOff(t *testing.T) {
	const base = 40 * time.Millisecond
	b := start(t, func(o *Options) { o.BackOffBase = base })
	b.swap("a.yaml", manifest("a", "--exit"))
	b.until("a was started four times", func() bool { return len(b.of("a")) >= 4 })
	all := b.of("a")
	for i, want := range []time.Duration{base, 2 * base, 4 * base} {
		if got := all[i+1].Started.Sub(all[i].Exited); got < want {
			t.Errorf("restart %d came after %s, want at least %s", i+1, got, want)
		}
		if all[i].ExitCode != 3 || all[i].UID != all[0].UID {
			t.Errorf("process %d = %+v, want exit code 3 under the same UID", i, all[i])
		}
	}
}

func TestTheBackOffBelongsToTheUID(t *testing.T) {
	const delay = 200 * time.Millisecond
	b := start(t, func(o *Options) {
		o.BackOffBase, o.RestartDelay = time.Hour, func() time.Duration { return delay }
	})
	b.swap("a.yaml", manifest("a", "--exit"))
	b.until("a crashed", func() bool { return len(b.of("a")) == 1 && len(b.live("a")) == 0 })
	swapped := time.Now()
	b.swap("a.yaml", manifest("a"))
	b.until("the other manifest runs", func() bool { return len(b.live("a")) == 1 })
	// The delay holds even though there was no process to end.
	if got := b.live("a")[0].Started.Sub(swapped); got < delay {
		t.Errorf("the other manifest ran after %s, want at least %s", got, delay)
	}
}

func TestAFailingLivenessProbeRestartsTheProcess(t *testing.T) {
	probe := corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromString("probe-port"), Path: "/healthz"}},
		PeriodSeconds: 1, FailureThreshold: 1,
	}
	for name, set := range map[string]func(*corev1.Container){
		"liveness": func(c *corev1.Container) { c.LivenessProbe = &probe },
		"startup":  func(c *corev1.Container) { c.StartupProbe = &probe },
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, func(o *Options) { o.BackOffBase = time.Millisecond })
			var pod corev1.Pod
			if err := json.Unmarshal([]byte(manifest("a", "--unhealthy=127.0.0.1:1")), &pod); err != nil {
				t.Fatal(err)
			}
			c := &pod.Spec.Containers[0]
			c.Ports = []corev1.ContainerPort{{Name: "probe-port", ContainerPort: 1}}
			set(c)
			b.swap("a.yaml", render(pod))
			b.until("a was restarted", func() bool { return len(b.of("a")) >= 2 })
		})
	}
}

func TestACommandWithoutABinaryNeverStarts(t *testing.T) {
	b := start(t, nil)
	b.swap("a.yaml", strings.Replace(manifest("a"), `"component"`, `"something-else"`, 1))
	b.settle()
	if got := b.of("a"); len(got) != 0 {
		t.Errorf("processes = %+v, want none", got)
	}
}

func TestTheDefaultDelayIsTheKubelets(t *testing.T) {
	o := Options{}.withDefaults()
	for range 1000 {
		if d := o.RestartDelay(); d < 10*time.Second || d > 15*time.Second {
			t.Fatalf("RestartDelay() = %s, want 10s to 15s", d)
		}
	}
}

func TestTheMirrorPodFollowsTheManifest(t *testing.T) {
	client := fake.NewClientset(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "Node1", UID: "node-uid"}})
	b := start(t, func(o *Options) { o.Client = client })
	get := func() *corev1.Pod {
		pod, err := client.CoreV1().Pods("kube-system").Get(t.Context(), "a-node1", metav1.GetOptions{})
		if err != nil {
			return nil
		}
		return pod
	}
	b.swap("a.yaml", manifest("a", "--v=1"))
	b.until("the mirror Pod is ready", func() bool {
		pod := get()
		return pod != nil && len(pod.Status.ContainerStatuses) == 1 && pod.Status.ContainerStatuses[0].Ready
	})
	first := get()
	if got, want := first.Annotations[annotationMirror], string(b.of("a")[0].UID); got != want {
		t.Errorf("%s = %s, want %s", annotationMirror, got, want)
	}
	if first.Annotations[annotationSource] != "file" || len(first.OwnerReferences) != 1 {
		t.Errorf("mirror Pod = %+v, want source file and the Node as owner", first.ObjectMeta)
	}
	b.swap("a.yaml", manifest("a", "--v=2"))
	b.until("the mirror Pod is replaced", func() bool {
		pod := get()
		return pod != nil && pod.Annotations[annotationMirror] != first.Annotations[annotationMirror]
	})
	b.remove("a.yaml")
	b.until("the mirror Pod is gone", func() bool { return get() == nil })
}

func TestStopEndsEverything(t *testing.T) {
	b := start(t, nil)
	b.swap("a.yaml", manifest("a"))
	b.until("a runs", func() bool { return len(b.live("a")) == 1 })
	b.Stop()
	if got := b.live("a"); len(got) != 0 {
		t.Errorf("%+v survived Stop", got)
	}
}

func TestNothingSurvivesAKilledLab(t *testing.T) {
	dir, logs := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.yaml"), []byte(manifest("a")), 0o600); err != nil {
		t.Fatal(err)
	}
	lab := exec.CommandContext(t.Context(), self())
	lab.Args = []string{"lab", dir, logs}
	if err := lab.Start(); err != nil {
		t.Fatal(err)
	}
	defer lab.Wait()
	defer lab.Process.Kill()
	var child int
	until(t, "the component runs", func() bool {
		child = childOf(lab.Process.Pid)
		return child != 0
	})
	if err := lab.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, "the component is gone", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child))
		return err != nil || bytes.Contains(stat, []byte(") Z "))
	})
}

// childOf returns the PID of a child of the process, or 0.
func childOf(pid int) int {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		content, _ := os.ReadFile(task)
		var child int
		if n, _ := fmt.Sscan(string(content), &child); n == 1 {
			return child
		}
	}
	return 0
}
