package controlplane

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

func startForTest(t *testing.T, o Options) *ControlPlane {
	t.Helper()
	o.UnsafeNoFsync = true
	o.Progress = t.Output()
	cp, err := Start(t.Context(), o)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() {
		if err := cp.Stop(); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
	return cp
}

func TestStartServesTheAPIAndStopLeavesNothing(t *testing.T) {
	cp := startForTest(t, Options{})
	client, err := kubernetes.NewForConfig(cp.Admin)
	if err != nil {
		t.Fatal(err)
	}
	version, err := client.Discovery().ServerVersion()
	if err != nil {
		t.Fatalf("ServerVersion: %v", err)
	}
	if version.GitVersion != KubernetesVersion {
		t.Errorf("server version = %s, want %s", version.GitVersion, KubernetesVersion)
	}
	if _, err = client.RbacV1().ClusterRoles().Get(t.Context(), "system:kube-controller-manager", metav1.GetOptions{}); err != nil {
		t.Errorf("RBAC bootstrap is not there when Start returns: %v", err)
	}

	t.Run("a stopped API server comes back with its data", func(t *testing.T) {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}
		if _, err := client.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := cp.StopAPIServer(); err != nil {
			t.Fatalf("StopAPIServer: %v", err)
		}
		if err := get(t.Context(), http.DefaultClient, cp.Admin.Host+"/readyz"); err == nil {
			t.Error("the API server answers after StopAPIServer")
		}
		if err := cp.StartAPIServer(t.Context()); err != nil {
			t.Fatalf("StartAPIServer: %v", err)
		}
		if _, err := client.CoreV1().Namespaces().Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
			t.Errorf("get after restart: %v", err)
		}
	})

	t.Run("a token's kubeconfig has that token's rights and no more", func(t *testing.T) {
		path, err := cp.KubeconfigFor("nobody", "not-a-token")
		if err != nil {
			t.Fatalf("KubeconfigFor: %v", err)
		}
		config, err := clientcmd.BuildConfigFromFlags("", path)
		if err != nil {
			t.Fatal(err)
		}
		stranger, err := kubernetes.NewForConfig(config)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = stranger.CoreV1().Namespaces().List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
			t.Errorf("list with an invalid token: %v, want Unauthorized", err)
		}
	})

	dir, etcd := cp.Dir, address(cp.ports.etcdClient)
	if err := cp.Stop(); err != nil {
		t.Fatalf("Stop: %v", err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the temporary directory is still there: %v", err)
	}
	for _, server := range []string{etcd, strings.TrimPrefix(cp.Admin.Host, "https://")} {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", server)
		if err != nil {
			t.Errorf("%s is still taken after Stop: %v", server, err)
			continue
		}
		_ = listener.Close()
	}
}

func TestKCMManifestIsWhatKubeadmWrites(t *testing.T) {
	cp := &ControlPlane{Dir: "/lab", pki: &pki{dir: "/lab/pki"}, ports: ports{controllerManager: 20257}}
	raw, err := cp.KCMManifest()
	if err != nil {
		t.Fatalf("KCMManifest: %v", err)
	}
	var pod corev1.Pod
	if err := yaml.UnmarshalStrict(raw, &pod); err != nil {
		t.Fatalf("manifest is no Pod: %v\n%s", err, raw)
	}
	if got := pod.Spec.Containers[0].Command[0]; got != "kube-controller-manager" {
		t.Errorf("command[0] = %q, want kube-controller-manager", got)
	}
	for _, flag := range []string{"--kube-api-qps", "--kube-api-burst", "--concurrent-"} {
		if bytes.Contains(raw, []byte(flag)) {
			t.Errorf("the manifest has %s, which kubeadm does not write", flag)
		}
	}
	if !bytes.Contains(raw, fmt.Appendf(nil, "--secure-port=%d", cp.ports.controllerManager)) {
		t.Errorf("the manifest lacks the port %d:\n%s", cp.ports.controllerManager, raw)
	}
}

func TestVersionsAreThoseOfTheModuleFile(t *testing.T) {
	for _, line := range []string{"k8s.io/kubernetes " + KubernetesVersion, "go.etcd.io/etcd/server/v3 " + EtcdVersion} {
		if !bytes.Contains(binariesMod, []byte(line)) {
			t.Errorf("binaries.mod does not have %q", line)
		}
	}
}
