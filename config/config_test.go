// Package config_test checks the installation manifests as they are rendered, without a cluster: who may do what, how
// the Pods are confined, and what Argo CD and kstatus make of a policy's status.
package config_test

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
)

const (
	namespace  = "endpoint-sync-system"
	agent      = "endpoint-sync-agent"
	controller = "endpoint-sync-controller"
)

// render builds a kustomization of this directory, as kubectl apply -k and Argo CD do.
func render(t *testing.T, dir string) []unstructured.Unstructured {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "tool", "-modfile=hack/tools/go.mod", "kustomize", "build",
		filepath.Join("config", dir))
	command.Dir = ".."
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("kustomize build config/%s: %v\n%s", dir, err, stderr.String())
	}
	return decode(t, out)
}

func decode(t *testing.T, stream []byte) []unstructured.Unstructured {
	t.Helper()
	var objects []unstructured.Unstructured
	documents := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(stream), 4096)
	for {
		var object unstructured.Unstructured
		err := documents.Decode(&object)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, object)
	}
}

// find returns the object of that kind and name, converted to T.
func find[T any](t *testing.T, objects []unstructured.Unstructured, kind, name string) T {
	t.Helper()
	var typed T
	for _, object := range objects {
		if object.GetKind() != kind || object.GetName() != name {
			continue
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, &typed, true); err != nil {
			t.Fatalf("%s %s: %v", kind, name, err)
		}
		return typed
	}
	t.Fatalf("%s %s is not rendered", kind, name)
	return typed
}
