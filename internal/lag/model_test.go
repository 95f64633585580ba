package lag

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// model is the tracker's meaning written down without any index: after every event it derives all cells anew from the
// objects and compares them with those before.
type model struct {
	synced    bool
	pods      map[string]Pod
	services  map[string]Service
	lives     map[string]int // how often a managed Service of that name ended
	slices    map[string]Slice
	endpoints map[string]Endpoints
	cells     map[modelKey]modelCell
	state     map[modelKey]modelState
	changes   []*modelChange
	vacant    [][2]time.Time
}

type modelKey struct {
	service string
	life    int
	uid     string
	in      Resource
}

type modelCell struct {
	managed, cut bool
	want, shown  []string
}

type modelState struct {
	fresh   bool
	pending *modelChange
}

type modelChange struct {
	service   string
	in        Resource
	direction Direction
	at, end   time.Time // end is zero while it stands
	class     Class
}

func newModel() *model {
	return &model{
		pods: map[string]Pod{}, services: map[string]Service{}, lives: map[string]int{}, slices: map[string]Slice{},
		endpoints: map[string]Endpoints{}, cells: map[modelKey]modelCell{}, state: map[modelKey]modelState{},
	}
}

func (c modelCell) conforms() bool {
	if len(c.want) == 0 {
		return len(c.shown) == 0
	}
	for _, ip := range c.shown {
		if !slices.Contains(c.want, ip) {
			return false
		}
	}
	return len(c.shown) > 0
}

func (c modelCell) direction() Direction {
	if len(c.want) == 0 {
		return DirectionRemoval
	}
	return DirectionAddition
}

func (m *model) derive() map[modelKey]modelCell {
	out := map[modelKey]modelCell{}
	update := func(service, uid string, in Resource, change func(*modelCell)) {
		key := modelKey{service, m.lives[service], uid, in}
		c := out[key]
		c.managed, c.cut = m.about(key)
		change(&c)
		out[key] = c
	}
	for _, s := range m.services {
		for _, p := range m.pods {
			for _, in := range resources {
				if want := m.want(s, p, in); len(want) > 0 {
					update(s.Name, p.UID, in, func(c *modelCell) { c.want = want })
				}
			}
		}
	}
	show := func(service string, in Resource, ready []Address) {
		unique := map[Address]bool{}
		for _, a := range ready {
			unique[a] = true
		}
		for a := range unique {
			update(service, a.PodUID, in, func(c *modelCell) {
				c.shown = append(c.shown, a.IP)
				slices.Sort(c.shown)
			})
		}
	}
	for _, s := range m.slices {
		show(s.Service, ResourceEndpointSlice, s.Ready)
	}
	for _, e := range m.endpoints {
		show(e.Name, ResourceEndpoints, e.Ready)
	}
	return out
}

func (m *model) about(key modelKey) (managed, cut bool) {
	managed = len(m.services[key.service].Selector) > 0
	return managed, key.in == ResourceEndpoints && m.endpoints[key.service].OverCapacity
}

func (m *model) want(s Service, p Pod, in Resource) []string {
	if len(s.Selector) == 0 || !p.Included || (!s.PublishNotReady && (!p.Ready || p.Terminating)) {
		return nil
	}
	for k, v := range s.Selector {
		if p.Labels[k] != v {
			return nil
		}
	}
	if in == ResourceEndpoints && len(s.NeedsPort) > 0 && !slices.Contains(p.PortNames, s.NeedsPort[0]) {
		return nil
	}
	var out []string
	for _, ip := range p.IPs {
		switch {
		case len(s.Families) == 0, in == ResourceEndpoints && familyOf(ip) == s.Families[0],
			in == ResourceEndpointSlice && slices.Contains(s.Families, familyOf(ip)):
			out = append(out, ip)
		}
	}
	return out
}

// step compares the cells with those before the event.
func (m *model) step(at time.Time) {
	before, after := m.cells, m.derive()
	m.cells = after
	keys := maps.Clone(after)
	maps.Copy(keys, before)
	ended := map[modelKey]bool{} // a Service that begins anew inherits what is shown
	for key := range before {
		ended[key] = key.life != m.lives[key.service]
	}
	for key := range keys {
		was, is := before[key], after[key]
		is.managed, is.cut = m.about(key)
		state := m.state[key]
		if key.life != m.lives[key.service] { // the Service ended
			state.finish(Superseded, at)
			delete(m.state, key)
			continue
		}
		if is.cut && !was.cut {
			state.finish(OverCapacity, at)
		}
		if !slices.Equal(was.want, is.want) {
			m.wantChanged(key, is, &state, at)
		}
		inherited := key.life > 0 && ended[modelKey{key.service, key.life - 1, key.uid, key.in}]
		if !slices.Equal(was.shown, is.shown) && !inherited {
			m.shownChanged(key, is, &state, at)
		}
		m.state[key] = state
	}
}

func (s *modelState) finish(c Class, at time.Time) {
	if s.pending == nil {
		return
	}
	if s.pending.class == Open {
		s.pending.class = c
	}
	s.pending.end = at
	if at.Before(s.pending.at) {
		s.pending.end = s.pending.at
	}
	s.pending = nil
}

func (m *model) open(key modelKey, c modelCell, class Class, at time.Time) *modelChange {
	change := &modelChange{service: key.service, in: key.in, direction: c.direction(), at: at, class: class}
	m.changes = append(m.changes, change)
	return change
}

func (m *model) wantChanged(key modelKey, c modelCell, state *modelState, at time.Time) {
	if !m.synced {
		return
	}
	if p := state.pending; p != nil && p.class == Drift && c.conforms() && state.fresh && !c.cut {
		m.changes = slices.DeleteFunc(m.changes, func(o *modelChange) bool { return o == p })
	}
	fresh := state.fresh
	state.fresh = false
	state.finish(Superseded, at)
	switch {
	case c.cut:
		m.open(key, c, OverCapacity, at).end = at
	case !c.conforms():
		state.pending = m.open(key, c, Open, at)
	case fresh:
		m.open(key, c, Closed, at).end = at
	default:
		m.open(key, c, NotNeeded, at).end = at
	}
}

func (m *model) shownChanged(key modelKey, c modelCell, state *modelState, at time.Time) {
	state.fresh = true
	switch {
	case !m.synced || !c.managed:
	case c.conforms():
		state.finish(Closed, at)
	case state.pending == nil && !c.cut:
		state.pending = m.open(key, c, Drift, at)
	}
}

func (m *model) sync(at time.Time) {
	m.synced = true
	for key, c := range m.cells {
		state := modelState{}
		if c.managed && !c.conforms() && !c.cut {
			state.pending = m.open(key, c, Startup, at)
		}
		m.state[key] = state
	}
}

func (m *model) endService(name string) {
	if len(m.services[name].Selector) > 0 {
		m.lives[name]++
	}
}

// stat counts the changes of a window one by one.
func (m *model) stat(in Resource, d Direction, q Query) Stat {
	out := Stat{Resource: in, Direction: d}
	type sample struct {
		lag  time.Duration
		open bool
	}
	var samples []sample
	for _, c := range m.changes {
		if c.in != in || (d != DirectionAny && c.direction != d) || c.at.Before(q.Since) || c.at.After(q.Now) {
			continue
		}
		class, end := c.class, c.end
		standing := end.IsZero() || end.After(q.Now)
		if standing {
			end = q.Now
			if class == Closed || class == Superseded {
				class = Open
			}
		}
		lag := end.Sub(c.at)
		open := class == Open
		for _, v := range m.vacant {
			if (class == Open || class == Closed) && !v[0].After(end) && v[1].After(c.at) {
				class = HandOver
			}
		}
		if class == Open || class == Closed {
			samples = append(samples, sample{lag, open})
		}
		if open {
			out.OldestOpen = max(out.OldestOpen, lag)
		}
		out.count(class)
		if class != OverCapacity {
			out.WrongEndpointSeconds += lag.Seconds()
		}
	}
	slices.SortFunc(samples, func(a, b sample) int {
		return cmp.Or(cmp.Compare(a.lag, b.lag), cmp.Compare(map[bool]int{true: 1}[a.open], map[bool]int{true: 1}[b.open]))
	})
	rank := func(percent int) Quantile {
		if len(samples) == 0 {
			return Quantile{}
		}
		s := samples[int(math.Ceil(float64(percent*len(samples))/100))-1]
		return Quantile{s.lag, s.open}
	}
	out.P50, out.P90, out.P99, out.Max = rank(50), rank(90), rank(99), rank(100)
	return out
}

// world drives the tracker and the model with the same events.
type world struct {
	tracker *Tracker
	model   *model
	now     time.Time
}

var names = []string{"a", "b", "c", "d"}

func drawAddresses(t *rapid.T) []Address {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Address {
		return Address{rapid.SampledFrom([]string{"a0", "b0", "c0", "a1"}).Draw(t, "uid"), drawIP(t)}
	}), 0, 4).Draw(t, "ready")
}

func drawIP(t *rapid.T) string {
	return rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2", "fd00::1"}).Draw(t, "ip")
}

func (w *world) tick(t *rapid.T) {
	step := rapid.IntRange(-50, 3000).Draw(t, "step") // watches stamp independently: time may go back a little
	w.now = w.now.Add(time.Duration(step) * time.Millisecond)
}

func (w *world) setPod(t *rapid.T) {
	w.tick(t)
	name := rapid.SampledFrom(names[:3]).Draw(t, "pod")
	p := Pod{
		Namespace: "ns", Name: name, UID: name + rapid.SampledFrom([]string{"0", "0", "0", "1"}).Draw(t, "uid"),
		Labels:      map[string]string{"app": rapid.SampledFrom([]string{"x", "x", "y"}).Draw(t, "app"), "tier": "web"},
		IPs:         rapid.SliceOfNDistinct(rapid.Custom(drawIP), 1, 2, rapid.ID[string]).Draw(t, "ips"),
		Ready:       rapid.Bool().Draw(t, "ready"),
		Terminating: rapid.IntRange(0, 4).Draw(t, "terminating") == 0,
		Included:    rapid.IntRange(0, 6).Draw(t, "excluded") > 0,
		PortNames:   rapid.SampledFrom([][]string{{"TCP/http"}, nil}).Draw(t, "ports"),
	}
	w.tracker.SetPod(p, w.now)
	if old, ok := w.model.pods[name]; ok && old.UID != p.UID {
		delete(w.model.pods, name)
		w.model.step(w.now)
	}
	w.model.pods[name] = p
	w.model.step(w.now)
}

func (w *world) deletePod(t *rapid.T) {
	w.tick(t)
	name := rapid.SampledFrom(names[:3]).Draw(t, "pod")
	w.tracker.DeletePod("ns", name, w.now)
	delete(w.model.pods, name)
	w.model.step(w.now)
}

func (w *world) setService(t *rapid.T) {
	w.tick(t)
	selectors := []map[string]string{{"app": "x"}, {"app": "x", "tier": "web"}, {"app": "y"}, nil, {"tier": "web"}}
	s := Service{
		Namespace: "ns", Name: rapid.SampledFrom(names).Draw(t, "service"),
		Selector:        rapid.SampledFrom(selectors).Draw(t, "selector"),
		PublishNotReady: rapid.IntRange(0, 3).Draw(t, "publish") == 0,
		Families:        rapid.SampledFrom([][]Family{nil, {FamilyIPv4}, {FamilyIPv6, FamilyIPv4}}).Draw(t, "families"),
		NeedsPort:       rapid.SampledFrom([][]string{nil, nil, {"TCP/http"}}).Draw(t, "needs"),
	}
	w.tracker.SetService(s, w.now)
	if len(s.Selector) == 0 {
		w.model.endService(s.Name)
	}
	w.model.services[s.Name] = s
	w.model.step(w.now)
}

func (w *world) deleteService(t *rapid.T) {
	w.tick(t)
	name := rapid.SampledFrom(names).Draw(t, "service")
	w.tracker.DeleteService("ns", name, w.now)
	w.model.endService(name)
	delete(w.model.services, name)
	w.model.step(w.now)
}

func (w *world) setSlice(t *rapid.T) {
	w.tick(t)
	s := Slice{
		Namespace: "ns", Name: rapid.SampledFrom(names).Draw(t, "slice"),
		Service: rapid.SampledFrom(names).Draw(t, "service"), Ready: drawAddresses(t),
	}
	w.tracker.SetSlice(s, w.now)
	if old, ok := w.model.slices[s.Name]; ok && old.Service != s.Service {
		delete(w.model.slices, s.Name)
		w.model.step(w.now)
	}
	w.model.slices[s.Name] = s
	w.model.step(w.now)
}

func (w *world) deleteSlice(t *rapid.T) {
	w.tick(t)
	name := rapid.SampledFrom(names).Draw(t, "slice")
	w.tracker.DeleteSlice("ns", name, w.now)
	delete(w.model.slices, name)
	w.model.step(w.now)
}

// publish makes the published objects of one Service exactly as wanted, as kube-controller-manager would.
func (w *world) publish(t *rapid.T) {
	w.tick(t)
	name := rapid.SampledFrom(names).Draw(t, "service")
	var ready [2][]Address
	for key, c := range w.model.derive() {
		if key.service == name && len(c.want) > 0 {
			in := slices.Index(resources[:], key.in)
			ready[in] = append(ready[in], Address{key.uid, c.want[0]})
		}
	}
	for _, s := range w.model.slices {
		if s.Service == name {
			s.Ready = nil
			if s.Name == name {
				continue
			}
			w.model.slices[s.Name] = s
			w.tracker.SetSlice(s, w.now)
			w.model.step(w.now)
		}
	}
	s := Slice{Namespace: "ns", Name: "of-" + name, Service: name, Ready: ready[0]}
	w.tracker.SetSlice(s, w.now)
	w.model.slices[s.Name] = s
	w.model.step(w.now)
	w.putEndpoints(Endpoints{Namespace: "ns", Name: name, Ready: ready[1]})
}

func (w *world) setEndpoints(t *rapid.T) {
	w.tick(t)
	w.putEndpoints(Endpoints{
		Namespace: "ns", Name: rapid.SampledFrom(names).Draw(t, "service"), Ready: drawAddresses(t),
		OverCapacity: rapid.IntRange(0, 5).Draw(t, "over") == 0,
	})
}

func (w *world) putEndpoints(e Endpoints) {
	w.tracker.SetEndpoints(e, w.now)
	w.model.endpoints[e.Name] = e
	w.model.step(w.now)
}

func (w *world) deleteEndpoints(t *rapid.T) {
	w.tick(t)
	name := rapid.SampledFrom(names).Draw(t, "service")
	w.tracker.DeleteEndpoints("ns", name, w.now)
	delete(w.model.endpoints, name)
	w.model.step(w.now)
}

func (w *world) setLeader(t *rapid.T) {
	w.now = w.now.Add(time.Second)
	led := rapid.Bool().Draw(t, "led")
	w.tracker.SetLeader(led, w.now)
	last := len(w.model.vacant) - 1
	vacant := last >= 0 && w.model.vacant[last][1].Equal(epoch.AddDate(1, 0, 0))
	switch {
	case led && vacant:
		w.model.vacant[last][1] = w.now
	case !led && !vacant:
		w.model.vacant = append(w.model.vacant, [2]time.Time{w.now, epoch.AddDate(1, 0, 0)})
	}
}

func (w *world) sync(*rapid.T) {
	if w.model.synced {
		return
	}
	w.tracker.Synced(w.now)
	w.model.sync(w.now)
}

// check compares all rows of a window, and that the classes add up.
func (w *world) check(t *rapid.T) {
	q := Query{Now: w.now, Since: epoch.Add(-time.Hour)}
	if rapid.IntRange(0, 3).Draw(t, "part") == 0 {
		q.Since = epoch.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "since")) * time.Second)
		q.Now = q.Since.Add(time.Duration(rapid.IntRange(0, 30).Draw(t, "length")) * time.Second)
	}
	got := w.tracker.Summary(q)
	for _, in := range resources {
		for _, d := range []Direction{DirectionAny, DirectionAddition, DirectionRemoval} {
			s := got.Stat(in, d)
			if diff := gocmp.Diff(w.model.stat(in, d, q), s, cmpopts.EquateApprox(0, 1e-6)); diff != "" {
				t.Fatalf("%s %s in %v (-model +tracker):\n%s", in, d, q, diff)
			}
			sum := s.Closed + s.Open + s.Superseded + s.NotNeeded + s.Startup + s.HandOver + s.OverCapacity
			if s.Changes != sum {
				t.Fatalf("%s %s: %d changes, but the classes add up to %d", in, d, s.Changes, sum)
			}
		}
	}
}

func TestTrackerAgreesWithTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{tracker: NewTracker(Options{}), model: newModel(), now: epoch}
		actions := map[string]func(*rapid.T){
			"setPod": w.setPod, "setPod2": w.setPod, "setPod3": w.setPod, "deletePod": w.deletePod, "setService": w.setService,
			"deleteService": w.deleteService, "setSlice": w.setSlice, "deleteSlice": w.deleteSlice, "publish": w.publish,
			"publish2": w.publish, "setEndpoints": w.setEndpoints, "deleteEndpoints": w.deleteEndpoints,
			"setLeader": w.setLeader, "sync": w.sync, "": w.check,
		}
		for range rapid.IntRange(0, 10).Draw(t, "services") {
			w.setService(t)
		}
		t.Repeat(actions)
	})
}
