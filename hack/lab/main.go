package main

import (
	_ "k8s.io/api/core/v1"
	_ "k8s.io/client-go/kubernetes"
	_ "k8s.io/client-go/tools/cache"
	_ "sigs.k8s.io/kustomize/api/krusty"
)

func main() {}
