package main

// Imports of code that is about to come, so that go mod tidy keeps them.
import (
	_ "github.com/guptarohit/asciigraph"
	_ "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	_ "sigs.k8s.io/kustomize/api/krusty"

	_ "github.com/endpointsync/endpoint-sync-operator/api/v1alpha1" // Keeps the root module required.
)
