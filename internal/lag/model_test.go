package lag

import (
	"bytes"
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
	by        Kind // of the event that is being looked at
	acted     bool // kube-controller-manager looks at the Service because of it
	nodes     map[string]bool
	blind     [kindCount][][2]time.Time
	pods      map[string]Pod
	services  map[string]Service
	lives     map[string]int // how often a managed Service of that name ended
	slices    map[string]Slice
	endpoints map[string]Endpoints
	managed   map[string]bool // which Services were before the event
	cells     map[modelKey]modelCell
	state     map[modelKey]modelState
	changes   []*modelChange
	vacant    [][2]time.Time
}

type modelKey struct {
	service string
	life    int
	uid     UID
	in      Resource
}

type modelCell struct {
	managed, cut bool
	want, shown  []IP
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
	by        Kind
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
	update := func(service string, uid UID, in Resource, change func(*modelCell)) {
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
				slices.SortFunc(c.shown, func(a, b IP) int { return bytes.Compare(a[:], b[:]) })
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
	managed = !m.services[key.service].Selector.IsEmpty()
	return managed, key.in == ResourceEndpoints && m.endpoints[key.service].OverCapacity
}

func (m *model) want(s Service, p Pod, in Resource) []IP {
	if s.Selector.IsEmpty() || !p.Included || (!s.PublishNotReady && (!p.Ready || p.Terminating)) {
		return nil
	}
	for k, v := range s.Selector.All() {
		if p.Labels.Get(k) != v {
			return nil
		}
	}
	if in == ResourceEndpoints && !s.NeedsPort.IsEmpty() && s.NeedsPort != p.Ports {
		return nil
	}
	if in == ResourceEndpointSlice && !s.PublishNotReady && m.nodes != nil && !m.nodes[p.Node] {
		return nil
	}
	var out []IP
	for _, ip := range p.IPs {
		switch {
		case ip == IP{}:
		case len(s.Families) == 0, in == ResourceEndpoints && ip.Family() == s.Families[0],
			in == ResourceEndpointSlice && slices.Contains(s.Families, ip.Family()):
			out = append(out, ip)
		}
	}
	slices.SortFunc(out, func(a, b IP) int { return bytes.Compare(a[:], b[:]) })
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
		begins := is.managed && !m.managed[key.service]
		if m.synced && begins && len(is.want) == 0 && len(is.shown) > 0 && state.pending == nil && !is.cut {
			state.pending = m.open(key, is, Open, at)
		}
		m.state[key] = state
	}
	m.managed = map[string]bool{}
	for name, s := range m.services {
		m.managed[name] = !s.Selector.IsEmpty()
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
	change := &modelChange{service: key.service, in: key.in, direction: c.direction(), at: at, class: class, by: m.by}
	m.changes = append(m.changes, change)
	return change
}

func (m *model) wantChanged(key modelKey, c modelCell, state *modelState, at time.Time) {
	if !m.synced {
		return
	}
	if p := state.pending; p != nil && p.class == Drift && c.conforms() && state.fresh {
		m.changes = slices.DeleteFunc(m.changes, func(o *modelChange) bool { return o == p })
	}
	fresh := state.fresh
	state.fresh = false
	state.finish(Superseded, at)
	switch {
	case c.cut:
		m.open(key, c, OverCapacity, at).end = at
	case !c.conforms() && m.acted:
		state.pending = m.open(key, c, Open, at)
	case !c.conforms():
		state.pending = m.open(key, c, Unacted, at)
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
	m.synced, m.by = true, KindPod
	for key, c := range m.cells {
		state := modelState{}
		if c.managed && !c.conforms() && !c.cut {
			state.pending = m.open(key, c, Startup, at)
		}
		m.state[key] = state
	}
}

func (m *model) endService(name string) {
	if !m.services[name].Selector.IsEmpty() {
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
		lag, open := end.Sub(c.at), class == Open
		var marked, restarted bool
		if class == Open || class == Closed {
			class, lag, marked = m.judge(c, class, lag)
			restarted = m.restarted(c)
		}
		if class == Open || class == Closed {
			samples = append(samples, sample{lag, open})
			out.Marked += map[bool]int{true: 1}[marked]
			out.AfterRestart += map[bool]int{true: 1}[restarted]
		}
		if open && (class == Open || class == HandOver) {
			out.OldestOpen = max(out.OldestOpen, lag)
		}
		if class == Startup {
			out.OldestStartup = max(out.OldestStartup, lag)
			if standing {
				out.StartupOpen++
			}
		}
		out.count(class)
		if class != OverCapacity {
			out.WrongEndpointSeconds += lag.Seconds()
		}
	}
	slices.SortFunc(samples, func(a, b sample) int {
		return cmp.Or(cmp.Compare(a.lag, b.lag), cmp.Compare(map[bool]int{true: 1}[a.open], map[bool]int{true: 1}[b.open]))
	})
	rank := func(permille int) Quantile {
		if len(samples) == 0 {
			return Quantile{}
		}
		k := int(math.Ceil(float64(permille*len(samples)) / 1000))
		growing := 0
		for _, s := range samples[:k] {
			if s.open {
				growing++
			}
		}
		at := samples[k-1]
		lower := at.open || k+growing > len(samples) || samples[k+growing-1].lag > at.lag+at.lag/10
		return Quantile{at.lag, lower}
	}
	out.P50, out.P90, out.P99, out.P999, out.Max = rank(500), rank(900), rank(990), rank(999), rank(1000)
	return out
}

// judge looks at what the watches missed, and at who led.
func (m *model) judge(c *modelChange, class Class, lag time.Duration) (Class, time.Duration, bool) {
	if _, blind := around(m.blind[c.by], c.at); blind {
		return Gap, lag, false
	}
	published := map[Resource]Kind{ResourceEndpointSlice: KindSlice, ResourceEndpoints: KindEndpoints}[c.in]
	from, marked := around(m.blind[published], c.at.Add(lag))
	if marked && class == Open {
		lag = max(0, from.Sub(c.at))
	}
	for _, v := range m.vacant {
		if !v[0].After(c.at.Add(lag)) && v[1].After(c.at) {
			class = HandOver
		}
	}
	return class, lag, marked
}

// restarted says that the newest leader before a change was there for less than a minute.
func (m *model) restarted(c *modelChange) bool {
	for _, v := range slices.Backward(m.vacant) {
		if !v[1].After(c.at) {
			return c.at.Sub(v[1]) <= afterRestart
		}
	}
	return false
}

// around returns when the span began that holds a time.
func around(spans [][2]time.Time, at time.Time) (time.Time, bool) {
	for _, s := range slices.Backward(spans) {
		if !s[0].After(at) && !s[1].Before(at) {
			return s[0], true
		}
	}
	return time.Time{}, false
}

// world drives the tracker and the model with the same events.
type world struct {
	tracker *Tracker
	ended   map[Class]int // as told, both APIs
	model   *model
	now     time.Time
}

var names = []string{"a", "b", "c", "d"}

func drawAddresses(t *rapid.T) []Address {
	return rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) Address {
		return Address{ParseUID(rapid.SampledFrom([]string{"a0", "b0", "c0", "a1"}).Draw(t, "uid")), drawIP(t)}
	}), 0, 4, rapid.ID[Address]).Draw(t, "ready")
}

func drawIP(t *rapid.T) IP {
	return ParseIP(rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2", "fd00::1"}).Draw(t, "ip"))
}

func (w *world) tick(t *rapid.T) {
	step := rapid.IntRange(-50, 3000).Draw(t, "step") // watches stamp independently: time may go back a little
	w.now = w.now.Add(time.Duration(step) * time.Millisecond)
}

func (w *world) setPod(t *rapid.T) {
	w.tick(t)
	name := rapid.SampledFrom(names[:3]).Draw(t, "pod")
	p := Pod{
		Namespace: "ns", Name: name, UID: ParseUID(name + rapid.SampledFrom([]string{"0", "0", "0", "1"}).Draw(t, "uid")),
		Labels: LabelsOf(map[string]string{
			"app": rapid.SampledFrom([]string{"x", "x", "y"}).Draw(t, "app"), "tier": "web",
		}),
		Node:        rapid.SampledFrom([]string{"n", "n", "m"}).Draw(t, "node"),
		Ready:       rapid.Bool().Draw(t, "ready"),
		Terminating: rapid.IntRange(0, 4).Draw(t, "terminating") == 0,
		Included:    rapid.IntRange(0, 6).Draw(t, "excluded") > 0,
		Ports:       rapid.SampledFrom([]PortNames{NewPortNames("TCP/http"), {}}).Draw(t, "ports"),
	}
	copy(p.IPs[:], rapid.SliceOfNDistinct(rapid.Custom(drawIP), 1, 2, rapid.ID[IP]).Draw(t, "ips"))
	w.tracker.SetPod(p, w.now)
	w.model.by, w.model.acted = KindPod, true
	old, known := w.model.pods[name]
	if known && old.UID != p.UID {
		delete(w.model.pods, name)
		w.model.step(w.now)
	} else if known {
		w.model.acted = old.Ready != p.Ready || old.Labels != p.Labels || old.IPs != p.IPs || old.Terminating || p.Terminating
	}
	w.model.pods[name] = p
	w.model.step(w.now)
}

func (w *world) deletePod(t *rapid.T) {
	w.tick(t)
	name := rapid.SampledFrom(names[:3]).Draw(t, "pod")
	w.tracker.DeletePod("ns", name, w.now)
	w.model.by, w.model.acted = KindPod, true
	delete(w.model.pods, name)
	w.model.step(w.now)
}

func (w *world) setService(t *rapid.T) {
	w.tick(t)
	w.model.by, w.model.acted = KindService, true
	selectors := []Labels{
		appIs("x"), LabelsOf(map[string]string{"app": "x", "tier": "web"}), appIs("y"),
		{},
		LabelsOf(map[string]string{"tier": "web"}),
	}
	s := Service{
		Namespace: "ns", Name: rapid.SampledFrom(names).Draw(t, "service"),
		Selector:        rapid.SampledFrom(selectors).Draw(t, "selector"),
		PublishNotReady: rapid.IntRange(0, 3).Draw(t, "publish") == 0,
		Families:        rapid.SampledFrom([][]Family{nil, {FamilyIPv4}, {FamilyIPv6, FamilyIPv4}}).Draw(t, "families"),
		NeedsPort:       rapid.SampledFrom([]PortNames{{}, {}, NewPortNames("TCP/http")}).Draw(t, "needs"),
	}
	w.tracker.SetService(s, w.now)
	if s.Selector.IsEmpty() {
		w.model.endService(s.Name)
	}
	w.model.services[s.Name] = s
	w.model.step(w.now)
}

func (w *world) deleteService(t *rapid.T) {
	w.tick(t)
	name := rapid.SampledFrom(names).Draw(t, "service")
	w.tracker.DeleteService("ns", name, w.now)
	w.model.by, w.model.acted = KindService, true
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
	w.model.by = KindSlice
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
	w.model.by = KindSlice
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
			w.model.by = KindSlice
			w.model.step(w.now)
		}
	}
	s := Slice{Namespace: "ns", Name: "of-" + name, Service: name, Ready: ready[0]}
	w.tracker.SetSlice(s, w.now)
	w.model.by = KindSlice
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
	w.model.by = KindEndpoints
	w.model.endpoints[e.Name] = e
	w.model.step(w.now)
}

func (w *world) deleteEndpoints(t *rapid.T) {
	w.tick(t)
	name := rapid.SampledFrom(names).Draw(t, "service")
	w.tracker.DeleteEndpoints("ns", name, w.now)
	w.model.by = KindEndpoints
	delete(w.model.endpoints, name)
	w.model.step(w.now)
}

func (w *world) setLeader(t *rapid.T) {
	w.now = w.now.Add(time.Second)
	led := rapid.Bool().Draw(t, "led")
	w.tracker.SetLeader(led, w.now)
	w.model.vacant = vary(w.model.vacant, led, w.now)
}

func (w *world) setNode(t *rapid.T) {
	w.tick(t)
	w.model.by, w.model.acted = KindNode, false
	name := rapid.SampledFrom([]string{"n", "n", "m"}).Draw(t, "node")
	if rapid.Bool().Draw(t, "exists") {
		w.tracker.SetNode(name, w.now)
		if w.model.nodes == nil {
			w.model.nodes = map[string]bool{}
		}
		w.model.nodes[name] = true
	} else {
		w.tracker.DeleteNode(name, w.now)
		delete(w.model.nodes, name)
	}
	w.model.step(w.now)
}

func (w *world) setReceiving(t *rapid.T) {
	w.now = w.now.Add(time.Second)
	k := rapid.SampledFrom([]Kind{KindPod, KindService, KindSlice, KindEndpoints}).Draw(t, "kind")
	receiving := rapid.Bool().Draw(t, "receiving")
	w.tracker.SetReceiving(k, receiving, w.now)
	w.model.blind[k] = vary(w.model.blind[k], receiving, w.now)
}

// vary notes that something is or is no longer there.
func vary(spans [][2]time.Time, there bool, now time.Time) [][2]time.Time {
	endless := epoch.AddDate(1, 0, 0)
	last := len(spans) - 1
	missing := last >= 0 && spans[last][1].Equal(endless)
	switch {
	case there && missing:
		spans[last][1] = now
	case !there && !missing:
		spans = append(spans, [2]time.Time{now, endless})
	}
	return spans
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
			if diff := gocmp.Diff(w.model.stat(in, d, q), s, cmpopts.EquateApprox(0, 1e-6), cmpopts.IgnoreFields(Stat{}, "Episodes")); diff != "" {
				t.Fatalf("%s %s in %v (-model +tracker):\n%s", in, d, q, diff)
			}
			sum := s.Closed + s.Open + s.Superseded + s.NotNeeded + s.Startup + s.Gap + s.HandOver + s.OverCapacity + s.Unacted
			if s.Changes != sum {
				t.Fatalf("%s %s: %d changes, but the classes add up to %d", in, d, s.Changes, sum)
			}
		}
	}
}

// account requires that every outcome is either told of as ended, once, or stands and is in a total.
func (w *world) account(t *rapid.T) {
	var all, stands, open int
	var wrong float64
	for _, c := range w.model.changes {
		all++
		if c.end.IsZero() {
			stands++
			if c.class == Open {
				open++
			}
		}
	}
	told := 0
	for _, n := range w.ended {
		told += n
	}
	if told+stands != all {
		t.Fatalf("%d outcomes are told of and %d stand, want %d in all: %v", told, stands, all, w.ended)
	}
	for _, total := range w.tracker.Totals(w.now) {
		open -= total.Open
		wrong += total.WrongEndpointSeconds
	}
	if open != 0 {
		t.Fatalf("the totals lack %d open changes", open)
	}
	if wrong < 0 {
		t.Fatalf("%v wrong endpoint seconds", wrong)
	}
}

func TestTrackerAgreesWithTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{ended: map[Class]int{}, model: newModel(), now: epoch}
		w.tracker = NewTracker(Options{Ended: func(e Ended) { w.ended[e.Class]++ }})
		actions := map[string]func(*rapid.T){
			"setPod": w.setPod, "setPod2": w.setPod, "setPod3": w.setPod, "deletePod": w.deletePod, "setService": w.setService,
			"deleteService": w.deleteService, "setSlice": w.setSlice, "deleteSlice": w.deleteSlice, "publish": w.publish,
			"publish2": w.publish, "setEndpoints": w.setEndpoints, "deleteEndpoints": w.deleteEndpoints,
			"setLeader": w.setLeader, "setNode": w.setNode, "setReceiving": w.setReceiving, "sync": w.sync, "": w.check,
			"account": w.account,
		}
		for range rapid.IntRange(0, 10).Draw(t, "services") {
			w.setService(t)
		}
		t.Repeat(actions)
	})
}
