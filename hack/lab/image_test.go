package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheImageIsNamedAsConfigDefaultNamesIt(t *testing.T) {
	got, err := imageReference(filepath.Join("..", "..", "config", "default", "kustomization.yaml"))
	if want := "ghcr.io/endpointsync/endpoint-sync-operator:v0.1.0"; err != nil || got != want {
		t.Errorf("imageReference = %q, %v, want %q", got, err, want)
	}
}

func TestAKustomizationWithoutTheImageIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kustomization.yaml")
	if err := os.WriteFile(file, []byte("images: [{name: other, newName: a, newTag: b}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := imageReference(file); err == nil {
		t.Errorf("imageReference = %q, want an error", got)
	}
}
