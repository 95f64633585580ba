package watch

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	endpointutil "k8s.io/endpointslice/util"
)

// rule numbers what decides about membership, so that histories that exercise it can be counted.
type rule uint8

const (
	ruleReadyFlip rule = iota
	ruleFlipBack
	ruleConditionMissing
	ruleConditionUnknown
	ruleReadinessGate
	ruleServingTerminating
	ruleTerminatingNotReady
	rulePublishNotReady
	ruleSucceeded
	ruleFailed
	rulePending
	ruleNoIP
	ruleIPChanged
	ruleIPRemoved
	ruleOddIP
	ruleSharedIP
	ruleBothFamilies
	ruleOneFamilyOfPod
	ruleOneFamilyOfService
	ruleNoFamilyInCommon
	ruleOtherOrder
	ruleNamedPort
	ruleNamedPortAbsent
	ruleSidecarPort
	ruleNumericPort
	ruleSeveralPorts
	ruleNoPorts
	ruleSelectorChanged
	ruleLabelsChanged
	ruleOnePairMatches
	ruleExternalName
	ruleNoSelector
	ruleManagedAgain
	ruleServiceDeleted
	ruleServiceReplaced
	rulePodReplaced
	ruleNeverAdded
	ruleNodeMissing
	ruleNodeMissingPublished
	ruleOver100
	ruleMove
	ruleMirrored
	ruleForeign
	ruleForged
	ruleEdited
	ruleSliceDeleted
	ruleStartup
	ruleTold
	ruleNotTold
	ruleOneFamilyShown
	ruleServiceTerminating
	ruleCount
)

var ruleNames = [ruleCount]string{
	ruleReadyFlip:            "a Pod becomes ready or not ready",
	ruleFlipBack:             "a Pod flips and flips back before anything was published",
	ruleConditionMissing:     "no Ready condition",
	ruleConditionUnknown:     "Ready condition Unknown",
	ruleReadinessGate:        "containers ready, a readiness gate is not",
	ruleServingTerminating:   "terminating and still serving",
	ruleTerminatingNotReady:  "terminating and not ready",
	rulePublishNotReady:      "publishNotReadyAddresses with a Pod that is not ready",
	ruleSucceeded:            "phase Succeeded",
	ruleFailed:               "phase Failed",
	rulePending:              "phase Pending with an address",
	ruleNoIP:                 "no address",
	ruleIPChanged:            "an address changes",
	ruleIPRemoved:            "an address is taken away",
	ruleOddIP:                "an address in an irregular form",
	ruleSharedIP:             "hostNetwork: two Pods share an address",
	ruleBothFamilies:         "dual stack: both have both families",
	ruleOneFamilyOfPod:       "dual stack: the Pod lacks a family of the Service",
	ruleOneFamilyOfService:   "dual stack: the Service lacks a family of the Pod",
	ruleNoFamilyInCommon:     "no family in common",
	ruleOtherOrder:           "Pod and Service have the families in different orders",
	ruleNamedPort:            "a named target port that the Pod has",
	ruleNamedPortAbsent:      "a named target port that the Pod lacks",
	ruleSidecarPort:          "a named target port of a sidecar",
	ruleNumericPort:          "a target port by number",
	ruleSeveralPorts:         "several ports",
	ruleNoPorts:              "headless without ports",
	ruleSelectorChanged:      "the selector changes",
	ruleLabelsChanged:        "a Pod's labels change",
	ruleOnePairMatches:       "a Pod matches one pair of the selector and not the other",
	ruleExternalName:         "ExternalName with a selector",
	ruleNoSelector:           "no selector",
	ruleManagedAgain:         "a Service gets its selector or type back",
	ruleServiceDeleted:       "a Service is deleted",
	ruleServiceReplaced:      "a Service is made anew under its name",
	rulePodReplaced:          "a Pod is made anew under its name",
	ruleNeverAdded:           "a Pod is deleted before it was ever published",
	ruleNodeMissing:          "a Pod on a node that does not exist",
	ruleNodeMissingPublished: "the same with publishNotReadyAddresses",
	ruleOver100:              "more than 100 endpoints",
	ruleMove:                 "a Pod moves between slices: shown by two, or by none for a moment",
	ruleMirrored:             "mirrored slices",
	ruleForeign:              "slices of another controller",
	ruleForged:               "slices in the controller's name that the Service does not own",
	ruleEdited:               "a slice edited by somebody",
	ruleSliceDeleted:         "a slice deleted by somebody",
	ruleStartup:              "differences from before the tracker looked",
	ruleTold:                 "a single event after which kube-controller-manager acts",
	ruleNotTold:              "a difference that kube-controller-manager is not told of",
	ruleOneFamilyShown:       "exception: one family of two is published already",
	ruleServiceTerminating:   "exception: a Service being deleted gets no new slices",
}

type ruleSet [ruleCount]bool

// examine marks the rules that decide about a Service's members as they are.
func (w *world) examine(s *corev1.Service) {
	mark := func(r rule, met bool) { w.rules[r] = w.rules[r] || met }
	if !managed(s) {
		shown := len(w.slicesOf(s.Name)) > 0 && len(w.pods) > 0
		mark(ruleExternalName, s.Spec.Type == corev1.ServiceTypeExternalName && s.Spec.Selector != nil && shown)
		mark(ruleNoSelector, s.Spec.Selector == nil && shown)
		w.unmanaged[s.Name] = true
		return
	}
	mark(ruleManagedAgain, w.unmanaged[s.Name])
	delete(w.unmanaged, s.Name)
	pods := w.selected(s)
	mark(ruleOver100, len(pods) > 100)
	for _, p := range pods[:min(len(pods), 10)] {
		w.examinePod(s, p, mark)
	}
	for _, p := range w.pods {
		if len(s.Spec.Selector) == 2 {
			app, tier := p.Labels["app"] == s.Spec.Selector["app"], p.Labels["tier"] == s.Spec.Selector["tier"]
			mark(ruleOnePairMatches, app != tier)
		}
		mark(ruleFlipBack, w.flips[p.UID] > 1)
	}
	for _, slice := range w.slices {
		if slice.Labels[discoveryv1.LabelServiceName] == s.Name && len(slice.Endpoints) > 0 {
			by := slice.Labels[discoveryv1.LabelManagedBy]
			mark(ruleMirrored, by == mirroringController)
			mark(ruleForeign, by != mirroringController && by != sliceController)
		}
	}
}

func (w *world) examinePod(s *corev1.Service, p *corev1.Pod, mark func(rule, bool)) {
	ready, addressed := endpointutil.IsPodReady(p), len(p.Status.PodIPs) > 0
	terminating := p.DeletionTimestamp != nil
	i := slices.IndexFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady })
	mark(ruleConditionMissing, i < 0 && addressed)
	mark(ruleConditionUnknown, i >= 0 && p.Status.Conditions[i].Status == corev1.ConditionUnknown && addressed)
	mark(ruleReadinessGate, len(p.Spec.ReadinessGates) > 0 && !ready && addressed &&
		slices.Contains(p.Status.Conditions, corev1.PodCondition{Type: corev1.ContainersReady, Status: corev1.ConditionTrue}))
	mark(ruleServingTerminating, terminating && ready && addressed)
	mark(ruleTerminatingNotReady, terminating && !ready && addressed)
	mark(rulePublishNotReady, s.Spec.PublishNotReadyAddresses && addressed && (!ready || terminating))
	mark(ruleSucceeded, p.Status.Phase == corev1.PodSucceeded && addressed)
	mark(ruleFailed, p.Status.Phase == corev1.PodFailed && addressed)
	mark(rulePending, p.Status.Phase == corev1.PodPending && addressed)
	mark(ruleNoIP, !addressed && ready)
	mark(ruleSharedIP, p.Spec.HostNetwork && addressed)
	missing := w.nodes[p.Spec.NodeName] == nil
	mark(ruleNodeMissing, missing && !s.Spec.PublishNotReadyAddresses && ready && addressed)
	mark(ruleNodeMissingPublished, missing && s.Spec.PublishNotReadyAddresses && addressed)
	examineFamilies(s, p, mark)
	examinePorts(s, p, mark)
}

func examineFamilies(s *corev1.Service, p *corev1.Pod, mark func(rule, bool)) {
	if len(p.Status.PodIPs) == 0 || !endpointutil.IsPodReady(p) {
		return
	}
	var has []corev1.IPFamily
	for _, ip := range p.Status.PodIPs {
		has = append(has, familyOf(ip.IP))
		mark(ruleOddIP, slices.Contains(oddForms, ip.IP))
	}
	wants := s.Spec.IPFamilies
	common := slices.ContainsFunc(has, func(f corev1.IPFamily) bool { return slices.Contains(wants, f) })
	mark(ruleBothFamilies, len(has) == 2 && len(wants) == 2)
	mark(ruleOneFamilyOfPod, len(has) == 1 && len(wants) == 2)
	mark(ruleOneFamilyOfService, len(has) == 2 && len(wants) == 1)
	mark(ruleNoFamilyInCommon, !common)
	mark(ruleOtherOrder, len(has) == 2 && has[0] != wants[0])
}

func examinePorts(s *corev1.Service, p *corev1.Pod, mark func(rule, bool)) {
	if !endpointutil.IsPodReady(p) || len(p.Status.PodIPs) == 0 {
		return
	}
	mark(ruleNoPorts, len(s.Spec.Ports) == 0)
	mark(ruleSeveralPorts, len(s.Spec.Ports) > 1)
	for _, port := range s.Spec.Ports {
		if port.TargetPort.Type == intstr.Int {
			mark(ruleNumericPort, true)
			continue
		}
		finds := func(c corev1.Container) bool {
			return slices.ContainsFunc(c.Ports, func(x corev1.ContainerPort) bool {
				return x.Name == port.TargetPort.StrVal && x.Protocol == port.Protocol
			})
		}
		inContainer := slices.ContainsFunc(p.Spec.Containers, finds)
		inSidecar := slices.ContainsFunc(p.Spec.InitContainers, func(c corev1.Container) bool {
			return c.RestartPolicy != nil && finds(c)
		})
		mark(ruleNamedPort, inContainer)
		mark(ruleSidecarPort, inSidecar && !inContainer)
		mark(ruleNamedPortAbsent, !inContainer && !inSidecar)
	}
}

// settled forgets what the rules look back to.
func (w *world) settled() {
	w.happened, w.rearranged = 0, false
	w.flips = map[types.UID]int{}
}
