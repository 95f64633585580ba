package scale

import (
	"net/http"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiversion "k8s.io/apimachinery/pkg/version"
)

// discover answers which kinds there are, in the form that every client understands; false if that was not asked.
func (s *Server) discover(w http.ResponseWriter, r *http.Request) bool {
	path := strings.Trim(r.URL.Path, "/")
	parts := strings.Split(path, "/")
	var answer any
	is := runtime.TypeMeta{APIVersion: coreVersion}
	switch {
	case path == "version":
		answer = apiversion.Info{Major: "1", Minor: "37", GitVersion: "v1.37.2", Platform: "linux/amd64"}
	case path == "api":
		is.Kind, answer = "APIVersions", metav1.APIVersions{Versions: []string{coreVersion}}
	case path == pathGroups:
		is.Kind, answer = "APIGroupList", metav1.APIGroupList{Groups: s.groups()}
	case parts[0] == pathGroups && len(parts) == 2:
		i := slices.IndexFunc(s.groups(), func(g metav1.APIGroup) bool { return g.Name == parts[1] })
		if i < 0 {
			return false
		}
		is.Kind, answer = "APIGroup", s.groups()[i]
	case parts[0] == "api" && len(parts) == 2, parts[0] == pathGroups && len(parts) == 3:
		gv := schema.GroupVersion{Version: parts[len(parts)-1]}
		if parts[0] == pathGroups {
			gv.Group = parts[1]
		}
		is.Kind, answer = "APIResourceList", s.resources(gv)
	default:
		return false
	}
	s.traffic.count("GET /" + path)
	body, err := typedJSON(answer, is)
	if err != nil {
		fail(w, err)
		return true
	}
	w.Header().Set("Content-Type", jsonType)
	_, _ = w.Write(body) // A client that has gone needs no answer.
	return true
}

func (s *Server) groups() []metav1.APIGroup {
	var groups []metav1.APIGroup
	for _, k := range s.cluster.kinds {
		version := metav1.GroupVersionForDiscovery{GroupVersion: k.gv.String(), Version: k.gv.Version}
		known := slices.ContainsFunc(groups, func(g metav1.APIGroup) bool { return g.Name == k.gv.Group })
		if k.gv.Group == "" || known {
			continue
		}
		groups = append(groups, metav1.APIGroup{
			Name: k.gv.Group, Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version,
		})
	}
	return groups
}

func (s *Server) resources(gv schema.GroupVersion) metav1.APIResourceList {
	list := metav1.APIResourceList{GroupVersion: gv.String(), APIResources: []metav1.APIResource{}}
	for _, k := range s.cluster.kinds {
		if k.gv != gv {
			continue
		}
		r := metav1.APIResource{
			Name: k.resource, SingularName: strings.ToLower(k.name), Kind: k.name, Namespaced: k.namespaced,
			Verbs: metav1.Verbs{"create", "delete", "get", "list", "patch", "update", "watch"},
		}
		list.APIResources = append(list.APIResources, r)
		if k.table != nil {
			r.Name, r.Verbs = k.resource+"/status", metav1.Verbs{"get", "patch", "update"}
			list.APIResources = append(list.APIResources, r)
		}
	}
	return list
}
