package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/endpointsync/endpoint-sync-operator/internal/manifest"
)

// manifestOptions are the flags of the manifest command.
type manifestOptions struct {
	file   string
	set    []string
	unset  []string
	output string
}

func newManifestCommand() *cobra.Command {
	var opts manifestOptions
	cmd := &cobra.Command{
		Use:   "manifest --file FILE [--set NAME=VALUE]... [--unset NAME]...",
		Short: "Print a kube-controller-manager manifest with flags edited; change no file",
		Long: `Print the static Pod manifest of kube-controller-manager with the given flags set or taken out, every other byte as
it was. The file is only read. A manifest or a setting that cannot be handled safely is refused with exit status 3 and
a reason.`,
		Example: `  endpoint-sync-operator manifest --file /etc/kubernetes/manifests/kube-controller-manager.yaml \
    --set kube-api-qps=100 --set kube-api-burst=200 -o diff`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return refuse(fmt.Errorf("unexpected argument %q: name the manifest with --file", args[0]))
			}
			return nil
		},
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return opts.run(cmd.OutOrStdout())
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return refuse(err) })
	flags := cmd.Flags()
	flags.StringVarP(&opts.file, "file", "f", "", "the manifest to read; required")
	flags.StringArrayVar(&opts.set, "set", nil, "a flag and its value, NAME=VALUE; may be repeated")
	flags.StringArrayVar(&opts.unset, "unset", nil, "a flag to take out; may be repeated")
	flags.StringVarP(&opts.output, "output", "o", "manifest", "what to print: manifest or diff")
	return cmd
}

func (o manifestOptions) run(out io.Writer) error {
	set, err := o.settings()
	if err != nil {
		return refuse(err)
	}
	before, err := readManifest(o.file)
	if err != nil {
		return err
	}
	after, err := manifest.Edit(before, set)
	if _, refused := errors.AsType[*manifest.RefusedError](err); refused {
		return refuse(fmt.Errorf("edit %s: %w", o.file, err))
	}
	if err != nil {
		return fmt.Errorf("edit %s: %w", o.file, err)
	}
	if o.output == "diff" {
		after = []byte(manifest.Diff(o.file, before, after))
	}
	if _, err = out.Write(after); err != nil {
		return fmt.Errorf("print the manifest: %w", err)
	}
	return nil
}

// settings checks what does not need the manifest; values are the editor's to judge.
func (o manifestOptions) settings() ([]manifest.Setting, error) {
	if o.file == "" {
		return nil, errors.New("which manifest to read is missing: give --file")
	}
	if o.output != "manifest" && o.output != "diff" {
		return nil, fmt.Errorf("--output=%q must be manifest or diff", o.output)
	}
	var set []manifest.Setting
	for _, s := range o.set {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return nil, fmt.Errorf("--set %q must be NAME=VALUE, such as kube-api-qps=50", s)
		}
		set = append(set, manifest.Setting{Name: strings.TrimPrefix(name, "--"), Value: value})
	}
	for _, name := range o.unset {
		set = append(set, manifest.Setting{Name: strings.TrimPrefix(name, "--"), Absent: true})
	}
	return set, nil
}

// readManifest reads a regular file, and of it no more than is needed to see that it is too large.
func readManifest(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, refuse(fmt.Errorf("read manifest %s: it is not a regular file", path))
	}
	file, err := os.Open(filepath.Clean(path)) // for reading only
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(file, manifest.MaxBytes+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	return text, nil
}

func refuse(err error) error { return &exitError{status: statusRefused, err: err} }
