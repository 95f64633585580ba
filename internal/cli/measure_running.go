package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/trace"
)

// readings is what was read of the running kube-controller-manager, from whichever sources there are.
type readings struct {
	nodes    []v1alpha1.EndpointSyncNode
	flagz    *v1alpha1.Flags // nil: could not be read
	settings v1alpha1.KCMSettings
	flagzURL string
	pods     []corev1.Pod // kube-controller-manager's, in kube-system
	holder   string       // of its Lease: <host name>_<uuid>
}

// running is what kube-controller-manager runs with, and how we know.
type running struct {
	flags   v1alpha1.Flags // all four
	source  string
	from    trace.FlagsFrom // source, without names
	assumed bool            // at least one flag was not read
}

// running takes the most direct source: what a person says, what the agent on the leader's node read, what the process
// itself says, what the leader's Pod was started with; and upstream's defaults where there is none.
func (r readings) running(current v1alpha1.Flags) running {
	defaults := v1alpha1.DefaultFlags()
	leader := r.leader()
	switch {
	case current != (v1alpha1.Flags{}):
		return running{current.Or(defaults), "given with --current" + remainder(current), trace.FromGiven, true}
	case leader != nil && leader.Status.Running != (v1alpha1.Flags{}):
		flags := leader.Status.Running
		return running{flags.Or(defaults), "read by the agent on node " + leader.Name + ", which leads" + remainder(flags), trace.FromAgent, !whole(flags)}
	case r.flagz != nil:
		return running{r.flagz.Or(defaults), "read from " + r.flagzURL + remainder(*r.flagz), trace.FromProcess, !whole(*r.flagz)}
	case len(r.pods) > 0:
		return r.fromPods()
	}
	return running{defaults, "upstream's defaults, assumed: no kube-controller-manager could be read", trace.FromDefault, true}
}

// otherwise is what else it runs with, from the agent on the leader's node or from the process itself; empty without
// either.
func (r readings) otherwise() v1alpha1.KCMSettings {
	if leader := r.leader(); leader != nil {
		return leader.Status.Settings
	}
	return r.settings
}

// whole says whether all four flags are known.
func whole(f v1alpha1.Flags) bool { return f.Or(v1alpha1.DefaultFlags()) == f }

// remainder says that defaults fill what is not known.
func remainder(known v1alpha1.Flags) string {
	if whole(known) {
		return ""
	}
	return "; the rest are upstream's defaults, assumed"
}

// leader is the node whose kube-controller-manager leads, as its agent reports; nil if none does.
func (r readings) leader() *v1alpha1.EndpointSyncNode {
	i := slices.IndexFunc(r.nodes, func(n v1alpha1.EndpointSyncNode) bool { return n.Status.Leader != nil && *n.Status.Leader })
	if i < 0 {
		return nil
	}
	return &r.nodes[i]
}

// fromPods takes the leader's Pod; a flag that is not in its command has upstream's default.
func (r readings) fromPods() running {
	pods := slices.SortedFunc(slices.Values(r.pods), func(a, b corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	host := r.holder[:max(0, strings.LastIndexByte(r.holder, '_'))]
	i := slices.IndexFunc(pods, func(p corev1.Pod) bool { return host != "" && sameHost(p.Spec.NodeName, host) })
	chosen := pods[max(i, 0)]
	flags := commandFlags(chosen).Or(v1alpha1.DefaultFlags())
	source := fmt.Sprintf("the command of Pod %s/%s", chosen.Namespace, chosen.Name)
	differ := slices.ContainsFunc(pods, func(p corev1.Pod) bool {
		return commandFlags(p).Or(v1alpha1.DefaultFlags()) != flags
	})
	switch {
	case i >= 0 && len(pods) > 1:
		source += ", which leads"
	case differ:
		source += "; the Pods differ and it is not known which one leads"
	}
	return running{flags, source, trace.FromPod, i < 0 && differ}
}

// sameHost compares a node's name with a host name: one may carry the domain.
func sameHost(node, host string) bool {
	return node == host || strings.HasPrefix(node, host+".") || strings.HasPrefix(host, node+".")
}

// commandFlags reads our flags from a Pod's command line, as --name=value or --name value; the last one counts. A value
// that is no positive whole number is left out.
func commandFlags(p corev1.Pod) v1alpha1.Flags {
	var flags v1alpha1.Flags
	for _, c := range p.Spec.Containers {
		words := slices.Concat(c.Command, c.Args)
		for i, word := range words {
			name, value, given := strings.Cut(strings.TrimLeft(word, "-"), "=")
			if !strings.HasPrefix(word, "-") {
				continue
			}
			if !given && i+1 < len(words) {
				value = words[i+1]
			}
			if v, err := strconv.ParseFloat(value, 32); err == nil && v >= 1 && v <= 1e6 {
				flags.Set(name, int32(v))
			}
		}
	}
	return flags
}

// parseFlags reads NAME=VALUE pairs as --current takes them.
func parseFlags(pairs []string) (v1alpha1.Flags, error) {
	var flags v1alpha1.Flags
	for _, pair := range pairs {
		name, value, _ := strings.Cut(strings.TrimLeft(pair, "-"), "=")
		v, err := strconv.ParseInt(value, 10, 32)
		if err != nil || v < 1 || v > 1e6 {
			return flags, fmt.Errorf("%q must be NAME=VALUE with a whole number from 1 to 1000000, such as kube-api-qps=20", pair)
		}
		if !flags.Set(name, int32(v)) {
			return flags, fmt.Errorf("%q is none of kube-api-qps, kube-api-burst, concurrent-endpoint-syncs, concurrent-service-endpoint-syncs", name)
		}
	}
	return flags, nil
}
