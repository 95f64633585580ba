package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// aSpec describes an image of two files, one of them somebody's own.
func aSpec(t *testing.T, touched time.Time) Spec {
	t.Helper()
	source := filepath.Join(t.TempDir(), "binary")
	if err := os.WriteFile(source, bytes.Repeat([]byte("static"), 10_000), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(source, touched, touched); err != nil {
		t.Fatal(err)
	}
	return Spec{
		Reference: "lab.local/thing:v1", Architecture: "arm64", User: "65532:65532",
		Files: []File{
			{Path: "/usr/bin/thing", Source: source, Mode: 0o755},
			{Path: "/etc/thing", Source: source, Mode: 0o600, UID: 7, GID: 8},
		},
		Entrypoint: []string{"/usr/bin/thing"}, Env: []string{"A=b"}, Labels: map[string]string{"z": "1", "a": "2"},
	}
}

func TestTwoBuildsMakeOneImage(t *testing.T) {
	for name, uncompressed := range map[string]bool{"compressed": false, "uncompressed": true} {
		t.Run(name, func(t *testing.T) {
			var digests []string
			var files [][]byte
			for _, touched := range []time.Time{time.Unix(1_000_000, 0), time.Unix(2_000_000, 0)} {
				file := filepath.Join(t.TempDir(), "image.tar")
				s := aSpec(t, touched)
				s.Uncompressed = uncompressed
				digest, err := Write(file, s)
				if err != nil {
					t.Fatalf("Write: %v", err)
				}
				raw, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				digests, files = append(digests, digest), append(files, raw)
			}
			if digests[0] != digests[1] || !bytes.Equal(files[0], files[1]) {
				t.Errorf("digests %s, files equal: %t", digests, bytes.Equal(files[0], files[1]))
			}
		})
	}
}

func TestAnImageHoldsWhatItsDescriptionSays(t *testing.T) {
	file := filepath.Join(t.TempDir(), "image.tar")
	s := aSpec(t, time.Unix(1_000_000, 0))
	if _, err := Write(file, s); err != nil {
		t.Fatalf("Write: %v", err)
	}
	img, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		t.Fatalf("read it back: %v", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	got := Spec{
		Reference: s.Reference, Files: s.Files, Architecture: config.Architecture, User: config.Config.User,
		Entrypoint: config.Config.Entrypoint, Env: config.Config.Env, Labels: config.Config.Labels,
	}
	if diff := cmp.Diff(s, got); diff != "" || config.OS != "linux" {
		t.Errorf("OS %s; configuration differs (-want +got):\n%s", config.OS, diff)
	}
	want := []string{
		"etc 755 0:0 1970", "etc/thing 600 7:8 1970", "usr 755 0:0 1970", "usr/bin 755 0:0 1970", "usr/bin/thing 755 0:0 1970",
	}
	if diff := cmp.Diff(want, contents(t, mutate.Extract(img))); diff != "" {
		t.Errorf("contents differ (-want +got):\n%s", diff)
	}
}

func contents(t *testing.T, layer io.ReadCloser) []string {
	t.Helper()
	defer func() { _ = layer.Close() }()
	var list []string
	archive := tar.NewReader(layer)
	for {
		h, err := archive.Next()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprintf("%s %o %d:%d %d", h.Name, h.Mode, h.Uid, h.Gid, h.ModTime.UTC().Year()))
	}
}

func TestAMissingBinaryIsNamedAndLeavesNoFile(t *testing.T) {
	dir := t.TempDir()
	s := aSpec(t, time.Unix(1_000_000, 0))
	s.Files[0].Source = filepath.Join(dir, "absent")
	if _, err := Write(filepath.Join(dir, "image.tar"), s); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Write = %v, want an error that the file does not exist", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
