package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/image"
)

// operatorName names the operator's binary, and its image in config/.
const operatorName = "endpoint-sync-operator"

// imageOptions are the flags of "lab image".
type imageOptions struct {
	root, out, arch string
}

func newImageCommand() *cobra.Command {
	var o imageOptions
	cmd := &cobra.Command{
		Use:   "image",
		Short: "Build the operator and its container image, a tarball under the name that config/default uses, and print its digest",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return operatorImage(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&o.root, "root", "../..", "the operator's source tree")
	cmd.Flags().StringVar(&o.out, "out", "../../bin", "directory for the tarball")
	cmd.Flags().StringVar(&o.arch, "arch", runtime.GOARCH, "architecture: amd64 or arm64")
	return cmd
}

// operatorImage writes OUT/endpoint-sync-operator-linux-ARCH.tar. The same source makes the same image everywhere.
func operatorImage(ctx context.Context, o imageOptions, out io.Writer) (err error) {
	reference, err := imageReference(filepath.Join(o.root, "config", "default", "kustomization.yaml"))
	if err != nil {
		return err
	}
	temp, err := os.MkdirTemp("", operatorName+"-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(temp) }()
	binary := filepath.Join(temp, operatorName)
	if err = buildOperator(ctx, o, binary); err != nil {
		return err
	}
	if err = os.MkdirAll(o.out, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	_, version, _ := strings.Cut(filepath.Base(reference), ":")
	file := filepath.Join(o.out, operatorName+"-linux-"+o.arch+".tar")
	digest, err := image.Write(file, image.Spec{
		Reference: reference, Architecture: o.arch,
		Files:      []image.File{{Path: "/" + operatorName, Source: binary, Mode: 0o755}},
		Entrypoint: []string{"/" + operatorName},
		User:       "65532:65532", // Nobody in particular, as distroless images have it; the agent's manifest asks for root.
		Labels: map[string]string{
			"org.opencontainers.image.licenses": "Apache-2.0",
			"org.opencontainers.image.source":   "https://github.com/endpointsync/endpoint-sync-operator",
			"org.opencontainers.image.title":    operatorName,
			"org.opencontainers.image.version":  version,
		},
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\n%s@%s\n", file, reference, digest)
	return err
}

// imageReference is what a kustomization replaces the operator's image by.
func imageReference(kustomization string) (string, error) {
	text, err := os.ReadFile(filepath.Clean(kustomization))
	if err != nil {
		return "", fmt.Errorf("find the image's name: %w", err)
	}
	var k types.Kustomization
	if err = yaml.Unmarshal(text, &k); err != nil {
		return "", fmt.Errorf("find the image's name in %s: %w", kustomization, err)
	}
	for _, i := range k.Images {
		if i.Name == operatorName && i.NewName != "" && i.NewTag != "" {
			return i.NewName + ":" + i.NewTag, nil
		}
	}
	return "", fmt.Errorf("find the image's name: %s gives none for %s", kustomization, operatorName)
}

// buildOperator builds a static binary that depends on its source alone, not on where and with which settings it is made.
func buildOperator(ctx context.Context, o imageOptions, binary string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", binary, ".")
	cmd.Dir = o.root
	cmd.Env = append(os.Environ(),
		"CGO_ENABLED=0", "GOOS=linux", "GOARCH="+o.arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the operator for linux/%s: %w\n%s", o.arch, err, out)
	}
	return nil
}
