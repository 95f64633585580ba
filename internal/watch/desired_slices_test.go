package watch

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

const mirroringController = "endpointslicemirroring-controller.k8s.io"

// strangeSlice shows all Pods, ready or not.
func strangeSlice(w *world, d *dice, name, by string) *discoveryv1.EndpointSlice {
	service := fmt.Sprint("service-", d.n(2))
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  w.meta(name, map[string]string{discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: by}),
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for _, podName := range slices.Sorted(maps.Keys(w.pods))[:min(len(w.pods), 3)] {
		p := w.pods[podName]
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{pick(d, v4...)}, Conditions: discoveryv1.EndpointConditions{Ready: pick(d, nil, new(true), new(true), new(false))},
			TargetRef: pick(d, nil, &corev1.ObjectReference{Kind: "Node", Name: p.Name, UID: p.UID},
				&corev1.ObjectReference{Kind: "Pod", Namespace: shop, Name: p.Name, UID: p.UID},
				&corev1.ObjectReference{Kind: "Pod", Namespace: shop, Name: p.Name, UID: p.UID}),
		})
	}
	return s
}

func describeSlice(s *discoveryv1.EndpointSlice) string {
	return fmt.Sprintf("slice %s of %s by %s: %v", s.Name, s.Labels[discoveryv1.LabelServiceName],
		s.Labels[discoveryv1.LabelManagedBy], shownBy([]*discoveryv1.EndpointSlice{s}))
}

func foreignSlice(w *world, d *dice) string {
	by := pick(d, mirroringController, "mesh.example.com", "")
	name := "strange-" + by
	if w.slices[name] != nil {
		w.deleteSlice(name)
		return "deleted slice " + name
	}
	w.setSlice(strangeSlice(w, d, name, by))
	return "created " + describeSlice(w.slices[name])
}

// forgeSlice makes a slice with the controller's label that no Service owns.
func forgeSlice(w *world, d *dice) string {
	const name = "forged"
	if w.slices[name] != nil {
		return ""
	}
	w.setSlice(strangeSlice(w, d, name, sliceController))
	w.rules[ruleForged] = true
	return "created " + describeSlice(w.slices[name])
}

// editSlice is what somebody with kubectl does.
func editSlice(w *world, d *dice) string {
	all := slices.DeleteFunc(slices.Collect(maps.Values(w.slices)), func(s *discoveryv1.EndpointSlice) bool {
		return !isOurs(s) || len(s.Endpoints) == 0
	})
	if len(all) == 0 {
		return ""
	}
	slices.SortFunc(all, func(a, b *discoveryv1.EndpointSlice) int { return strings.Compare(a.Name, b.Name) })
	s := pick(d, all...).DeepCopy()
	w.bump(&s.ObjectMeta)
	i := d.n(len(s.Endpoints))
	switch d.n(4) {
	case 0:
		s.Endpoints = slices.Delete(s.Endpoints, i, i+1)
	case 1:
		s.Endpoints[i].Conditions.Ready = nil
	case 2:
		ready := s.Endpoints[i].Conditions.Ready
		s.Endpoints[i].Conditions.Ready = new(ready != nil && !*ready)
	default:
		s.Endpoints[i].TargetRef = nil
	}
	w.setSlice(s)
	w.rules[ruleEdited] = true
	return "edited " + describeSlice(s)
}

func removeSlice(w *world, d *dice) string {
	if len(w.slices) == 0 {
		return ""
	}
	name := pick(d, slices.Sorted(maps.Keys(w.slices))...)
	w.rules[ruleSliceDeleted] = w.rules[ruleSliceDeleted] || isOurs(w.slices[name])
	w.deleteSlice(name)
	return "somebody deleted slice " + name
}

// collectGarbage deletes the slices whose Service is gone.
func collectGarbage(w *world, _ *dice) string {
	live := map[string]bool{}
	for _, s := range w.services {
		live[string(s.UID)] = true
	}
	var gone []string
	for _, name := range slices.Sorted(maps.Keys(w.slices)) {
		owners := w.slices[name].OwnerReferences
		if len(owners) > 0 && !live[string(owners[0].UID)] {
			w.deleteSlice(name)
			gone = append(gone, name)
		}
	}
	if gone == nil {
		return ""
	}
	return fmt.Sprint("garbage collected: ", gone)
}
