package watch

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// historiesVariable overrides how many histories are tried; the mutants need fewer.
	historiesVariable = "DESIRED_HISTORIES"
	// histories is how many are tried otherwise, and minPerRule how many of them exercise each rule.
	histories, minPerRule = 20_000, 500
	// syncsPerHistory is how often kube-controller-manager acts in one.
	syncsPerHistory = 6
	// unexplained begins the message of every difference.
	unexplained = "unexplained difference"
)

// TestDesiredMembershipIsTheReconcilers feeds random histories of objects to the EndpointSlice reconciler that
// kube-controller-manager runs and to ours, and lets both say before and after every sync which Pods are ready where.
func TestDesiredMembershipIsTheReconcilers(t *testing.T) {
	n := histories
	if text := os.Getenv(historiesVariable); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var counts [ruleCount]int
	const parts = 2
	t.Run("histories", func(t *testing.T) {
		for part := range parts {
			t.Run(fmt.Sprint("part ", part), func(t *testing.T) {
				t.Parallel()
				for i := part; i < n && !t.Failed(); i += parts {
					h := newHistory(rand.New(rand.NewPCG(1, uint64(i))), syncsPerHistory)
					result := play(h)
					if result.err != nil {
						h = shrink(h)
						t.Errorf("history %d: %v\nshrunk to:\n%s", i, result.err, play(h))
					}
					mu.Lock()
					for r, met := range result.rules {
						if met {
							counts[r]++
						}
					}
					mu.Unlock()
				}
			})
		}
	})
	report(t, counts, n)
}

// report prints in how many histories each rule decided, and fails if that is too few.
func report(t *testing.T, counts [ruleCount]int, n int) {
	t.Helper()
	var table strings.Builder
	for r, count := range counts {
		fmt.Fprintf(&table, "%6d  %s\n", count, ruleNames[r])
		if n >= histories && count < minPerRule && !t.Failed() {
			t.Errorf("%q decided in %d histories, want %d", ruleNames[r], count, minPerRule)
		}
	}
	t.Logf("of %d histories, how many exercised each rule:\n%s", n, table.String())
}

// played is what came of a history.
type played struct {
	rules ruleSet
	said  []string
	err   error
}

func (p played) String() string { return fmt.Sprintf("  %s\n%v", strings.Join(p.said, "\n  "), p.err) }

// play lets a history happen until its end or the first difference.
func play(h history) (out played) {
	w := newWorld(h.perSlice)
	out.said = append(out.said, fmt.Sprint("at most ", h.perSlice, " endpoints in a slice"))
	for _, s := range h.steps {
		said := s.do(w, &dice{x: s.x})
		if said == "" {
			continue
		}
		out.said = append(out.said, said)
		w.happened++
		if isSync(s) {
			if out.err = w.sync(&dice{x: s.x}); out.err != nil {
				break
			}
		}
	}
	out.rules = w.rules
	return out
}

func isSync(s happening) bool {
	return reflect.ValueOf(s.do).Pointer() == reflect.ValueOf(syncServices).Pointer()
}

// shrink leaves out steps for as long as a difference remains.
func shrink(h history) history {
	for again := true; again; {
		again = false
		for i := len(h.steps) - 1; i > 0; i-- { // The first node stays.
			less := h
			less.steps = slices.Delete(slices.Clone(h.steps), i, i+1)
			if play(less).err != nil {
				h, again = less, true
			}
		}
	}
	return h
}

// sync does what kube-controller-manager would do now for each Service, and compares before and after.
func (w *world) sync(d *dice) error {
	names := []string{"service-0", "service-1"}
	if d.percent(50) {
		slices.Reverse(names)
	}
	for _, name := range names {
		if err := w.syncService(name); err != nil {
			return fmt.Errorf("%s, %s: %w", unexplained, name, err)
		}
	}
	w.settled()
	return nil
}

func (w *world) syncService(name string) error {
	s := w.services[name]
	if s == nil && !w.gone[name] {
		return nil
	}
	if s != nil {
		w.examine(s)
	}
	writes, retry := w.reconcile(s)
	shown := shownBy(w.slicesOf(name))
	desired := shown
	if managed(s) {
		desired = w.desired(s, writes)
	}
	before := w.view(name)
	if err := errors.Join(w.compare(before, desired, shown), w.compareClass(name, before)); err != nil {
		return fmt.Errorf("before the reconciler acted: %w", err)
	}
	if !w.queued[name] {
		w.unsettled[name] = wrongs(desired, shown) != view{}
		w.rules[ruleNotTold] = w.rules[ruleNotTold] || w.unsettled[name]
		return nil
	}
	w.queued[name] = retry != nil // It tries again by itself.
	drifts := before.drift + w.driftOf(name, desired, writes)
	for _, x := range writes {
		w.apply(x)
	}
	shown = shownBy(w.slicesOf(name))
	w.unsettled[name] = wrongs(desired, shown) != view{} || retry != nil
	after := w.view(name)
	if err := w.compare(after, desired, shown); err != nil {
		return fmt.Errorf("after the reconciler acted: %w", err)
	}
	if w.begun && after.drift != drifts {
		return fmt.Errorf("after the reconciler acted: %d drifts, want %d", after.drift, drifts)
	}
	return nil
}

// desired is what the reconciler wants the slices to show.
func (w *world) desired(s *corev1.Service, writes []write) membership {
	out := shownBy(w.after(s.Name, writes))
	if s.DeletionTimestamp == nil {
		return out
	}
	// It makes no new slices for a Service that is being deleted. We want them all the same: nobody has told the clients.
	lasting := s.DeepCopy()
	lasting.DeletionTimestamp = nil
	writes, _ = w.reconcile(lasting)
	all := shownBy(w.after(s.Name, writes))
	w.rules[ruleServiceTerminating] = w.rules[ruleServiceTerminating] || !equal(all, out)
	return all
}

// compare holds what the tracker says of a Service against what is wanted and shown.
func (w *world) compare(got view, desired, shown membership) error {
	if !w.begun {
		return nil
	}
	want := wrongs(desired, shown)
	for uid, ips := range desired {
		one := conforms(ips, shown[uid]) && !slices.Equal(ips, shown[uid])
		w.rules[ruleOneFamilyShown] = w.rules[ruleOneFamilyShown] || one
	}
	if got.missing != want.missing || got.stale != want.stale {
		return fmt.Errorf("the tracker has %d missing and %d stale, want %d and %d; desired %v, shown %v",
			got.missing, got.stale, want.missing, want.stale, desired, shown)
	}
	if !got.addsUp {
		return fmt.Errorf("the classes do not add up: %+v", got)
	}
	if want.missing+want.stale == 0 && got.open > 0 {
		return fmt.Errorf("%d open changes, want none", got.open)
	}
	return nil
}

// wrongs counts the Pods that are not shown as they should be.
func wrongs(desired, shown membership) (out view) {
	for uid, ips := range desired {
		if !conforms(ips, shown[uid]) {
			out.missing++
		}
	}
	for uid := range shown {
		if len(desired[uid]) == 0 {
			out.stale++
		}
	}
	return out
}

// compareClass asks, after a single event, whether kube-controller-manager's own handlers were moved to act by it: then
// every difference is an open change, else none is.
func (w *world) compareClass(name string, got view) error {
	const eventAndSync = 2
	if !w.begun || w.happened != eventAndSync || w.rearranged || w.unsettled[name] {
		return nil
	}
	want := 0
	if w.queued[name] {
		want = got.missing + got.stale
		w.rules[ruleTold] = w.rules[ruleTold] || want > 0
	}
	if got.open != want {
		return fmt.Errorf("after one event, acted on: %v, %d of %d differences are open changes, want %d",
			w.queued[name], got.open, got.missing+got.stale, want)
	}
	return nil
}

// conforms is the rule that closes a change: an address of the Pod is shown and none that it does not have. So a Pod of
// which one family is published counts as published, while the reconciler still adds the other.
func conforms(want, shown []string) bool {
	if len(want) == 0 || len(shown) == 0 {
		return len(want) == len(shown)
	}
	return !slices.ContainsFunc(shown, func(ip string) bool { return !slices.Contains(want, ip) })
}

// driftOf is how often the writes, one by one, make a Pod wrong that was right: a slice is written without the Pod before
// the one that it moves to is written with it.
func (w *world) driftOf(name string, desired membership, writes []write) int {
	drifts, was := 0, shownBy(w.slicesOf(name))
	for i := range writes {
		is := shownBy(w.after(name, writes[:i+1]))
		all := map[types.UID]bool{}
		for _, m := range []membership{desired, was, is} {
			for uid := range m {
				all[uid] = true
			}
		}
		for uid := range all {
			if conforms(desired[uid], was[uid]) && !conforms(desired[uid], is[uid]) {
				drifts++
				w.rules[ruleMove] = true
			}
			w.rules[ruleMove] = w.rules[ruleMove] || len(is[uid]) > len(desired[uid]) && len(was[uid]) == len(desired[uid])
		}
		was = is
	}
	return drifts
}

func equal(a, b membership) bool { return maps.EqualFunc(a, b, slices.Equal[[]string]) }
