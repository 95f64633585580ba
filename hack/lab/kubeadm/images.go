package kubeadm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/controlplane"
	"github.com/endpointsync/endpoint-sync-operator/hack/lab/image"
)

// module is where the lab's own programs are.
const module = "github.com/endpointsync/endpoint-sync-operator/hack/lab"

// Program builds one of the lab's own programs, given by its directory below hack/lab, static, into a directory and returns
// its path. The caller's working directory is in the lab's module.
func Program(ctx context.Context, dir, pkg string) (string, error) {
	path := filepath.Join(dir, filepath.Base(pkg))
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", path, module+"/"+pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s (in the directory hack/lab): %w\n%s", pkg, err, out)
	}
	return path, nil
}

// writeImages makes the images that a control-plane node runs and returns their tarballs.
func writeImages(ctx context.Context, dir, pause string, b controlplane.NodeBinaries) ([]string, error) {
	version := ":" + controlplane.KubernetesVersion
	images := []struct{ reference, binary string }{
		{sandboxImage, pause},
		{repository + "/etcd:" + etcdTag, b.Etcd},
		{repository + "/kube-apiserver" + version, b.APIServer},
		{repository + "/kube-controller-manager" + version, b.ControllerManager},
		{repository + "/kube-scheduler" + version, b.Scheduler},
	}
	tarballs := make([]string, len(images))
	group, ctx := errgroup.WithContext(ctx)
	for i, one := range images {
		name := filepath.Base(one.binary)
		tarballs[i] = filepath.Join(dir, name+".tar")
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			inside := "/usr/local/bin/" + name
			_, err := image.Write(tarballs[i], image.Spec{
				Reference: one.reference, Architecture: runtime.GOARCH,
				Files:        []image.File{{Path: inside, Source: one.binary, Mode: 0o755}},
				Entrypoint:   []string{inside},
				Env:          []string{"PATH=/usr/local/bin"},
				Uncompressed: true,
			})
			return err
		})
	}
	return tarballs, group.Wait()
}
