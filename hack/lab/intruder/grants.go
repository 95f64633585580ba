package intruder

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Grant is a rule of RBAC and the namespace in which it holds, "" for all and for what is in none.
type Grant struct {
	Namespace string
	rbacv1.PolicyRule
}

// ReadGrants returns the rules of all Roles and ClusterRoles in a file of manifests.
func ReadGrants(path string) ([]Grant, error) {
	file, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, fmt.Errorf("read grants: %w", err)
	}
	defer func() { _ = file.Close() }()
	var grants []Grant
	for decoder := yaml.NewYAMLOrJSONDecoder(file, 4096); ; {
		var role rbacv1.Role // A ClusterRole is one without a namespace.
		if err = decoder.Decode(&role); errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read grants of %s: %w", path, err)
		}
		if role.Kind != "Role" && role.Kind != "ClusterRole" {
			continue
		}
		for _, rule := range role.Rules {
			grants = append(grants, Grant{role.Namespace, rule})
		}
	}
	if len(grants) == 0 {
		return nil, fmt.Errorf("read grants of %s: it has no rule", path)
	}
	return grants, nil
}

// attributes are what the API server's authorizer sees of a call.
type attributes struct {
	verb string
	// url is the path of what is no resource; all else is empty then.
	url string
	// resource has its subresource behind a slash.
	group, resource, namespace, name string
}

func covered(grants []Grant, a attributes) bool {
	return slices.ContainsFunc(grants, func(g Grant) bool { return g.covers(a) })
}

func (g Grant) covers(a attributes) bool {
	if a.url != "" {
		return g.Namespace == "" && names(g.Verbs, a.verb) && names(g.NonResourceURLs, a.url)
	}
	return (g.Namespace == "" || g.Namespace == a.namespace) &&
		names(g.Verbs, a.verb) && names(g.APIGroups, a.group) && names(g.Resources, a.resource) &&
		(len(g.ResourceNames) == 0 || slices.Contains(g.ResourceNames, a.name))
}

func names(list []string, what string) bool {
	return slices.Contains(list, what) || slices.Contains(list, rbacv1.VerbAll)
}

// attributesOf reads a call as the API server does.
func attributesOf(method string, target *url.URL) attributes {
	parts := strings.Split(strings.Trim(target.Path, "/"), "/")
	var group string
	switch {
	case len(parts) > 2 && parts[0] == "api":
		parts = parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		group, parts = parts[1], parts[3:]
	default:
		return attributes{verb: strings.ToLower(method), url: target.Path}
	}
	a := attributes{group: group}
	if parts[0] == "namespaces" && len(parts) > 2 && !slices.Contains([]string{"status", "finalize"}, parts[2]) {
		a.namespace, parts = parts[1], parts[2:]
	}
	a.resource = parts[0]
	if len(parts) > 1 {
		a.name = parts[1]
	}
	if len(parts) > 2 {
		a.resource += "/" + parts[2]
	}
	a.verb = verbOf(method, a.name == "", target.Query().Has("watch"))
	return a
}

func verbOf(method string, collection, watch bool) string {
	switch {
	case method == http.MethodGet && watch:
		return "watch"
	case method == http.MethodGet && collection:
		return "list"
	case method == http.MethodDelete && collection:
		return "deletecollection"
	}
	return map[string]string{
		http.MethodGet: "get", http.MethodPost: "create", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete",
	}[method]
}
