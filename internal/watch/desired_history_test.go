package watch

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	{20, flipReady},
	{5, loseCondition},
	{5, blockByGate},
	{8, terminate},
	{9, changePhase},
	{12, changeIPs},
	{5, addFamily},
	{8, relabel},
	{9, createPod},
	{6, deletePod},
	{3, comeAndGo},
	{5, replacePod},
	{3, createService},
	{2, deleteService},
	{3, replaceService},
	{5, changeSelector},
	{5, togglePublish},
	{5, changeFamilies},
	{7, changeType},
	{5, dropSelector},
	{8, changePorts},
	{9, toggleNode},
	{6, foreignSlice},
	{3, forgeSlice},
	{4, editSlice},
	{3, removeSlice},
	{14, terminateService},
	{3, flipTwice},
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
	w.tellNode(w.nodes[name])
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
