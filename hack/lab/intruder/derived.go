package intruder

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/operator"
)

// marker names what the raid makes, and stands in whatever it tries to write.
const marker = "endpoint-sync-intruder"

// The kinds of patches.
const (
	jsonPatch = string(types.JSONPatchType)
	merge     = string(types.MergePatchType)
	strategic = string(types.StrategicMergePatchType)
	apply     = string(types.ApplyYAMLPatchType)
)

const (
	// dryRun makes a call that succeeds change nothing.
	dryRun = "dryRun=" + metav1.DryRunAll
	// briefly ends a watch that was let in, after a second.
	briefly = "watch=true&timeoutSeconds=1"
	// forcibly lets a server-side apply win.
	forcibly = "fieldManager=" + marker + "&force=true"
)

// document is an object, or a part of one, in JSON.
type document = map[string]any

// text is a body in JSON.
func text(format string, args ...any) json.RawMessage { return fmt.Appendf(nil, format, args...) }

// parsed is the document that a text in JSON stands for.
func parsed(format string, args ...any) document {
	var d document
	if err := json.Unmarshal(text(format, args...), &d); err != nil {
		panic(err) // All texts are in this package.
	}
	return d
}

// namespaces are where the raid looks: that of the control plane, that of the operator, and any other.
func namespaces() []string {
	return []string{metav1.NamespaceSystem, operator.Namespace, metav1.NamespaceDefault}
}

// resource is one that the API server serves, or a subresource ("pods/exec").
type resource struct {
	metav1.APIResource

	// root is the path of its group and version.
	root schema.GroupVersion
}

// discover returns every resource in its preferred version: rights know no versions.
func (r *raid) discover() (map[string]resource, error) {
	_, lists, err := r.kube.Discovery().ServerGroupsAndResources()
	if err != nil {
		return nil, fmt.Errorf("ask what is served: %w", err)
	}
	served := map[string]resource{}
	for _, list := range lists {
		root, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, fmt.Errorf("ask what is served: %w", err)
		}
		for _, one := range list.APIResources {
			key := root.Group + "/" + one.Name
			if _, known := served[key]; !known {
				served[key] = resource{one, root}
			}
		}
	}
	return served, nil
}

// derived are all verbs on all resources, and all paths that are none.
func (r *raid) derived(ctx context.Context) ([]call, error) {
	calls, err := r.paths(ctx)
	if err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(r.served)) {
		s := r.served[key]
		if !s.Namespaced {
			calls = append(calls, r.verbs(s, "")...)
			continue
		}
		for _, namespace := range namespaces() {
			calls = append(calls, r.verbs(s, namespace)...)
		}
		if !strings.Contains(s.Name, "/") {
			everywhere := s.collection("")
			calls = append(calls, call{method: http.MethodGet, path: everywhere}, call{method: http.MethodGet, path: with(everywhere, briefly)})
		}
	}
	return calls, nil
}

// collection is the path of a resource's objects.
func (s resource) collection(namespace string) string {
	path := "/apis/" + s.root.String()
	if s.root.Group == "" {
		path = "/api/" + s.root.Version
	}
	if namespace != "" {
		path += "/namespaces/" + namespace
	}
	main, _, _ := strings.Cut(s.Name, "/")
	return path + "/" + main
}

// item is the path of an object, or of a part of it.
func (s resource) item(namespace, name string) string {
	path := s.collection(namespace) + "/" + name
	if _, part, found := strings.Cut(s.Name, "/"); found {
		path += "/" + part
	}
	return path
}

// ours says whether a resource is the operator's.
func (s resource) ours() bool { return s.root.Group == v1alpha1.GroupVersion.Group }

// victim is the name that derived calls aim at. It matters only where RBAC lets a call pass: admission then wants the
// object to exist.
func (r *raid) victim(s resource) string {
	if s.ours() && strings.HasPrefix(s.Name, "endpointsyncnodes") || strings.HasPrefix(s.Name, "nodes") {
		return r.Others[0]
	}
	return marker
}

// verbs are all that can be asked of a resource. None changes anything.
func (r *raid) verbs(s resource, namespace string) []call {
	name := r.victim(s)
	item, collection := s.item(namespace, name), s.collection(namespace)
	calls := append([]call{{method: http.MethodGet, path: item}}, r.writes(item, s.object(namespace, name), dryRun)...)
	calls = append(calls, call{method: http.MethodDelete, path: with(item, dryRun)})
	if strings.Contains(s.Name, "/") {
		return append(calls, post(with(item, dryRun), s.object(namespace, name)))
	}
	return append(calls,
		call{method: http.MethodGet, path: collection},
		call{method: http.MethodGet, path: with(collection, briefly)},
		post(with(collection, dryRun), s.fresh(namespace)),
		call{method: http.MethodDelete, path: with(collection, dryRun)},
	)
}

// with adds queries to a path; empty ones add nothing.
func with(path string, queries ...string) string {
	queries = slices.DeleteFunc(queries, func(q string) bool { return q == "" })
	if len(queries) == 0 {
		return path
	}
	return path + "?" + strings.Join(queries, "&")
}

// object names an object and gives it a label.
func (s resource) object(namespace, name string) document {
	version := s.root
	if s.Version != "" { // A subresource may be of another kind's group: Scale, TokenRequest.
		version = schema.GroupVersion{Group: s.Group, Version: s.Version}
	}
	var object unstructured.Unstructured
	object.SetAPIVersion(version.String())
	object.SetKind(s.Kind)
	object.SetName(name)
	object.SetNamespace(namespace)
	object.SetLabels(map[string]string{marker: "yes"})
	return object.Object
}

// fresh is an object to create. Where RBAC may let a call pass, it must fit the schema, too.
func (s resource) fresh(namespace string) document {
	object := s.object(namespace, marker+"-new")
	switch {
	case s.ours() && s.Name == "endpointsyncnodes":
		layOver(object, parsed(`{"spec":{"revision":0}}`))
	case s.ours() && s.Name == "endpointsyncpolicies":
		layOver(object, parsed(`{"spec":{"mode":"Observe"}}`))
	}
	return object
}

// writes are an update and the four patches of an object, each of which gives it a label.
func (r *raid) writes(path string, object document, query string) []call {
	label := parsed(`{"metadata":{"labels":{%q:"yes"}}}`, marker)
	return []call{
		{method: http.MethodPut, path: with(path, query), body: r.present(path, object, label)},
		patch(merge, with(path, query), label),
		patch(strategic, with(path, query), label),
		patch(jsonPatch, with(path, query), text(`[{"op":"add","path":"/metadata/labels","value":{%q:"yes"}}]`, marker)),
		patch(apply, with(path, forcibly, query), object),
	}
}

func post(path string, body any) call {
	return call{method: http.MethodPost, path: path, body: fixed(body)}
}

func patch(kind, path string, body any) call {
	return call{method: http.MethodPatch, path: path, patch: kind, body: fixed(body)}
}

// present returns an object as it is now, with something laid over it. Where RBAC stops the update anyway, a guess will do.
func (r *raid) present(path string, guess, over document) func(context.Context) (any, error) {
	if !covered(r.Grants, call{method: http.MethodPut, path: path}.attributes()) {
		return fixed(guess)
	}
	return func(ctx context.Context) (any, error) {
		object, err := r.read(ctx, path)
		if err != nil {
			return nil, err
		}
		layOver(object, over)
		return object, nil
	}
}

// read returns what lies at a path, with all rights.
func (r *raid) read(ctx context.Context, path string) (document, error) {
	content, err := r.kube.Discovery().RESTClient().Get().AbsPath(path).Do(ctx).Raw()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	var object document
	if err = json.Unmarshal(content, &object); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return object, nil
}

// layOver merges documents; values of over win.
func layOver(object, over document) {
	for key, value := range over {
		below, isDocument := object[key].(document)
		if above, alsoDocument := value.(document); isDocument && alsoDocument {
			layOver(below, above)
			continue
		}
		object[key] = value
	}
}

// paths are what the API server serves besides resources, and where it would show its inside.
func (r *raid) paths(ctx context.Context) ([]call, error) {
	index, err := r.read(ctx, "/")
	if err != nil {
		return nil, err
	}
	paths, _, err := unstructured.NestedStringSlice(index, "paths")
	if err != nil {
		return nil, fmt.Errorf("read /: %w", err)
	}
	var calls []call
	for _, path := range paths {
		if !strings.HasPrefix(path, "/api") { // Lists of resources, which everybody may read.
			calls = append(calls, call{method: http.MethodGet, path: path})
		}
	}
	for _, path := range []string{
		"/", "/configz", "/debug/api_priority_and_fairness/dump_requests", "/debug/flags/v", "/debug/pprof/", "/debug/pprof/heap",
		"/debug/pprof/profile?seconds=1", "/flagz", "/healthz", "/logs/", "/metrics", "/metrics/cadvisor", "/metrics/slis", "/statusz",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut} {
			calls = append(calls, call{method: method, path: path})
		}
	}
	return calls, nil
}
