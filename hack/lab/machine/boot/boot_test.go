package boot

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestADescriptionIsReadAsItWasWritten(t *testing.T) {
	want := Spec{
		Hostname: "cp1", Cgroups: []string{"/a"}, Overlays: []Overlay{{"/etc", "/u", "/w"}}, Binds: []Bind{{"/x", "/y"}},
		Files: map[string]string{"/etc/hosts": "1.2.3.4 a\n"}, Links: map[string]string{"/a": "/b"}, Masks: []Bind{{"/m", "/n"}},
		Sysctls: map[string]string{"net.ipv4.ip_forward": "1"}, Socket: "/s",
		Units: []Unit{{Name: "u", Command: []string{"a", "b c"}, Env: []string{"X=y"}, Log: "/l", Needs: [][]string{{"/f", "/g"}}}},
	}
	file := filepath.Join(t.TempDir(), "spec")
	if err := want.Write(file); err != nil {
		t.Fatalf("Write: %v", err)
	}
	got, err := Read(file)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("Read: %v; differs (-want +got):\n%s", err, diff)
	}
}

func TestADescriptionThatIsNoneIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "spec")
	if _, err := Read(file); err == nil {
		t.Error("an absent file was read")
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(file); err == nil {
		t.Error("half a file was read")
	}
}
