package watch

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	endpointutil "k8s.io/endpointslice/util"
)

// happening is one thing that happens. What it means is drawn in advance, so that a history stays one when some are left out.
type happening struct {
	do action
	x  [4]uint32
}

// action changes the world and says in words what it did; "" is nothing.
type action func(w *world, x *dice) string

// dice hand out the numbers of one.
type dice struct {
	x    [4]uint32
	next int
	mix  uint32
}

// n returns a number below limit.
func (d *dice) n(limit int) int {
	v := d.x[d.next%4] ^ d.mix
	if d.next++; d.next%4 == 0 {
		d.mix = d.mix*0x9E3779B9 + d.x[(d.next/4)%4]*0x85EBCA6B + 1
	}
	v ^= v >> 15
	v *= 0x2C1B3C6D
	v ^= v >> 12
	return int(v % uint32(limit))
}

// percent is true that often.
func (d *dice) percent(p int) bool { return d.n(100) < p }

func pick[T any](d *dice, all ...T) T { return all[d.n(len(all))] }

// history is a world to begin with and what happens to it.
type history struct {
	perSlice int32
	steps    []happening
}

// weighted are the actions after a history's beginning, with how often each is drawn.
var weighted = []struct {
	weight int
	do     action
}{
	{20, flipReady}, {5, loseCondition}, {5, blockByGate}, {8, terminate}, {9, changePhase}, {12, changeIPs}, {5, addFamily}, {8, relabel},
	{9, createPod}, {6, deletePod}, {3, comeAndGo}, {5, replacePod}, {3, createService}, {2, deleteService}, {3, replaceService},
	{5, changeSelector}, {5, togglePublish}, {5, changeFamilies}, {7, changeType}, {5, dropSelector}, {8, changePorts},
	{9, toggleNode}, {6, foreignSlice}, {3, forgeSlice}, {4, editSlice}, {3, removeSlice}, {14, terminateService}, {3, flipTwice},
	{2, collectGarbage},
}

var allWeights = func() (sum int) {
	for _, a := range weighted {
		sum += a.weight
	}
	return sum
}()

func draw(r *rand.Rand, do action) happening {
	return happening{do, [4]uint32{r.Uint32(), r.Uint32(), r.Uint32(), r.Uint32()}}
}

func drawWeighted(r *rand.Rand) happening {
	n := r.IntN(allWeights)
	for _, a := range weighted {
		if n -= a.weight; n < 0 {
			return draw(r, a.do)
		}
	}
	panic("weights")
}

// newHistory dice a history. One in 22 has a Service with more than 100 Pods, and little happens to it.
func newHistory(r *rand.Rand, syncs int) history {
	h := history{perSlice: pick(&dice{x: [4]uint32{r.Uint32()}}, int32(1), 2, 3, 100)}
	add := func(do action, times int) {
		for range times {
			h.steps = append(h.steps, draw(r, do))
		}
	}
	add(createFirstNode, 1)
	add(createNode, 2)
	begin := r.IntN(3) // before, in the middle of, or after what there is at first
	if begin == 0 {
		add(beginTracking, 1)
	}
	if crowd := r.IntN(22) == 0; crowd {
		h.perSlice = 100
		add(createService, 1)
		add(createCrowd, 1)
		syncs = min(syncs, 2)
	} else {
		add(createService, 1+r.IntN(2))
		add(createPod, 1+r.IntN(5))
	}
	if begin == 1 {
		add(beginTracking, 1)
	}
	add(syncServices, 1)
	if begin == 2 {
		for range r.IntN(3) {
			h.steps = append(h.steps, drawWeighted(r))
		}
		add(beginTracking, 1)
	}
	for range syncs {
		for range 1 + r.IntN(3)*r.IntN(2) {
			h.steps = append(h.steps, drawWeighted(r))
		}
		add(syncServices, 1)
	}
	return h
}

func beginTracking(w *world, _ *dice) string {
	for _, s := range w.services {
		writes, _ := w.reconcile(s)
		w.rules[ruleStartup] = w.rules[ruleStartup] || !equal(shownBy(w.slicesOf(s.Name)), shownBy(w.after(s.Name, writes)))
	}
	w.begin()
	w.begun = true
	w.happened++ // The differences of now are not those of one event.
	return "the tracker begins to look"
}

// syncServices is marked, not done: check does it.
func syncServices(*world, *dice) string { return "kube-controller-manager syncs" }

// createFirstNode makes a node that no Pod is on: as long as it knows of none, the tracker takes every node to exist.
func createFirstNode(w *world, _ *dice) string { return addNode(w, firstNode) }

const firstNode = "control-plane"

func createNode(w *world, d *dice) string {
	if name := fmt.Sprint("node-", d.n(3)); w.nodes[name] == nil {
		return addNode(w, name)
	}
	return ""
}

func addNode(w *world, name string) string {
	w.nodes[name] = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	w.tellNode(name)
	return name + " appears"
}

func toggleNode(w *world, d *dice) string {
	if said := createNode(w, d); said != "" {
		return said
	}
	others := slices.DeleteFunc(slices.Sorted(maps.Keys(w.nodes)), func(name string) bool { return name == firstNode })
	name := pick(d, others...)
	delete(w.nodes, name)
	w.tellNodeGone(name)
	return name + " vanishes"
}

func anyLabels(d *dice) map[string]string {
	l := map[string]string{"app": pick(d, "web", "web", "web", "api")}
	if d.percent(70) {
		l["tier"] = pick(d, "a", "a", "b")
	}
	return l
}

var (
	oddForms = []string{"010.000.000.007", "::ffff:10.0.0.8", "FD00:0:0::0:9"}
	v4       = []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}
	v6       = []string{"fd00::1", "fd00::2", "fd00::3"}
)

func familyOf(ip string) corev1.IPFamily {
	if strings.Contains(ip, ":") && !strings.HasPrefix(ip, "::ffff:") {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}

func anyIPs(d *dice) []string {
	switch n := d.n(100); {
	case n < 10:
		return nil
	case n < 18:
		return []string{pick(d, oddForms...)}
	case n < 22:
		return []string{oddForms[d.n(2)], pick(d, v6...)}
	case n < 55:
		return []string{pick(d, v4...)}
	case n < 65:
		return []string{pick(d, v6...)}
	case n < 88:
		return []string{pick(d, v4...), pick(d, v6...)}
	default:
		return []string{pick(d, v6...), pick(d, v4...)}
	}
}

// setIPs writes addresses as the kubelet does: podIP is the first of podIPs.
func setIPs(p *corev1.Pod, ips []string) {
	p.Status.PodIP, p.Status.PodIPs = "", nil
	for _, ip := range ips {
		p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: ip})
	}
	if len(ips) > 0 {
		p.Status.PodIP = ips[0]
	}
}

func setReady(p *corev1.Pod, containers, ready corev1.ConditionStatus) {
	p.Status.Conditions = []corev1.PodCondition{
		{Type: corev1.PodInitialized, Status: corev1.ConditionTrue},
		{Type: corev1.ContainersReady, Status: containers}, {Type: corev1.PodReady, Status: ready},
	}
}

func newPod(w *world, d *dice, name string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: w.meta(name, anyLabels(d))}
	port := corev1.ContainerPort{Name: "http", ContainerPort: pick(d, int32(80), 81), Protocol: pick(d, corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP)}
	c := corev1.Container{Name: "main"}
	always := corev1.ContainerRestartPolicyAlways
	switch d.n(5) {
	case 0, 1:
		c.Ports = []corev1.ContainerPort{port, {ContainerPort: 9}}
	case 2:
		p.Spec.InitContainers = []corev1.Container{{Ports: []corev1.ContainerPort{port}, RestartPolicy: &always}}
	case 3:
		p.Spec.InitContainers = []corev1.Container{{Ports: []corev1.ContainerPort{port}}}
	}
	p.Spec.Containers = []corev1.Container{c}
	p.Spec.NodeName = pick(d, "node-0", "node-0", "node-1", "node-1", "node-2")
	if d.percent(4) {
		p.Spec.NodeName = ""
	}
	if d.percent(30) {
		p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/gate"}}
	}
	p.Status.Phase = pick(d, corev1.PodRunning, corev1.PodRunning, corev1.PodRunning, corev1.PodRunning, corev1.PodPending)
	setIPs(p, anyIPs(d))
	if p.Spec.HostNetwork = d.percent(10); p.Spec.HostNetwork {
		setIPs(p, []string{"192.0.2.1"})
	}
	if d.percent(90) {
		status := pick(d, corev1.ConditionTrue, corev1.ConditionTrue, corev1.ConditionTrue, corev1.ConditionFalse)
		setReady(p, status, status)
	}
	return p
}

func createPod(w *world, d *dice) string {
	name := fmt.Sprint("pod-", d.n(6))
	if w.pods[name] != nil {
		return ""
	}
	w.setPod(name, newPod(w, d, name))
	return "created " + describePod(w.pods[name])
}

// createCrowd makes 101 to 130 ready Pods with few differences.
func createCrowd(w *world, d *dice) string {
	n := 101 + d.n(30)
	for i := range n {
		name := fmt.Sprintf("crowd-%03d", i)
		p := &corev1.Pod{ObjectMeta: w.meta(name, map[string]string{"app": "web", "tier": "a"})}
		p.Spec.NodeName = fmt.Sprint("node-", i%2)
		p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 80, Protocol: corev1.ProtocolTCP}}}}
		p.Status.Phase = corev1.PodRunning
		setIPs(p, []string{fmt.Sprintf("10.1.0.%d", i)})
		setReady(p, corev1.ConditionTrue, corev1.ConditionTrue)
		w.setPod(name, p)
	}
	return fmt.Sprint("created ", n, " ready Pods")
}

func describePod(p *corev1.Pod) string {
	var ips []string
	for _, ip := range p.Status.PodIPs {
		ips = append(ips, ip.IP)
	}
	state := "not ready"
	if endpointutil.IsPodReady(p) {
		state = "ready"
	}
	if p.DeletionTimestamp != nil {
		state += ", terminating"
	}
	return fmt.Sprintf("%s %v on %q: %s, %s at %v", p.Name, p.Labels, p.Spec.NodeName, p.Status.Phase, state, ips)
}

// anyPod chooses one of the Pods that exist, nil if there is none.
func (w *world) anyPod(d *dice) *corev1.Pod {
	if len(w.pods) == 0 {
		return nil
	}
	return w.pods[pick(d, slices.Sorted(maps.Keys(w.pods))...)]
}

// onPod is an action on a Pod that exists.
func onPod(w *world, d *dice, change func(p *corev1.Pod)) string {
	p := w.anyPod(d)
	if p == nil {
		return ""
	}
	w.changePod(p, change)
	return "changed " + describePod(w.pods[p.Name])
}

func flipReady(w *world, d *dice) string {
	return onPod(w, d, func(p *corev1.Pod) {
		status := corev1.ConditionTrue
		if endpointutil.IsPodReady(p) {
			status = corev1.ConditionFalse
		}
		setReady(p, status, status)
		w.flips[p.UID]++
		w.rules[ruleReadyFlip] = true
	})
}

func flipTwice(w *world, d *dice) string {
	again := *d
	return flipReady(w, d) + "; " + flipReady(w, &again)
}

func loseCondition(w *world, d *dice) string {
	return onPod(w, d, func(p *corev1.Pod) {
		if d.percent(50) {
			p.Status.Conditions = p.Status.Conditions[:min(1, len(p.Status.Conditions))]
		} else {
			setReady(p, corev1.ConditionUnknown, corev1.ConditionUnknown)
		}
	})
}

func blockByGate(w *world, d *dice) string {
	return onPod(w, d, func(p *corev1.Pod) {
		p.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/gate"}}
		setReady(p, corev1.ConditionTrue, corev1.ConditionFalse)
	})
}

func terminate(w *world, d *dice) string {
	return onPod(w, d, func(p *corev1.Pod) {
		if p.DeletionTimestamp != nil {
			setReady(p, corev1.ConditionFalse, corev1.ConditionFalse)
			return
		}
		p.DeletionTimestamp = &metav1.Time{Time: w.now}
		if d.percent(40) {
			setReady(p, corev1.ConditionFalse, corev1.ConditionFalse)
		}
	})
}

// changePhase ends a Pod, with its readiness in the same write as the kubelet does, or without.
func changePhase(w *world, d *dice) string {
	return onPod(w, d, func(p *corev1.Pod) {
		was := p.Status.Phase
		p.Status.Phase = pick(d, corev1.PodSucceeded, corev1.PodFailed, corev1.PodRunning, corev1.PodPending)
		if p.Status.Phase != was && p.Status.Phase != corev1.PodRunning && d.percent(40) {
			setReady(p, corev1.ConditionFalse, corev1.ConditionFalse)
		}
	})
}

func changeIPs(w *world, d *dice) string {
	return onPod(w, d, func(p *corev1.Pod) {
		before, after := len(p.Status.PodIPs), anyIPs(d)
		setIPs(p, after)
		w.rules[ruleIPChanged] = w.rules[ruleIPChanged] || before > 0 && len(after) > 0
		w.rules[ruleIPRemoved] = w.rules[ruleIPRemoved] || before > len(after)
	})
}

func relabel(w *world, d *dice) string {
	return onPod(w, d, func(p *corev1.Pod) {
		p.Labels = anyLabels(d)
		w.rules[ruleLabelsChanged] = true
	})
}

func deletePod(w *world, d *dice) string {
	p := w.anyPod(d)
	if p == nil {
		return ""
	}
	w.setPod(p.Name, nil)
	return "deleted " + p.Name
}

// comeAndGo makes a ready Pod and deletes it before anybody can have published it.
func comeAndGo(w *world, d *dice) string {
	const name = "brief"
	p := newPod(w, d, name)
	setReady(p, corev1.ConditionTrue, corev1.ConditionTrue)
	w.setPod(name, p)
	for _, s := range w.services {
		w.rules[ruleNeverAdded] = w.rules[ruleNeverAdded] || w.begun && managed(s) && slices.Contains(w.selected(s), p)
	}
	w.setPod(name, nil)
	return "created and deleted " + describePod(p)
}

// replacePod deletes a Pod and makes another of its name; half of the time our watch misses the former.
func replacePod(w *world, d *dice) string {
	p := w.anyPod(d)
	if p == nil {
		return ""
	}
	w.rules[rulePodReplaced] = true
	fresh := p.DeepCopy()
	if d.percent(50) {
		fresh = newPod(w, d, p.Name)
	} else {
		fresh.ObjectMeta = w.meta(p.Name, p.Labels)
	}
	said := "deleted and created "
	if w.missed = d.percent(50); w.missed {
		said = "(unheard) " + said
	}
	w.setPod(p.Name, nil)
	w.missed = false
	w.setPod(p.Name, fresh)
	return said + describePod(fresh)
}

func anySelector(d *dice) map[string]string {
	s := map[string]string{"app": pick(d, "web", "web", "web", "api")}
	if d.percent(35) {
		s["tier"] = pick(d, "a", "b")
	}
	return s
}

func anyFamilies(d *dice) []corev1.IPFamily {
	return pick(d, []corev1.IPFamily{"IPv4"}, []corev1.IPFamily{"IPv4"}, []corev1.IPFamily{"IPv6"},
		[]corev1.IPFamily{"IPv4", "IPv6"}, []corev1.IPFamily{"IPv6", "IPv4"})
}

func anyPorts(d *dice) []corev1.ServicePort {
	port := func(name string) corev1.ServicePort {
		out := corev1.ServicePort{Name: name, Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(int32(80 + d.n(3)))}
		if d.percent(60) {
			out.TargetPort = intstr.FromString("http")
		}
		if d.percent(20) {
			out.Protocol = corev1.ProtocolUDP
		}
		return out
	}
	switch d.n(5) {
	case 0:
		return nil
	case 1, 2, 3:
		return []corev1.ServicePort{port("a")}
	default:
		return []corev1.ServicePort{port("a"), port("b")}
	}
}

func setPorts(s *corev1.Service, d *dice) {
	s.Spec.Ports, s.Spec.ClusterIP = anyPorts(d), "10.96.0.1"
	if len(s.Spec.Ports) == 0 || d.percent(20) {
		s.Spec.ClusterIP = corev1.ClusterIPNone
	}
}

func newService(w *world, d *dice, name string) *corev1.Service {
	s := &corev1.Service{ObjectMeta: w.meta(name, anyLabels(d))}
	s.Spec = corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, Selector: anySelector(d), IPFamilies: anyFamilies(d),
		PublishNotReadyAddresses: d.percent(20),
	}
	setPorts(s, d)
	return s
}

func createService(w *world, d *dice) string {
	name := fmt.Sprint("service-", d.n(2))
	if w.services[name] != nil {
		return ""
	}
	w.rules[ruleServiceReplaced] = w.rules[ruleServiceReplaced] || w.gone[name]
	w.setService(newService(w, d, name))
	return "created " + describeService(w.services[name])
}

func describeService(s *corev1.Service) string {
	var ports []string
	for _, p := range s.Spec.Ports {
		ports = append(ports, string(p.Protocol)+"/"+p.TargetPort.String())
	}
	out := fmt.Sprintf("%s: %s, selector %v, families %v, ports %v", s.Name, s.Spec.Type, s.Spec.Selector, s.Spec.IPFamilies, ports)
	if s.Spec.PublishNotReadyAddresses {
		out += ", publishes what is not ready"
	}
	if s.DeletionTimestamp != nil {
		out += ", terminating"
	}
	return out
}

// onService is an action on a Service that exists.
func onService(w *world, d *dice, change func(s *corev1.Service)) string {
	if len(w.services) == 0 {
		return ""
	}
	s := w.services[pick(d, slices.Sorted(maps.Keys(w.services))...)]
	w.changeService(s, change)
	return "changed " + describeService(w.services[s.Name])
}

func deleteService(w *world, d *dice) string {
	if len(w.services) == 0 {
		return ""
	}
	name := pick(d, slices.Sorted(maps.Keys(w.services))...)
	w.deleteService(name)
	w.rules[ruleServiceDeleted] = true
	return "deleted " + name
}

func replaceService(w *world, d *dice) string {
	if len(w.services) == 0 {
		return ""
	}
	name := pick(d, slices.Sorted(maps.Keys(w.services))...)
	w.rules[ruleServiceReplaced] = true
	w.deleteService(name)
	w.setService(newService(w, d, name))
	return "deleted and created " + describeService(w.services[name])
}

func changeSelector(w *world, d *dice) string {
	return onService(w, d, func(s *corev1.Service) {
		s.Spec.Selector = anySelector(d)
		w.rules[ruleSelectorChanged] = true
	})
}

func togglePublish(w *world, d *dice) string {
	return onService(w, d, func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = !s.Spec.PublishNotReadyAddresses })
}

func changeFamilies(w *world, d *dice) string {
	return onService(w, d, func(s *corev1.Service) { s.Spec.IPFamilies = anyFamilies(d) })
}

// addFamily gives a Pod or a Service a second family, as dual stack is introduced in a cluster.
func addFamily(w *world, d *dice) string {
	if d.percent(50) {
		return onService(w, d, func(s *corev1.Service) {
			if len(s.Spec.IPFamilies) == 1 && s.Spec.IPFamilies[0] == corev1.IPv4Protocol {
				s.Spec.IPFamilies = []corev1.IPFamily{"IPv4", "IPv6"}
			} else if len(s.Spec.IPFamilies) == 1 {
				s.Spec.IPFamilies = []corev1.IPFamily{"IPv6", "IPv4"}
			}
		})
	}
	return onPod(w, d, func(p *corev1.Pod) {
		if len(p.Status.PodIPs) != 1 {
			return
		}
		other := pick(d, v4...)
		if familyOf(p.Status.PodIP) == corev1.IPv4Protocol {
			other = pick(d, v6...)
		}
		setIPs(p, []string{p.Status.PodIP, other})
	})
}

func changePorts(w *world, d *dice) string {
	return onService(w, d, func(s *corev1.Service) { setPorts(s, d) })
}

func changeType(w *world, d *dice) string {
	return onService(w, d, func(s *corev1.Service) {
		if s.Spec.Type == corev1.ServiceTypeExternalName {
			s.Spec.Type = corev1.ServiceTypeClusterIP
		} else {
			s.Spec.Type = corev1.ServiceTypeExternalName
		}
	})
}

func dropSelector(w *world, d *dice) string {
	return onService(w, d, func(s *corev1.Service) {
		if s.Spec.Selector == nil {
			s.Spec.Selector = anySelector(d)
		} else {
			s.Spec.Selector = nil
		}
	})
}

// terminateService sets the deletion timestamp of a Service that a finalizer holds, as that of a load balancer does.
func terminateService(w *world, d *dice) string {
	return onService(w, d, func(s *corev1.Service) { s.DeletionTimestamp = &metav1.Time{Time: w.now} })
}

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
	said := ""
	for _, name := range slices.Sorted(maps.Keys(w.slices)) {
		owners := w.slices[name].OwnerReferences
		if len(owners) > 0 && !live[string(owners[0].UID)] {
			w.deleteSlice(name)
			said += " " + name
		}
	}
	if said == "" {
		return ""
	}
	return "garbage collected:" + said
}
