package play

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/hack/simulate/cluster"
)

// Family is a kind of scene.
type Family struct {
	Name string
	// Story says in one sentence what happens.
	Story string
	build func(b *builder)
}

// Scene returns the family's scene of a seed: the same for the same seed.
func (f Family) Scene(seed uint64) *Scene {
	name := uint64(0)
	for _, r := range f.Name {
		name = name*31 + uint64(r)
	}
	b := &builder{random: rand.New(rand.NewPCG(seed, name)), scene: &Scene{MaxLag: 5 * time.Second}}
	b.scene.Seed = seed*1_000_003 + name
	b.server()
	f.build(b)
	return b.done()
}

// Families are all there are.
func Families() []Family {
	return []Family{
		{"rolling-update", "one big Deployment behind a few Services is rolled out, again and again", rollingUpdate},
		{"thousand-services", "1,000 small Services change at once, every half hour or so", thousandServices},
		{"node-drain", "nodes are drained one after the other, and their Pods start elsewhere", nodeDrain},
		{"zone-failure", "a third of all Pods goes at once, comes back elsewhere, and moves back later", zoneFailure},
		{"steady-churn", "changes come at a rate that the defaults cannot sustain", steadyChurn},
		{"daily-pattern", "deployments at office hours for three days, and quiet nights", dailyPattern},
		{"cron-bursts", "jobs start and end together every ten minutes", cronBursts},
		{"oscillation", "ten busy and twenty quiet minutes, the loop's own periods, by turns", oscillation},
		{"slow-server", "the API server is slow whenever anything happens", slowServer},
		{"noisy-neighbour", "incidents, and namespaces deleted right after each: a raise speeds those up too", noisyNeighbour},
		{"flapping", "readiness probes flap", flapping},
		{"not-kcm", "watches are late, or a batch period delays: no flag of ours helps", notKCM},
		{"lying-metrics", "metrics are missing or wrong", lyingMetrics},
		{"operator-restarts", "the operator is restarted in the middle of it", operatorRestarts},
		{"leader-loss", "kube-controller-manager crashes while Pods change", leaderLoss},
	}
}

// builder makes a scene.
type builder struct {
	random *rand.Rand
	scene  *Scene
	raw    []cluster.Change // in any order; Ready is set in the end: each change of a Pod reverses it
}

// between draws evenly, logUniform evenly on a logarithmic scale.
func (b *builder) between(low, high float64) float64 { return low + (high-low)*b.random.Float64() }

func (b *builder) count(low, high int) int { return low + b.random.IntN(high-low+1) }

func (b *builder) logUniform(low, high float64) float64 {
	return low * math.Exp(b.random.Float64()*math.Log(high/low))
}

// server draws the API server and the watches.
func (b *builder) server() {
	t := &b.scene.Truth
	t.Base, t.Capacity = b.logUniform(0.002, 0.015), b.logUniform(350, 1200)
	t.Noise, t.Drift = b.between(0.2, 0.5), b.between(0.05, 0.25)
	t.Watch, t.Others = b.between(0.005, 0.04), b.between(0.2, 3)
}

// services adds so many Services with so many Pods each, and returns all those Pods.
func (b *builder) services(n, podsEach int) []int32 {
	var pods []int32
	for range n {
		for range podsEach {
			pods = append(pods, int32(len(b.scene.ServiceOf)))
			b.scene.ServiceOf = append(b.scene.ServiceOf, int32(b.scene.Services))
		}
		b.scene.Services++
	}
	return pods
}

func (b *builder) change(at float64, pod int32) {
	b.raw = append(b.raw, cluster.Change{At: at, Pod: pod})
}

// burst changes the Pods once each, in random order, over some seconds.
func (b *builder) burst(at, over float64, pods []int32) {
	for _, pod := range pods {
		b.change(at+b.random.Float64()*over, pod)
	}
}

// some chooses n of the Pods.
func (b *builder) some(pods []int32, n int) []int32 {
	chosen := slices.Clone(pods)
	b.random.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	return chosen[:min(n, len(chosen))]
}

// murmur changes single Pods at random, so many per minute.
func (b *builder) murmur(pods []int32, perMinute, until float64) {
	for at := b.random.ExpFloat64() * 60 / perMinute; at < until; at += b.random.ExpFloat64() * 60 / perMinute {
		b.change(at, pods[b.random.IntN(len(pods))])
	}
}

// closest is how soon a Pod changes again at the soonest.
const closest = 0.05

// done puts the changes in order and gives each its direction.
func (b *builder) done() *Scene {
	slices.SortStableFunc(b.raw, func(x, y cluster.Change) int {
		switch {
		case x.At < y.At:
			return -1
		case x.At > y.At:
			return 1
		}
		return 0
	})
	ready := make([]bool, len(b.scene.ServiceOf))
	seen := make([]float64, len(ready))
	for i := range ready {
		ready[i], seen[i] = true, -1
	}
	for _, c := range b.raw {
		if c.At-seen[c.Pod] < closest || c.At >= b.scene.End-60 || c.At < 1 {
			continue
		}
		ready[c.Pod], seen[c.Pod] = !ready[c.Pod], c.At
		c.Ready = ready[c.Pod]
		b.scene.Changes = append(b.scene.Changes, c)
	}
	return b.scene
}

// hour in seconds.
const hour = 3600.0

func rollingUpdate(b *builder) {
	b.scene.End = 3 * hour
	small := b.services(50, 2)
	b.murmur(small, 4, b.scene.End)
	for at := b.between(300, 900); at < b.scene.End-900; at += b.between(1800, 3000) {
		n, pace := b.count(300, 700), b.between(4, 15)
		for i, pod := range b.services(b.count(1, 3), n/2) { // new Pods come as old ones go
			b.change(at+float64(i)/pace, pod)
		}
	}
}

// incidents change most of so many Services at once, again and again. It returns when.
func (b *builder) incidents(services int, first float64, gap func() float64) []float64 {
	pods := b.services(services, 1)
	b.murmur(pods, 2, b.scene.End)
	var times []float64
	for at := first; at < b.scene.End-600; at += gap() {
		times = append(times, at)
		b.burst(at, b.between(4, 9), b.some(pods, int(float64(services)*b.between(0.85, 1))))
	}
	return times
}

func thousandServices(b *builder) {
	b.scene.End = 3 * hour
	b.incidents(b.count(850, 1150), b.between(200, 900), func() float64 { return b.between(1500, 2700) })
}

func nodeDrain(b *builder) {
	b.scene.MaxLag = 2 * time.Second
	b.scene.End = 3 * hour
	pods := b.services(b.count(300, 500), 3)
	b.murmur(pods, 5, b.scene.End)
	perNode := b.count(110, 220)
	for at := b.between(300, 900); at < b.scene.End-1500; at += b.between(2400, 3600) {
		then := at
		for range b.count(8, 12) {
			moved := b.some(pods, perNode)
			b.burst(then, b.between(2, 5), moved)
			b.burst(then+b.between(12, 25), b.between(5, 20), moved)
			then += b.between(40, 90)
		}
	}
}

func zoneFailure(b *builder) {
	b.scene.End = 2.5 * hour
	pods := b.services(b.count(500, 800), 4)
	b.murmur(pods, 5, b.scene.End)
	for at := b.between(600, 1800); at < b.scene.End-1800; at += b.between(3000, 4200) {
		zone := b.some(pods, len(pods)/3)
		b.burst(at, b.between(20, 40), zone)
		b.burst(at+b.between(90, 120), b.between(60, 180), zone)
	}
}

func steadyChurn(b *builder) {
	b.scene.End = 1 * hour
	pods := b.services(b.count(500, 900), 2)
	busy, rate := b.between(300, 600), b.between(23, 29)
	b.murmur(pods, 60*b.between(2, 6), busy)
	lasts := b.between(500, 700)
	for at := busy; at < busy+lasts; at += b.random.ExpFloat64() / rate {
		b.change(at, pods[b.random.IntN(len(pods))])
	}
}

func dailyPattern(b *builder) {
	b.scene.End = 72 * hour
	pods := b.services(b.count(500, 700), 1)
	b.murmur(pods, 0.3, b.scene.End)
	for day := range 3 {
		for range b.count(5, 8) {
			at := (float64(day)*24 + b.between(9, 18)) * hour
			b.burst(at, b.between(5, 15), b.some(pods, b.count(320, 650)))
		}
	}
}

func cronBursts(b *builder) {
	b.scene.End = 3 * hour
	pods := b.services(b.count(250, 400), 1)
	lasts := b.between(60, 150)
	for at := 600.0; at < b.scene.End-600; at += 600 {
		jobs := b.some(pods, b.count(180, 260))
		b.burst(at, b.between(1, 4), jobs)
		b.burst(at+lasts, b.between(3, 20), jobs)
	}
}

func oscillation(b *builder) {
	b.scene.End = 4 * hour
	pods := b.services(b.count(400, 600), 1)
	phase := b.between(0, 600)
	for period := 0; float64(period)*cooldown < b.scene.End-cooldown; period++ {
		at := float64(period)*cooldown + phase + 300
		size := b.count(320, 400)
		if period%2 == 1 {
			size = b.count(40, 90)
		}
		for range 3 {
			b.burst(at, b.between(3, 6), b.some(pods, size))
			at += b.between(150, 200)
		}
	}
}

func slowServer(b *builder) {
	b.scene.End = 2 * hour
	for _, at := range b.incidents(b.count(450, 700), b.between(200, 900), func() float64 { return b.between(1500, 2700) }) {
		// Slower than the rate limit by far: what the defaults send is more than it takes.
		factor := b.scene.Capacity / b.between(5, 9)
		b.scene.Slow = append(b.scene.Slow, cluster.Spell{From: at - 5, To: at + b.between(200, 300), Factor: factor})
	}
}

func noisyNeighbour(b *builder) {
	b.scene.End = 3 * hour
	b.scene.Capacity = b.logUniform(600, 1500)
	for _, at := range b.incidents(b.count(600, 1000), b.between(200, 900), func() float64 { return b.between(1500, 2700) }) {
		storm := cluster.Storm{At: at + b.between(90, 400), Requests: b.logUniform(10_000, 100_000)}
		b.scene.Storms = append(b.scene.Storms, storm)
		pods := make([]int32, b.count(250, 450)) // Some of the same Services change in the middle of it.
		for i := range pods {
			pods[i] = int32(i)
		}
		b.burst(storm.At+b.between(2, 10), b.between(5, 30), pods)
	}
}

func flapping(b *builder) {
	b.scene.MaxLag = 2 * time.Second
	b.scene.End = 2 * hour
	pods := b.services(b.count(250, 400), 2)
	b.murmur(pods, 5, b.scene.End)
	for at := b.between(300, 900); at < b.scene.End-1200; at += b.between(1500, 2700) {
		until := at + b.between(60, 150)
		for _, pod := range b.some(pods, b.count(100, 250)) {
			for then := at + b.random.Float64()*10; then < until; then += b.between(2, 14) {
				b.change(then, pod)
			}
		}
	}
}

func notKCM(b *builder) {
	b.scene.End = 2 * hour
	pods := b.services(b.count(300, 500), 2)
	late := b.random.IntN(2) == 0
	if !late {
		period := b.between(6, 9)
		b.scene.SliceBatch, b.scene.EndpointsBatch = period, period
	}
	for at := b.between(200, 900); at < b.scene.End-900; at += b.between(1500, 2700) {
		lasts, rate := b.between(60, 120), b.between(5, 10)
		for then := at; then < at+lasts; then += b.random.ExpFloat64() / rate {
			b.change(then, pods[b.random.IntN(len(pods))])
		}
		if late {
			b.scene.Deaf = append(b.scene.Deaf, cluster.Spell{From: at - 5, To: at + lasts + 5, Factor: b.between(7, 12)})
		}
	}
}

func lyingMetrics(b *builder) {
	thousandServices(b)
	b.scene.Senses = Senses(b.random.IntN(int(sensesCount-1)) + 1)
}

func operatorRestarts(b *builder) {
	thousandServices(b)
	first := b.scene.firstBurst(b)
	b.scene.OperatorRestarts = append(b.scene.OperatorRestarts, first+b.between(2, 60), first+b.between(65, 120))
	for at := first + b.between(600, 1800); at < b.scene.End; at += b.between(600, 3600) {
		b.scene.OperatorRestarts = append(b.scene.OperatorRestarts, at)
	}
}

// firstBurst is when more than a hundred changes first come within ten seconds.
func (s *Scene) firstBurst(b *builder) float64 {
	times := make([]float64, 0, len(b.raw))
	for _, c := range b.raw {
		times = append(times, c.At)
	}
	slices.Sort(times)
	for i := 100; i < len(times); i++ {
		if times[i]-times[i-100] < 10 {
			return times[i-100]
		}
	}
	return s.End / 2
}

func leaderLoss(b *builder) {
	b.scene.End = 3 * hour
	pods := b.services(b.count(300, 500), 2)
	b.murmur(pods, 5, b.scene.End)
	for at := b.between(200, 900); at < b.scene.End-900; at += b.between(1200, 2400) {
		lasts, rate := b.between(60, 120), b.between(4, 8)
		for then := at; then < at+lasts; then += b.random.ExpFloat64() / rate {
			b.change(then, pods[b.random.IntN(len(pods))])
		}
		b.scene.LeaderCrashes = append(b.scene.LeaderCrashes, at+b.between(0.1, 0.8)*lasts)
	}
}
