package show

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/operator"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/stage"
)

// startOperator installs the operator and returns when its controller measures and its agent has reported.
func (s *scene) startOperator(ctx context.Context) error {
	if err := operator.Install(ctx, s.CP.Admin, filepath.Join(s.Config, "default")); err != nil {
		return err
	}
	probes, err := controlplane.FreeAddresses(ctx, 1)
	if err != nil {
		return err
	}
	for _, p := range []struct {
		account string
		args    []string
	}{
		{operator.Controller, []string{
			"controller", "--namespace=" + operator.Namespace, "--metrics-bind-address=0", "--health-probe-bind-address=" + probes[0],
		}},
		{operator.Agent, []string{
			"agent", "--node-name=" + s.Node(), "--manifest-dir=" + s.ManifestDir(), "--manifest-name=" + stage.ManifestName,
			"--state-dir=" + filepath.Join(s.CP.Dir, "agent-state"), "--kcm-url=" + s.CP.KCMURL,
		}},
	} {
		if err := s.startProcess(ctx, p.account, p.args); err != nil {
			return err
		}
	}
	if err := s.waitFor(ctx, "the controller to measure", func(ctx context.Context) (bool, error) {
		return operator.Ready(ctx, probes[0]) == nil, nil
	}); err != nil {
		return err
	}
	return s.waitFor(ctx, "the agent's first report", func(ctx context.Context) (bool, error) {
		var node v1alpha1.EndpointSyncNode
		err := s.objects.Get(ctx, client.ObjectKey{Name: s.Node()}, &node)
		return err == nil && node.Status.Leader != nil && *node.Status.Leader && node.Status.Running.KubeAPIQPS > 0, nil
	})
}

func (s *scene) startProcess(ctx context.Context, account string, args []string) error {
	token, err := operator.Credentials(ctx, s.Kube, account, s.Node())
	if err != nil {
		return err
	}
	kubeconfig, err := s.CP.KubeconfigFor(account, token)
	if err != nil {
		return fmt.Errorf("write a kubeconfig for %s: %w", account, err)
	}
	log := filepath.Join(s.Out, account+".log")
	p, err := operator.Start(ctx, s.Operator, log, append(args, "--kubeconfig="+kubeconfig)...)
	if err != nil {
		return err
	}
	s.Defer(p.Stop)
	s.watchdog = append(s.watchdog, func() error {
		select {
		case <-p.Ended():
			return fmt.Errorf("%s has ended; see %s", account, log)
		default:
			return nil
		}
	})
	return nil
}

// alive fails if a process that must run has ended.
func (s *scene) alive() error {
	var errs []error
	for _, check := range s.watchdog {
		errs = append(errs, check())
	}
	return errors.Join(errs...)
}
