package rig

import (
	"path/filepath"
	"slices"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/operator"
)

// StartAgent starts this node's agent. Extra arguments come last, so they win.
func (r *Rig) StartAgent(t T, extra ...string) *operator.Process {
	t.Helper()
	args := []string{
		"agent", "--kubeconfig=" + r.Kubeconfig(t, operator.Agent), "--node-name=" + r.Node,
		"--manifest-dir=" + r.ManifestDir, "--state-dir=" + r.StateDir, "--kcm-url=" + r.KCMURL, "--min-interval=1ms",
	}
	return r.start(t, operator.Agent, append(args, extra...))
}

// StartController starts the controller. Extra arguments come last, so they win.
func (r *Rig) StartController(t T, extra ...string) *operator.Process {
	t.Helper()
	args := []string{
		"controller", "--kubeconfig=" + r.Kubeconfig(t, operator.Controller), "--namespace=" + operator.Namespace,
		"--metrics-bind-address=0", "--health-probe-bind-address=0",
	}
	return r.start(t, operator.Controller, append(args, extra...))
}

func (r *Rig) start(t T, account string, args []string) *operator.Process {
	t.Helper()
	p, err := operator.Start(t.Context(), r.environment.Operator(t), filepath.Join(r.LogDir, account+".log"), args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

// Kubeconfig returns the path of a kubeconfig with the credentials that the kubelet would give a Pod of the account on
// this node.
func (r *Rig) Kubeconfig(t T, account string) string {
	t.Helper()
	if path := r.kubeconfigs[account]; path != "" {
		return path
	}
	token, err := operator.Credentials(t.Context(), r.Cluster.Client, account, r.Node)
	if err != nil {
		t.Fatal(err)
	}
	if r.kubeconfigs[account], err = r.Cluster.KubeconfigFor(r.Node+"-"+account, token); err != nil {
		t.Fatal(err)
	}
	return r.kubeconfigs[account]
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
