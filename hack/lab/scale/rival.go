package scale

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	ctrlcache "sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Rival is a usual way to follow what the controller follows.
type Rival string

const (
	// PlainInformers is client-go's informer factory with protobuf and no transform.
	PlainInformers Rival = "plain"
	// DefaultCache is controller-runtime's cache as it is without options.
	DefaultCache Rival = "default-cache"
)

// Hold follows Pods, Services, EndpointSlices, Endpoints, nodes and namespaces until ctx ends; synced is called when all
// are there.
func (r Rival) Hold(ctx context.Context, config *rest.Config, synced func() error) error {
	switch r {
	case PlainInformers:
		return holdInformers(ctx, config, synced)
	case DefaultCache:
		return holdCache(ctx, config, synced)
	}
	return fmt.Errorf("there is no %q to compare with: want %s or %s", r, PlainInformers, DefaultCache)
}

func holdInformers(ctx context.Context, config *rest.Config, synced func() error) error {
	config = rest.CopyConfig(config)
	config.ContentType = protobufType
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	factory := informers.NewSharedInformerFactory(kube, 0)
	core := factory.Core().V1()
	for _, informer := range []cache.SharedIndexInformer{
		core.Pods().Informer(), core.Services().Informer(), core.Endpoints().Informer(), core.Nodes().Informer(),
		core.Namespaces().Informer(), factory.Discovery().V1().EndpointSlices().Informer(),
	} {
		if _, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{}); err != nil {
			return fmt.Errorf("add a handler: %w", err)
		}
	}
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			return fmt.Errorf("sync %s: %w", kind, ctx.Err())
		}
	}
	if err = synced(); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func holdCache(ctx context.Context, config *rest.Config, synced func() error) error {
	all, err := ctrlcache.New(config, ctrlcache.Options{})
	if err != nil {
		return fmt.Errorf("make a cache: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- all.Start(ctx) }()
	for _, kind := range []client.Object{
		&corev1.Pod{}, &corev1.Service{}, &corev1.Endpoints{}, &corev1.Node{}, &corev1.Namespace{}, &discoveryv1.EndpointSlice{},
	} {
		if _, err = all.GetInformer(ctx, kind); err != nil {
			return fmt.Errorf("sync %T: %w", kind, err)
		}
	}
	if err = synced(); err != nil {
		return err
	}
	return <-ended
}
