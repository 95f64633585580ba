// Package operator installs the operator on a lab's control plane from config/default, and runs its controller and
// agent as processes with the credentials that their Pods would have.
package operator

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const (
	// Namespace is where config/default puts the operator.
	Namespace = "endpoint-sync-system"
	// Controller is the service account of the controller.
	Controller = "endpoint-sync-controller"
	// Agent is the service account of the agents.
	Agent = "endpoint-sync-agent"

	// tokenLife outlasts any demo; installed Pods get tokens for ten minutes and fresh ones in time.
	tokenLife = 6 * time.Hour
	// serveTimeout bounds how long kinds and namespaces that were just made may take to be served.
	serveTimeout = time.Minute
	// stopGrace is how long a process has to end by itself.
	stopGrace = 10 * time.Second
	poll      = 50 * time.Millisecond
)

// inPods are the kinds that need kubelets to do anything: the lab runs what they would run.
var inPods = []string{"Deployment", "DaemonSet"}

// Install renders a kustomization and applies everything but what runs in Pods.
func Install(ctx context.Context, config *rest.Config, dir string) error {
	rendered, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return fmt.Errorf("render %s: %w", dir, err)
	}
	objects, err := client.New(config, client.Options{})
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, serveTimeout)
	defer cancel()
	for _, r := range rendered.Resources() {
		if slices.Contains(inPods, r.GetKind()) {
			continue
		}
		text, err := r.AsYAML()
		if err != nil {
			return fmt.Errorf("render %s: %w", r.CurId(), err)
		}
		var object unstructured.Unstructured
		if err = yaml.Unmarshal(text, &object.Object); err != nil {
			return fmt.Errorf("decode %s: %w", r.CurId(), err)
		}
		if err = apply(ctx, objects, &object); err != nil {
			return fmt.Errorf("apply %s: %w", r.CurId(), err)
		}
	}
	return nil
}

// apply waits for a kind or namespace that was just made.
func apply(ctx context.Context, objects client.Client, object *unstructured.Unstructured) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, poll, true, func(ctx context.Context) (bool, error) {
		last = objects.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("lab"), client.ForceOwnership)
		if meta.IsNoMatchError(last) || apierrors.IsNotFound(last) {
			return false, nil
		}
		return true, last
	})
	return errors.Join(err, last)
}

// Credentials returns a token of a service account that is bound to a Pod on a node, as the kubelet would project it:
// admission confines the agent by the node's name in it.
func Credentials(ctx context.Context, kube kubernetes.Interface, account, node string) (string, error) {
	pod, err := kube.CoreV1().Pods(Namespace).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: account + "-", Namespace: Namespace},
		Spec: corev1.PodSpec{
			NodeName: node, ServiceAccountName: account,
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers:  []corev1.Container{{Name: "operator", Image: "endpoint-sync-operator"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("create a Pod for %s: %w", account, err)
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: new(int64(tokenLife / time.Second)),
		BoundObjectRef:    &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
	}}
	answer, err := kube.CoreV1().ServiceAccounts(Namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("get a token for %s: %w", account, err)
	}
	return answer.Status.Token, nil
}

// Process is one process of the operator.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// Start runs the operator's binary, its output appended to a log. It goes with the lab, however that ends.
func Start(ctx context.Context, binary, log string, args ...string) (*Process, error) {
	return Run(exec.CommandContext(context.WithoutCancel(ctx), binary, args...), log)
}

// Run starts a command as Start does.
func Run(cmd *exec.Cmd, log string) (*Process, error) {
	if err := os.MkdirAll(filepath.Dir(log), 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = file, file
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err = errors.Join(cmd.Start(), file.Close()); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // Its log says why it ended.
	}()
	return p, nil
}

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.done }

// PID is the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal to the process; it fails if the process has ended.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Kill ends the process at once, as kill -9 does, and returns when it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // It fails only if the process is gone.
	<-p.done
}

// Stop ends the process and returns when it is gone. It is an error if the process has to be killed.
func (p *Process) Stop() error {
	_ = p.Signal(syscall.SIGTERM) // It fails only if the process is gone.
	ctx, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		p.Kill()
		return fmt.Errorf("%s did not end within %s and was killed", p.cmd.Path, stopGrace)
	}
}

// Ready asks a controller at the address of its health probes whether it is ready; the error says why it is not.
func Ready(ctx context.Context, address string) error {
	url := "http://" + address + "/readyz"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	if err = answer.Body.Close(); err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s", url, answer.Status)
	}
	return nil
}
