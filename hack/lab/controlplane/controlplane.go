package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Options are how a control plane is started. The zero value is a good one.
type Options struct {
	// Binaries are what to run; if zero, EnsureBinaries finds or builds them.
	Binaries Binaries

	// Dir holds everything: keys, data, logs. It must be empty or absent and is kept. If "", a temporary directory is
	// made, and removed by Stop.
	Dir string

	// UnsafeNoFsync lets etcd skip fsync. Writes are then faster and more even, and a power cut may lose them.
	UnsafeNoFsync bool

	// APIServerArgs are added to kube-apiserver's, for example "--max-requests-inflight=100".
	APIServerArgs []string

	// AuditPolicy is kube-apiserver's audit policy (audit.k8s.io/v1, YAML). With one, AuditLog is written; nil writes none.
	AuditPolicy []byte

	// Progress receives lines about anything that takes long; nil discards them.
	Progress io.Writer
}

// ControlPlane is a running etcd and kube-apiserver. Its methods may be called from several goroutines.
type ControlPlane struct {
	// Admin is a configuration with all rights (group system:masters) and no client-side rate limit.
	Admin *rest.Config

	// AdminKubeconfig is the path of a kubeconfig with the same rights, and KCMKubeconfig of kube-controller-manager's.
	AdminKubeconfig, KCMKubeconfig string

	// KCMURL is where the kube-controller-manager of KCMManifest serves, for example https://127.0.0.1:20123.
	KCMURL string

	// Dir is the directory that holds everything, and Logs that of the processes' logs, one NAME.log each.
	Dir, Logs string

	// Binaries are what runs, and what KCMManifest's command means.
	Binaries Binaries

	pki      *pki
	ports    ports
	options  Options
	tempDir  bool
	httpPing *http.Client

	mu        sync.Mutex
	etcd      *process
	apiserver *process
}

type ports struct {
	etcdClient, etcdPeer, apiserver, controllerManager int
}

// Grace periods of an orderly end, before the process is killed. The lab's data dies with it.
const (
	etcdGrace      = 5 * time.Second
	apiserverGrace = 5 * time.Second
)

// readyTimeout is how long etcd and kube-apiserver may take to get ready: they take about five seconds on two idle cores.
const readyTimeout = 2 * time.Minute

// Start runs etcd and kube-apiserver on free ports of 127.0.0.1 and returns when kube-apiserver is ready, with its
// bootstrap RBAC roles in place. The context bounds the start only; Stop ends what runs.
func Start(ctx context.Context, o Options) (_ *ControlPlane, err error) {
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if o.Binaries == (Binaries{}) {
		if o.Binaries, err = EnsureBinaries(ctx, o.Progress); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("control plane not ready within %s", readyTimeout))
	defer cancel()
	cp := &ControlPlane{options: o, Binaries: o.Binaries}
	defer func() {
		if err != nil {
			err = errors.Join(err, cp.Stop())
		}
	}()
	if err = cp.prepare(ctx); err != nil {
		return nil, fmt.Errorf("prepare control plane: %w", err)
	}
	if err = cp.startEtcd(ctx); err != nil {
		return nil, err
	}
	if err = cp.StartAPIServer(ctx); err != nil {
		return nil, err
	}
	return cp, nil
}

// prepare makes directories, ports, keys and kubeconfigs.
func (cp *ControlPlane) prepare(ctx context.Context) error {
	if err := cp.makeDirs(); err != nil {
		return err
	}
	if err := cp.writeAuditPolicy(); err != nil {
		return err
	}
	chosen, err := FreePorts(ctx, 4)
	if err != nil {
		return err
	}
	cp.ports = ports{chosen[0], chosen[1], chosen[2], chosen[3]}
	cp.KCMURL = "https://" + address(cp.ports.controllerManager)
	if cp.pki, err = newPKI(filepath.Join(cp.Dir, "pki")); err != nil {
		return err
	}
	if cp.AdminKubeconfig, err = cp.writeKubeconfig("admin", certificateOf(cp.pki.admin)); err != nil {
		return err
	}
	if cp.KCMKubeconfig, err = cp.writeKubeconfig(controllerManagerUser, certificateOf(cp.pki.controllerManager)); err != nil {
		return err
	}
	if cp.Admin, err = clientcmd.BuildConfigFromFlags("", cp.AdminKubeconfig); err != nil {
		return fmt.Errorf("load %s: %w", cp.AdminKubeconfig, err)
	}
	cp.Admin.QPS = -1 // No client-side limit.
	if cp.httpPing, err = rest.HTTPClientFor(cp.Admin); err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	return nil
}

func (cp *ControlPlane) makeDirs() (err error) {
	dir := cp.options.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "endpoint-sync-lab-"); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
		cp.tempDir = true
	}
	if cp.Dir, err = filepath.Abs(dir); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	cp.Logs = filepath.Join(cp.Dir, "logs")
	for _, d := range []string{cp.Dir, cp.Logs, filepath.Join(cp.Dir, "pki")} {
		if err = os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	if _, err = os.Stat(cp.etcdData()); err == nil {
		return fmt.Errorf("%s already holds a control plane: give an empty directory", cp.Dir)
	}
	return nil
}

func (cp *ControlPlane) etcdData() string { return filepath.Join(cp.Dir, "etcd") }

func (cp *ControlPlane) startEtcd(ctx context.Context) error {
	client, peer := "http://"+address(cp.ports.etcdClient), "http://"+address(cp.ports.etcdPeer)
	command := []string{
		cp.Binaries.Etcd,
		"--name=lab",
		"--data-dir=" + cp.etcdData(),
		"--listen-client-urls=" + client,
		"--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=lab=" + peer,
		"--log-level=warn",
	}
	if cp.options.UnsafeNoFsync {
		command = append(command, "--unsafe-no-fsync")
	}
	etcd, err := startProcess("etcd", command, filepath.Join(cp.Logs, "etcd.log"))
	if err != nil {
		return err
	}
	cp.mu.Lock()
	cp.etcd = etcd
	cp.mu.Unlock()
	return etcd.waitUntil(ctx, func(ctx context.Context) error { return get(ctx, http.DefaultClient, client+"/health") })
}

// StartAPIServer starts kube-apiserver where it was, if it does not run, and returns when it is ready.
func (cp *ControlPlane) StartAPIServer(ctx context.Context) error {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	if cp.apiserver == nil || !cp.apiserver.running() {
		var err error
		cp.apiserver, err = startProcess("kube-apiserver", cp.apiserverCommand(), filepath.Join(cp.Logs, "kube-apiserver.log"))
		if err != nil {
			return err
		}
	}
	return cp.apiserver.waitUntil(ctx, func(ctx context.Context) error { return get(ctx, cp.httpPing, cp.Admin.Host+"/readyz") })
}

// apiserverCommand is what kubeadm writes into its manifest, with the lab's addresses and paths.
func (cp *ControlPlane) apiserverCommand() []string {
	pki := cp.pki.path
	command := []string{
		cp.Binaries.APIServer,
		"--advertise-address=" + loopback,
		"--allow-privileged=true",
		"--authorization-mode=Node,RBAC",
		"--bind-address=" + loopback,
		"--client-ca-file=" + pki("ca.crt"),
		"--enable-admission-plugins=NodeRestriction",
		"--enable-bootstrap-token-auth=true",
		"--endpoint-reconciler-type=none", // The Service "kubernetes" may not point to a loopback address.
		"--etcd-servers=http://" + address(cp.ports.etcdClient),
		"--proxy-client-cert-file=" + pki("front-proxy-client.crt"),
		"--proxy-client-key-file=" + pki("front-proxy-client.key"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-client-ca-file=" + pki("front-proxy-ca.crt"),
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--secure-port=" + strconv.Itoa(cp.ports.apiserver),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + pki("sa.pub"),
		"--service-account-signing-key-file=" + pki("sa.key"),
		"--service-cluster-ip-range=10.96.0.0/12",
		"--tls-cert-file=" + pki("apiserver.crt"),
		"--tls-private-key-file=" + pki("apiserver.key"),
	}
	command = append(command, cp.auditArgs()...)
	return append(command, cp.options.APIServerArgs...)
}

// StopAPIServer ends kube-apiserver and keeps its data, for tests of what happens without it.
func (cp *ControlPlane) StopAPIServer() error {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	if cp.apiserver == nil {
		return nil
	}
	return cp.apiserver.stop(apiserverGrace)
}

// PauseEtcd stops etcd from running until ResumeEtcd: the API server then answers no write, and no quorum read.
func (cp *ControlPlane) PauseEtcd() error { return cp.etcd.signal(syscall.SIGSTOP) }

// ResumeEtcd lets a paused etcd go on.
func (cp *ControlPlane) ResumeEtcd() error { return cp.etcd.signal(syscall.SIGCONT) }

// Stop ends both processes, kube-apiserver first, and removes the directory if Start made it. It may be called again.
func (cp *ControlPlane) Stop() error {
	err := cp.StopAPIServer()
	cp.mu.Lock()
	defer cp.mu.Unlock()
	if cp.etcd != nil {
		err = errors.Join(err, cp.etcd.stop(etcdGrace))
	}
	if cp.httpPing != nil {
		cp.httpPing.CloseIdleConnections()
	}
	if cp.tempDir {
		err = errors.Join(err, os.RemoveAll(cp.Dir))
	}
	return err
}

// controllerManagerUser names kube-controller-manager's kubeconfig, as kubeadm does.
const controllerManagerUser = "controller-manager"

// KubeconfigFor writes a kubeconfig NAME.conf with a bearer token and returns its path, for running a component with the
// rights of its own ServiceAccount.
func (cp *ControlPlane) KubeconfigFor(name, token string) (string, error) {
	return cp.writeKubeconfig(name, &clientcmdapi.AuthInfo{Token: token})
}

// ServingCertificate returns the paths of kube-apiserver's certificate and key, for whoever stands in front of it at
// 127.0.0.1: every kubeconfig of this control plane trusts it.
func (cp *ControlPlane) ServingCertificate() (certificate, key string) {
	return cp.pki.path("apiserver.crt"), cp.pki.path("apiserver.key")
}

func certificateOf(pair keyPair) *clientcmdapi.AuthInfo {
	return &clientcmdapi.AuthInfo{ClientCertificateData: pair.cert, ClientKeyData: pair.key}
}

func (cp *ControlPlane) writeKubeconfig(name string, user *clientcmdapi.AuthInfo) (string, error) {
	const cluster = "lab"
	config := clientcmdapi.NewConfig()
	config.Clusters[cluster] = &clientcmdapi.Cluster{
		Server:                   "https://" + address(cp.ports.apiserver),
		CertificateAuthorityData: cp.pki.ca.cert,
	}
	config.AuthInfos[name] = user
	config.Contexts[cluster] = &clientcmdapi.Context{Cluster: cluster, AuthInfo: name}
	config.CurrentContext = cluster
	path := filepath.Join(cp.Dir, name+".conf")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return "", fmt.Errorf("write kubeconfig %s: %w", path, err)
	}
	return path, nil
}

func address(port int) string { return loopback + ":" + strconv.Itoa(port) }

// getTimeout bounds one question to a starting server.
const getTimeout = 2 * time.Second

// get succeeds if the URL answers 200.
func get(ctx context.Context, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, getTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask %s: answered %s", url, response.Status)
	}
	return nil
}
