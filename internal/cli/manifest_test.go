package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// runManifest runs the command as the root command would and returns what it printed.
func runManifest(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := newManifestCommand()
	cmd.SilenceErrors = true
	var out, messages bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&messages)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	if messages.Len() > 0 {
		t.Errorf("the command wrote to standard error by itself: %s", &messages)
	}
	return out.String(), err
}

// exitStatus returns what the program would exit with.
func exitStatus(err error) int {
	var coded interface{ ExitStatus() int }
	switch {
	case err == nil:
		return 0
	case errors.As(err, &coded):
		return coded.ExitStatus()
	}
	return statusError
}

const manifestFile = "testdata/manifest.yaml"

func TestManifestPrints(t *testing.T) {
	in := string(readFile(t, manifestFile))
	last := "    - --use-service-account-credentials=true\n"
	tests := map[string]struct {
		args []string
		want string
	}{
		"the manifest as it is":   {nil, in},
		"an inserted flag":        {[]string{"--set", "kube-api-qps=50"}, strings.Replace(in, last, last+"    - --kube-api-qps=50\n", 1)},
		"a flag with its dashes":  {[]string{"--set=--kube-api-qps=50"}, strings.Replace(in, last, last+"    - --kube-api-qps=50\n", 1)},
		"a replaced flag":         {[]string{"--set", "kube-api-burst=60"}, strings.Replace(in, "burst=30", "burst=60", 1)},
		"a removed flag":          {[]string{"--unset", "kube-api-burst"}, strings.Replace(in, "    - --kube-api-burst=30\n", "", 1)},
		"nothing for no change":   {[]string{"--set", "kube-api-burst=30", "-o", "diff"}, ""},
		"a diff of a replacement": {[]string{"--set", "kube-api-burst=60", "-o", "diff"}, string(readFile(t, "testdata/manifest.diff"))},
		"several flags in canonical order": {
			[]string{"--set", "concurrent-endpoint-syncs=10", "--set", "kube-api-qps=20.5"},
			strings.Replace(in, last, last+"    - --kube-api-qps=20.5\n    - --concurrent-endpoint-syncs=10\n", 1),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := runManifest(t, append([]string{"--file", manifestFile}, tt.args...)...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("manifest %v (-want +got):\n%s", tt.args, diff)
			}
		})
	}
}

func TestManifestRefuses(t *testing.T) {
	dir := t.TempDir()
	shell := filepath.Join(dir, "shell.yaml")
	writeFile(t, shell, "apiVersion: v1\nkind: Pod\nmetadata: {name: k}\nspec:\n  containers:\n  - command: [sh, -c, kube-controller-manager]\n")
	large := filepath.Join(dir, "large.yaml")
	writeFile(t, large, strings.Repeat("#", 1<<20))
	good := []string{"--file", manifestFile}
	tests := map[string]struct {
		args   []string
		status int
		want   []string // parts of the message
	}{
		"a flag that is not ours":      {append(good, "--set", "v=9"), 3, []string{`"v"`, "kube-api-qps", "concurrent-service-endpoint-syncs"}},
		"an unset that is not ours":    {append(good, "--unset", "v"), 3, []string{`"v"`, "kube-api-qps"}},
		"a value that is no number":    {append(good, "--set", "kube-api-qps=fast"), 3, []string{"kube-api-qps", "fast", "1 to 1000"}},
		"a value out of its range":     {append(good, "--set", "concurrent-endpoint-syncs=51"), 3, []string{"concurrent-endpoint-syncs", "51", "1 to 50"}},
		"zero":                         {append(good, "--set", "kube-api-burst=0"), 3, []string{"kube-api-burst", `"0"`, "1 to 2000"}},
		"an empty value":               {append(good, "--set", "kube-api-qps="), 3, []string{"kube-api-qps", "1 to 1000"}},
		"no value":                     {append(good, "--set", "kube-api-qps"), 3, []string{"kube-api-qps", "NAME=VALUE"}},
		"an empty setting":             {append(good, "--set", ""), 3, []string{"NAME=VALUE"}},
		"a line break in a value":      {append(good, "--set", "kube-api-qps=50\n    - --profiling"), 3, []string{"kube-api-qps", "1 to 1000"}},
		"a flag set twice":             {append(good, "--set", "kube-api-qps=5", "--set", "kube-api-qps=6"), 3, []string{"kube-api-qps", "twice"}},
		"set and unset":                {append(good, "--set", "kube-api-qps=5", "--unset", "kube-api-qps"), 3, []string{"kube-api-qps", "twice"}},
		"an unknown option":            {append(good, "--wat"), 3, []string{"--wat"}},
		"a stray argument":             {append(good, "kube-api-qps=50"), 3, []string{"kube-api-qps=50", "--file"}},
		"an unknown output":            {append(good, "-o", "json"), 3, []string{"--output", "json", "manifest or diff"}},
		"no file":                      {[]string{"--set", "kube-api-qps=50"}, 3, []string{"--file"}},
		"a shell around the program":   {[]string{"--file", shell, "--set", "kube-api-qps=50"}, 3, []string{"UnsupportedManifest", "shell", shell}},
		"a manifest that is too large": {[]string{"--file", large}, 3, []string{"UnsupportedManifest", large}},
		"a directory":                  {[]string{"--file", dir}, 3, []string{dir, "regular"}},
		"a device":                     {[]string{"--file", "/dev/zero"}, 3, []string{"/dev/zero", "regular"}},
		"a file that is not there":     {[]string{"--file", filepath.Join(dir, "none")}, 1, []string{"none"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			out, err := runManifest(t, tt.args...)
			if out != "" || exitStatus(err) != tt.status {
				t.Fatalf("manifest %q printed %q, status %d (%v), want status %d", tt.args, out, exitStatus(err), err, tt.status)
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("manifest %q: %q does not say %q", tt.args, err, part)
				}
			}
		})
	}
}

func TestManifestChangesNoFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "kube-controller-manager.yaml")
	before := readFile(t, manifestFile)
	writeFile(t, path, string(before))
	long := time.Unix(1_000_000_000, 0)
	if err := errors.Join(os.Chtimes(path, long, long), os.Chmod(path, 0o400)); err != nil {
		t.Fatal(err)
	}
	info := stat(t, path)
	for _, args := range [][]string{{"--set", "kube-api-qps=50"}, {"--unset", "kube-api-burst", "-o", "diff"}} {
		if _, err := runManifest(t, append(args, "--file", path)...); err != nil {
			t.Fatal(err)
		}
	}
	now := stat(t, path)
	if !os.SameFile(info, now) || !now.ModTime().Equal(long) || !bytes.Equal(readFile(t, path), before) {
		t.Errorf("the file changed: %v, now %v", info, now)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v (%v), want the manifest alone", entries, err)
	}
}

func stat(t *testing.T, path string) os.FileInfo {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
