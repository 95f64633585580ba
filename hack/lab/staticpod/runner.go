// Package staticpod runs the static Pods of a manifests directory as local processes, by the kubelet's rules.
//
// Which files count and when a Pod is added or removed follows pkg/kubelet/config/file.go, and what becomes of it then
// (termination grace, requeue delay, crash back-off, probes, mirror Pod) what was measured on real kubelets of
// Kubernetes v1.37.2. There are no containers: a command runs with the rights, files and network of the caller.
package staticpod

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/clock"
)

const (
	// defaultPoll is how often the kubelet lists its manifests (KubeletConfiguration.fileCheckFrequency).
	defaultPoll = 20 * time.Second
	// requeue and requeueJitter are how long the kubelet waits before it looks again whether the Pod of the same name is
	// gone: 10 s times 1 to 1.5 (workerBackOffPeriod, pkg/kubelet/pod_workers.go).
	requeue       = 10 * time.Second
	requeueJitter = 0.5
	// defaultBackOff and maxBackOff are the kubelet's crash back-off (pkg/kubelet/kubelet.go).
	defaultBackOff = 10 * time.Second
	maxBackOff     = 5 * time.Minute
	// stopGrace is how long a process has to end when the runner itself stops.
	stopGrace = 5 * time.Second
)

// Options say what to run and how fast. ManifestDir, LogDir and NodeName are required.
type Options struct {
	ManifestDir string
	LogDir      string
	NodeName    string
	// Binaries maps the first word of a container's command to the program to run. A command that is not listed is run
	// as it stands if it is an absolute path, and never starts otherwise.
	Binaries map[string]string
	// Client, if given, is used to keep mirror Pods, as well as can be: it never delays a process.
	Client kubernetes.Interface
	// RestartDelay is asked how long to wait before looking again whether the Pod that a new one replaces is gone. Nil
	// means as the kubelet does, 10 s to 15 s. Zero means to start at once when the old one is gone.
	RestartDelay func() time.Duration
	// BackOffBase is the wait after the first crash; it doubles up to 5 minutes. Zero means 10 s.
	BackOffBase time.Duration
	// PollInterval is how often the directory is listed. Zero means 20 s.
	PollInterval time.Duration
	// Log receives what the runner has to say. The zero value discards it.
	Log logr.Logger
}

// Process is one process that the runner started.
type Process struct {
	Pod        string    // namespace/name of the Pod, the name ending in the node's
	UID        types.UID // changes with any change of the decoded Pod
	ConfigHash string    // the kubelet's annotation kubernetes.io/config.hash
	Container  string
	PID        int
	Args       []string  // the command as the manifest says it
	Started    time.Time // with a monotonic reading
	Exited     time.Time // zero while it runs
	ExitCode   int       // -1 when a signal ended it; undefined while it runs
	LogFile    string
}

// Runner keeps the processes of a manifests directory. Its methods may be called from any goroutine.
type Runner struct {
	opts   Options
	clock  clock.WithTicker
	cancel context.CancelFunc
	spawn  spawner
	mirror *mirror
	wg     sync.WaitGroup

	stopped sync.Once

	mu        sync.Mutex
	processes []*Process
	instances map[types.UID]*instance // by UID: the one that the directory asks for
	holder    map[string]*instance    // by full name: the one that has processes, or is ending them
}

// instance is one Pod that the directory asked for.
type instance struct {
	pod    *corev1.Pod
	cancel context.CancelFunc
	// follows says that another Pod of that name was there when this one came. The kubelet's first look then always
	// finds it: even one without a process is not torn down at once.
	follows bool
}

// Start reads the directory and keeps its Pods running until ctx ends or Stop is called.
func Start(ctx context.Context, o Options) (*Runner, error) {
	if o.ManifestDir == "" || o.LogDir == "" || o.NodeName == "" {
		return nil, errors.New("start static-Pod runner: ManifestDir, LogDir and NodeName are required")
	}
	if err := os.MkdirAll(o.LogDir, 0o750); err != nil {
		return nil, fmt.Errorf("create log directory: %w", err)
	}
	o = o.withDefaults()
	ctx, cancel := context.WithCancel(ctx)
	r := &Runner{
		opts: o, clock: clock.RealClock{}, cancel: cancel, spawn: newSpawner(),
		instances: map[types.UID]*instance{}, holder: map[string]*instance{},
	}
	if o.Client != nil {
		r.mirror = newMirror(o.Client, o.NodeName, o.Log)
		r.wg.Go(func() { r.mirror.run(ctx) })
	}
	src := &source{
		dir: filepath.Clean(o.ManifestDir), node: o.NodeName, poll: o.PollInterval, log: o.Log, clock: r.clock,
		store: map[string]*corev1.Pod{}, byFile: map[string]string{},
		publish: func(pods []*corev1.Pod) { r.apply(ctx, pods) },
	}
	r.wg.Go(func() { src.run(ctx) })
	return r, nil
}

func (o Options) withDefaults() Options {
	if o.RestartDelay == nil {
		o.RestartDelay = func() time.Duration { return wait.Jitter(requeue, requeueJitter) }
	}
	if o.BackOffBase == 0 {
		o.BackOffBase = defaultBackOff
	}
	if o.PollInterval == 0 {
		o.PollInterval = defaultPoll
	}
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	return o
}

// Stop ends every process and returns when all are gone. It may be called more than once.
func (r *Runner) Stop() {
	r.cancel()
	r.wg.Wait()
	r.stopped.Do(func() { close(r.spawn) })
}

// Processes returns a copy of every process ever started, oldest first.
func (r *Runner) Processes() []Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]Process, 0, len(r.processes))
	for _, p := range r.processes {
		c := *p
		c.Args = slices.Clone(p.Args)
		all = append(all, c)
	}
	return all
}

// apply adds and removes instances so that there is one for each Pod. A Pod never changes under its UID.
func (r *Runner) apply(ctx context.Context, pods []*corev1.Pod) {
	wanted := map[types.UID]bool{}
	for _, pod := range pods {
		wanted[pod.UID] = true
	}
	r.mu.Lock()
	var gone []*corev1.Pod
	var added []*instance
	for uid, in := range r.instances {
		if !wanted[uid] {
			gone = append(gone, in.pod)
		}
	}
	for _, pod := range pods {
		if r.instances[pod.UID] == nil {
			added = append(added, &instance{pod: pod, follows: r.holder[fullName(pod)] != nil})
		}
	}
	r.mu.Unlock()
	for _, pod := range gone {
		r.opts.Log.Info("Pod removed", "pod", pod.Name, "uid", pod.UID)
		r.remove(pod)
	}
	for _, in := range added {
		r.opts.Log.Info("Pod added", "pod", in.pod.Name, "uid", in.pod.UID)
		r.add(ctx, in)
	}
}

func (r *Runner) add(ctx context.Context, in *instance) {
	ctx, in.cancel = context.WithCancel(ctx)
	r.mu.Lock()
	r.instances[in.pod.UID] = in
	r.mu.Unlock()
	r.mirror.want(in.pod)
	r.wg.Go(func() {
		defer in.cancel()
		r.keep(ctx, in)
	})
}

func (r *Runner) remove(pod *corev1.Pod) {
	r.mu.Lock()
	in := r.instances[pod.UID]
	delete(r.instances, pod.UID)
	r.mu.Unlock()
	if in != nil {
		in.cancel()
	}
	r.mirror.unwant(pod)
}

// keep runs one instance from admission to the end of its last process.
func (r *Runner) keep(ctx context.Context, in *instance) {
	if !r.admit(ctx, in) {
		return
	}
	var containers sync.WaitGroup
	for i := range in.pod.Spec.Containers {
		containers.Go(func() { r.keepContainer(ctx, in.pod, &in.pod.Spec.Containers[i]) })
	}
	containers.Wait()
	r.mu.Lock()
	delete(r.holder, fullName(in.pod))
	r.mu.Unlock()
}

// admit waits until no other Pod of that name has processes, and reports whether the instance may start. Like the
// kubelet it does not wait for the other one: it looks, and looks again after a delay.
func (r *Runner) admit(ctx context.Context, in *instance) bool {
	// lookAgain keeps a zero delay from spinning.
	const lookAgain = 5 * time.Millisecond
	for in.follows || !r.hold(in) {
		in.follows = false
		if !r.sleep(ctx, max(r.opts.RestartDelay(), lookAgain)) {
			return false
		}
	}
	return ctx.Err() == nil || r.release(in)
}

func (r *Runner) hold(in *instance) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := fullName(in.pod)
	if r.holder[name] != nil {
		return false
	}
	r.holder[name] = in
	return true
}

// release gives the name up again and returns false.
func (r *Runner) release(in *instance) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.holder, fullName(in.pod))
	return false
}

// sleep waits and reports whether ctx is still alive.
func (r *Runner) sleep(ctx context.Context, d time.Duration) bool {
	t := r.clock.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C():
		return true
	}
}

func fullName(pod *corev1.Pod) string { return pod.Namespace + "/" + pod.Name }
