package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// tokenLife is how long the operator's credentials last: longer than any test.
const tokenLife = 6 * time.Hour

// Proc is a process of the operator.
type Proc struct {
	// PID of the process, Log the path of its output, Started when it was started.
	PID     int
	Log     string
	Started time.Time

	cmd  *exec.Cmd
	done chan struct{}
	once sync.Once
}

// Signal sends a signal to the process.
func (p *Proc) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Kill9 kills the process as a power cut would and returns when it is gone.
func (p *Proc) Kill9() {
	p.once.Do(func() {
		if err := p.cmd.Process.Kill(); err != nil {
			return // it is gone already
		}
	})
	<-p.done
}

// Running reports whether the process has not ended.
func (p *Proc) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// StartAgent starts this node's agent. Extra arguments come last, so they win.
func (r *Rig) StartAgent(t testing.TB, extra ...string) *Proc {
	t.Helper()
	args := []string{
		"agent", "--node-name=" + r.Node, "--manifest-dir=" + r.ManifestDir, "--state-dir=" + r.StateDir,
		"--kcm-url=" + r.KCMURL, "--kubeconfig=" + r.kubeconfig(t, "endpoint-sync-agent"), "--min-interval=1ms",
	}
	return r.run(t, "agent", append(args, extra...))
}

// StartController starts the controller. Extra arguments come last, so they win.
func (r *Rig) StartController(t testing.TB, extra ...string) *Proc {
	t.Helper()
	args := []string{
		"controller", "--kubeconfig=" + r.kubeconfig(t, "endpoint-sync-controller"), "--leader-elect=false",
		"--metrics-bind-address=0", "--health-probe-bind-address=0", "--namespace=" + Namespace,
	}
	return r.run(t, "controller", append(args, extra...))
}

func (r *Rig) run(t testing.TB, name string, args []string) *Proc {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(r.LogDir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if closeErr := log.Close(); closeErr != nil {
			t.Error(closeErr)
		}
	}()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), r.environment.Operator(t), args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err = cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	p := &Proc{PID: cmd.Process.Pid, Log: log.Name(), Started: r.clock.Now(), cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		if err := cmd.Wait(); err != nil {
			return // killed, or its log says why
		}
	}()
	t.Cleanup(p.Kill9)
	return p
}

// kubeconfig returns a kubeconfig with a token of the ServiceAccount that is bound to a Pod on this node, as the kubelet
// would project it.
func (r *Rig) kubeconfig(t testing.TB, account string) string {
	t.Helper()
	if path := r.kubeconfigs[account]; path != "" {
		return path
	}
	pods := r.Cluster.Client.CoreV1().Pods(Namespace)
	pod, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: account + "-", Namespace: Namespace},
		Spec: corev1.PodSpec{
			NodeName: r.Node, ServiceAccountName: account,
			Containers: []corev1.Container{{Name: "operator", Image: "endpoint-sync-operator"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("create a Pod for %s: %v", account, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), settle)
		defer cancel()
		if gone := pods.Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); gone != nil {
			t.Logf("delete Pod %s: %v", pod.Name, gone)
		}
	})
	seconds := int64(tokenLife / time.Second)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
	}}
	answer, err := r.Cluster.Client.CoreV1().ServiceAccounts(Namespace).CreateToken(t.Context(), account, request, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("get a token for %s: %v", account, err)
	}
	path, err := r.Cluster.KubeconfigFor(fmt.Sprintf("%s-%s", r.Node, account), answer.Status.Token)
	if err != nil {
		t.Fatal(err)
	}
	r.kubeconfigs[account] = path
	return path
}

// KCMArgs returns the command of the newest kube-controller-manager process, and whether it still runs.
func (r *Rig) KCMArgs() (args []string, running bool) {
	all := r.Pods.Processes()
	if len(all) == 0 {
		return nil, false
	}
	last := all[len(all)-1]
	return slices.Clone(last.Args), last.Exited.IsZero()
}
