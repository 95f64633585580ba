package e2e

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/fsnotify/fsnotify"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/kubeadm"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/machine"
)

const (
	// operatorProcess is the name of the operator's program, controller and agent alike.
	operatorProcess = "endpoint-sync-operator"
	// outage is how long a kubelet stands still or a node is cut off while nothing is asked of it.
	outage = 15 * time.Second
	// comeBack bounds how long everything takes to be well after a fault: Pods that crashed wait for their back-off.
	comeBack = 4 * time.Minute
)

// silence sees every write in the nodes' manifests directories.
type silence struct {
	notify *fsnotify.Watcher
	done   sync.WaitGroup

	mu     sync.Mutex
	broken []string
}

// listen begins to watch all manifests directories.
func listen(nodes []*kubeadm.Node) (*silence, error) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch manifests directories: %w", err)
	}
	for _, n := range nodes {
		if err = notify.Add(n.Manifests()); err != nil {
			return nil, errors.Join(fmt.Errorf("watch the manifests directory of %s: %w", n.Name, err), notify.Close())
		}
	}
	s := &silence{notify: notify}
	s.done.Go(func() {
		for e := range notify.Events {
			s.mu.Lock()
			s.broken = append(s.broken, fmt.Sprintf("%s %s", e.Op, filepath.Base(e.Name)))
			s.mu.Unlock()
		}
	})
	return s, nil
}

// end stops watching and says what was written.
func (s *silence) end() error {
	err := s.notify.Close()
	s.done.Wait()
	if len(s.broken) > 0 {
		err = errors.Join(err, fmt.Errorf("manifests directories were written to: %s", strings.Join(s.broken, ", ")))
	}
	return err
}

// observeWritesNothing has everything fail that may, in the middle of an incident, while the policy observes.
func (s *scene) observeWritesNothing(ctx context.Context) (err error) {
	nodes := s.cluster.Nodes
	if err = s.applyPolicy(ctx, s.policySpec(v1alpha1.ModeObserve)); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, s.applyPolicy(context.WithoutCancel(ctx), s.policySpec(v1alpha1.ModeEnforce)))
	}()
	quiet, err := listen(nodes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, quiet.end()) }()
	if err = s.flip(ctx); err != nil {
		return err
	}
	for _, fault := range []struct {
		what string
		run  func() error
	}{
		{"every controller and agent is killed", func() error { return s.killOperator() }},
		{"a kubelet stands still", func() error { return s.stall(ctx, nodes[1], outage) }},
		{"a node is cut off", func() error { return s.cutOff(ctx, nodes[2], outage) }},
	} {
		s.sayf("while the policy observes: %s", fault.what)
		if err = fault.run(); err != nil {
			return fmt.Errorf("%s: %w", fault.what, err)
		}
	}
	if err = s.await(ctx, comeBack, "the operator to be well again", func(ctx context.Context) error {
		return ready(ctx, s.kube, len(nodes))
	}); err != nil {
		return err
	}
	if _, err = s.atRest(ctx, comeBack); err != nil {
		return err
	}
	return s.work.WaitConverged(ctx)
}

// killOperator kills all processes of the operator, as kill -9 does.
func (s *scene) killOperator() error {
	for _, n := range s.cluster.Nodes {
		if err := n.SignalAll(operatorProcess, syscall.SIGKILL); err != nil {
			return err
		}
	}
	return nil
}

// stall stops a kubelet for a while.
func (s *scene) stall(ctx context.Context, n *kubeadm.Node, d time.Duration) error {
	if err := n.SignalAll(machine.Kubelet, syscall.SIGSTOP); err != nil {
		return err
	}
	return errors.Join(s.sleep(ctx, d), n.SignalAll(machine.Kubelet, syscall.SIGCONT))
}

// cutOff isolates a node for a while.
func (s *scene) cutOff(ctx context.Context, n *kubeadm.Node, d time.Duration) error {
	if err := n.Isolate(ctx); err != nil {
		return err
	}
	return errors.Join(s.sleep(ctx, d), n.Heal(context.WithoutCancel(ctx)))
}
