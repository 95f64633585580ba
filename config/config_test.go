// Package config_test checks the installation manifests as they are rendered, without a cluster: who may do what, how
// the Pods are confined, and what Argo CD and kstatus make of a policy's status.
package config_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

const (
	namespace  = "endpoint-sync-system"
	agent      = "endpoint-sync-agent"
	controller = "endpoint-sync-controller"
)

// render builds a kustomization of this directory, as kubectl apply -k and Argo CD do.
func render(t *testing.T, dir string) []unstructured.Unstructured {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatalf("render config/%s: %v", dir, err)
	}
	stream, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, stream)
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
