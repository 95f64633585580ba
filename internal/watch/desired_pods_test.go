package watch

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	endpointutil "k8s.io/endpointslice/util"
)

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
		{Type: corev1.ContainersReady, Status: containers},
		{Type: corev1.PodReady, Status: ready},
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
