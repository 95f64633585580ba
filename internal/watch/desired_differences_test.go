package watch

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestDocumentedDifferencesAreStillDifferences lists in what we knowingly differ from the reconciler, and why that is
// harmless. Two more come up in the random histories: a Pod of which one family of two is published counts as published
// (ruleOneFamilyShown), and a Service that is being deleted gets no new slices although its Pods are wanted
// (ruleServiceTerminating).
func TestDocumentedDifferencesAreStillDifferences(t *testing.T) {
	tests := map[string]struct {
		because string
		change  func(w *world, s *corev1.Service, p *corev1.Pod)
		// theirs and ours are how many Pods each wants to be published.
		theirs, ours int
	}{
		"a Service without families": {
			"API servers have filled in ipFamilies since 1.20; theirs guesses from the cluster IP",
			func(_ *world, s *corev1.Service, p *corev1.Pod) {
				s.Spec.IPFamilies, s.Spec.ClusterIP = nil, "10.96.0.1"
				setIPs(p, []string{"fd00::1"})
			}, 0, 1,
		},
		"a selector that is empty and not nil": {
			"no empty map survives the API server's protobuf",
			func(_ *world, s *corev1.Service, _ *corev1.Pod) { s.Spec.Selector = map[string]string{} }, 1, 0,
		},
		"a Pod address that is no address": {
			"API servers refuse it; theirs publishes it as <nil>",
			func(_ *world, _ *corev1.Service, p *corev1.Pod) { setIPs(p, []string{"localhost"}) }, 1, 0,
		},
		"no node is known": {
			"without the right to list nodes each is taken to exist, and a cluster with Pods has some",
			func(w *world, _ *corev1.Service, _ *corev1.Pod) { clear(w.nodes) }, 0, 1,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(100)
			w.nodes["node-0"] = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-0"}}
			s := &corev1.Service{ObjectMeta: w.meta("service-0", nil)}
			s.Spec = corev1.ServiceSpec{Selector: map[string]string{"app": "web"}, IPFamilies: []corev1.IPFamily{"IPv4"}}
			p := &corev1.Pod{ObjectMeta: w.meta("pod-0", map[string]string{"app": "web"})}
			p.Spec.NodeName, p.Status.Phase = "node-0", corev1.PodRunning
			setIPs(p, []string{"10.0.0.1"})
			setReady(p, corev1.ConditionTrue, corev1.ConditionTrue)
			test.change(w, s, p)
			for _, node := range w.nodes {
				w.tellNode(node)
			}
			w.begin()
			w.begun = true
			w.setService(s)
			w.setPod(p.Name, p)
			writes, _ := w.reconcile(s)
			theirs, ours := len(shownBy(w.after(s.Name, writes))), w.view(s.Name).missing
			if theirs != test.theirs || ours != test.ours {
				t.Errorf("theirs wants %d and ours %d Pods, want %d and %d (%s)", theirs, ours, test.theirs, test.ours, test.because)
			}
		})
	}
}
