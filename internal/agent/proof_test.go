package agent

import (
	"testing"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

var (
	oldProcess = process{Start: time.Unix(100, 0), Fingerprint: "old"}
	newProcess = process{Start: time.Unix(200, 0), Fingerprint: "new"}
	another    = process{Start: time.Unix(300, 0), Fingerprint: "another"}
)

// during is an observation that holds for a number of seconds, seen every 250 ms.
type during struct {
	seconds float64
	observation
}

// The observations that the tables are made of. Each is complete: nothing is left unknown.
func refused(s float64) during {
	return during{s, observation{Health: answerRefused, APIReachable: true}}
}

func silent(s float64) during {
	return during{s, observation{Health: answerSilent, APIReachable: true}}
}

func up(s float64, p process, flags v1alpha1.Flags) during {
	return during{s, observation{Health: answerGood, Process: p, FlagsKnown: true, Flags: flags, APIReachable: true, LeaseRenewal: "beats"}}
}

// with changes one thing about an observation.
func (d during) with(change func(*observation)) during {
	change(&d.observation)
	return d
}

func unhealthy(o *observation)  { o.Health = answerBad }
func noBeat(o *observation)     { o.LeaseRenewal = "stopped" }
func noStart(o *observation)    { o.Process.Start = time.Time{} }
func noIdentity(o *observation) { o.Process = process{Fingerprint: "from a file"} }

func noAPI(o *observation) {
	o.APIReachable, o.FlagsKnown, o.Flags, o.LeaseRenewal, o.Process.Start = false, false, v1alpha1.Flags{}, "", time.Time{}
}

const swapped = time.Hour

func trialOf(changes ...func(*trial)) trial {
	t := trial{
		Began: swapped, Watched: swapped, Deadline: swapped + 2*time.Minute, MinReady: 30 * time.Second, DownTimeout: 45 * time.Second,
		Old: oldProcess, OldWasUp: true, Want: asked, WantFlags: true, WantLeaseBeat: true,
	}
	for _, change := range changes {
		change(&t)
	}
	return t
}

// follow plays observations to a proof and returns its verdict and when it came, after the swap.
func follow(t trial, story []during) (verdict, time.Duration) {
	const step = 250 * time.Millisecond
	p, now := newProof(t), t.Watched
	var v verdict
	for beat, d := range story {
		for end := now + time.Duration(d.seconds*float64(time.Second)); now < end; {
			now += step
			d.At = now
			if d.LeaseRenewal == "beats" {
				d.LeaseRenewal = "beat"
				if now/(2*time.Second)%2 == 0 {
					d.LeaseRenewal = "another beat"
				}
				_ = beat
			}
			o := d.observation
			d.LeaseRenewal = story[beat].LeaseRenewal
			if p, v = p.step(o); v.done() {
				return v, now - t.Began
			}
		}
	}
	return v, now - t.Began
}

func TestProof(t *testing.T) {
	wrong := v1alpha1.DefaultFlags()
	tests := map[string]struct {
		trial  trial
		story  []during
		want   string // reason, "passed" or "" for a trial that goes on
		before time.Duration
	}{
		"a new process that shows everything passes after minReady": {
			trialOf(), []during{refused(11), up(60, newProcess, asked)}, "passed", 50 * time.Second,
		},
		"the old process answering for a while does no harm": {
			trialOf(), []during{up(20, oldProcess, wrong), refused(11), up(60, newProcess, asked)}, "passed", 70 * time.Second,
		},
		"a new process is told by its start time though nobody saw the old one go": {
			trialOf(), []during{up(1, oldProcess, wrong), up(60, process{Start: time.Unix(200, 0)}, asked)}, "passed", 40 * time.Second,
		},
		"a new process is told by its certificate": {
			trialOf(), []during{up(1, oldProcess, wrong), up(60, newProcess, asked).with(noStart)}, "passed", 40 * time.Second,
		},
		"a new process is told by the gap when nothing else tells": {
			trialOf(), []during{refused(11), up(60, newProcess, asked).with(noIdentity)}, "passed", 50 * time.Second,
		},
		"the old process alone proves nothing, whatever its flags": {
			trialOf(), []during{up(40, oldProcess, asked)}, "", 0,
		},
		"an old process that goes on answering was not picked up": {
			trialOf(), []during{up(100, oldProcess, asked)}, v1alpha1.ReasonNotPickedUp, 46 * time.Second,
		},
		"a process that never listens never started, 45 s after the old one": {
			trialOf(), []during{refused(100)}, v1alpha1.ReasonNeverStarted, 45500 * time.Millisecond,
		},
		"a kubelet that takes 40 s is waited for": {
			trialOf(), []during{refused(40), up(60, newProcess, asked)}, "passed", 80 * time.Second,
		},
		"two different new processes are a crash loop": {
			trialOf(), []during{refused(11), up(5, newProcess, asked), refused(10), up(5, another, asked)}, v1alpha1.ReasonCrashLooping, 27 * time.Second,
		},
		"a crash loop is seen without start times": {
			trialOf(),
			[]during{refused(11), up(5, newProcess, asked).with(noStart), refused(10), up(5, another, asked).with(noStart)},
			v1alpha1.ReasonCrashLooping, 27 * time.Second,
		},
		"a process that comes once and never again is a crash loop too": {
			trialOf(), []during{refused(11), up(1, newProcess, asked), refused(100)}, v1alpha1.ReasonCrashLooping, 60 * time.Second,
		},
		"a connection that is refused once does not make another process of the same one": {
			trialOf(), []during{refused(11), up(5, newProcess, asked), refused(0.25), up(60, newProcess, asked)}, "passed", 60 * time.Second,
		},
		"one that is never healthy is given up at the deadline": {
			trialOf(), []during{refused(11), up(200, newProcess, asked).with(unhealthy)}, v1alpha1.ReasonNeverHealthy, 121 * time.Second,
		},
		"one that flaps is never healthy": {
			trialOf(), flapping(200), v1alpha1.ReasonNeverHealthy, 121 * time.Second,
		},
		"health that breaks before minReady counts from anew": {
			trialOf(), []during{refused(11), up(20, newProcess, asked), up(1, newProcess, asked).with(unhealthy), up(20, newProcess, asked)}, "", 0,
		},
		"a process that hangs is given up at the deadline": {
			trialOf(), []during{refused(11), up(5, newProcess, asked), silent(200)}, v1alpha1.ReasonNeverHealthy, 121 * time.Second,
		},
		"wrong flags are told at the deadline": {
			trialOf(), []during{refused(11), up(200, newProcess, wrong)}, v1alpha1.ReasonWrongFlags, 121 * time.Second,
		},
		"flags that were not asked for do not matter": {
			trialOf(func(t *trial) { t.Want = v1alpha1.Flags{KubeAPIQPS: asked.KubeAPIQPS} }),
			[]during{refused(11), up(60, newProcess, asked)},
			"passed", 50 * time.Second,
		},
		"a Lease that nobody renews is told at the deadline": {
			trialOf(), []during{refused(11), up(200, newProcess, asked).with(noBeat)}, v1alpha1.ReasonNeverLeader, 121 * time.Second,
		},
		"without the API server nothing is concluded": {
			trialOf(), []during{refused(11), up(200, newProcess, asked).with(noAPI)}, v1alpha1.ReasonInconclusive, 121 * time.Second,
		},
		"a process that never starts needs no API server to be told": {
			trialOf(), []during{refused(100).with(noAPI)}, v1alpha1.ReasonNeverStarted, 46 * time.Second,
		},
		"a restart after health, with the API server dead, blames no value": {
			trialOf(),
			[]during{refused(11), up(10, newProcess, asked), refused(10).with(noAPI), up(5, another, asked).with(noAPI)},
			v1alpha1.ReasonInconclusive, 40 * time.Second,
		},
		"health proven just before the deadline may last beyond it": {
			trialOf(), []during{refused(11), up(104, newProcess, asked).with(unhealthy), up(60, newProcess, asked)}, "passed", 155 * time.Second,
		},
		"an agent that comes back late looks before it judges": {
			trialOf(func(t *trial) { t.Watched, t.Deadline = swapped+10*time.Minute, swapped+10*time.Minute+15*time.Second }),
			[]during{silent(1), up(60, newProcess, asked)},
			"passed", 11 * time.Minute,
		},
		"the old manifest's process passes as soon as it is healthy": {
			trialOf(patient), []during{refused(11), up(5, another, wrong).with(noAPI)}, "passed", 14 * time.Second,
		},
		"the rejected process does not pass for the old manifest's": {
			trialOf(patient), []during{up(100, oldProcess, wrong)}, "", 0,
		},
		"a process that cannot be told from the rejected one passes in the end": {
			trialOf(patient),
			[]during{up(50, process{Fingerprint: "old"}, wrong).with(func(o *observation) { o.Process.Start = time.Time{} })},
			"passed", 45 * time.Second,
		},
		"a roll-back is waited for until the deadline": {
			trialOf(patient), []during{refused(119)}, "", 0,
		},
		"a roll-back without any process fails at the deadline": {
			trialOf(patient), []during{refused(130)}, v1alpha1.ReasonNeverStarted, 121 * time.Second,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			v, at := follow(tt.trial, tt.story)
			got := v.Reason
			if v.Passed {
				got = "passed"
			}
			if got != tt.want || v.done() && at > tt.before {
				t.Errorf("verdict = %q (%s) after %s, want %q before %s", got, v.Message, at, tt.want, tt.before)
			}
			if blames := v.Reason != "" && v.Reason != v1alpha1.ReasonInconclusive && v.Reason != v1alpha1.ReasonNotPickedUp; v.Blame != blames {
				t.Errorf("verdict %s blames the values: %t, want %t", v.Reason, v.Blame, blames)
			}
		})
	}
}

func patient(t *trial) {
	t.Patient, t.AcceptAfter, t.WantFlags, t.WantLeaseBeat, t.MinReady, t.Want = true, 40*time.Second, false, false, 0, v1alpha1.Flags{}
}

// flapping is a process whose health changes every half second.
func flapping(seconds int) []during {
	story := []during{refused(11)}
	for range seconds {
		story = append(story, up(0.5, newProcess, asked), up(0.5, newProcess, asked).with(unhealthy))
	}
	return story
}

func TestAVerdictOnAProcessThatExitsAtOnceComesWithin45Seconds(t *testing.T) {
	v, at := follow(trialOf(func(t *trial) { t.DownTimeout = DefaultDownTimeout }), []during{refused(100)})
	if v.Reason != v1alpha1.ReasonNeverStarted || at > 45*time.Second {
		t.Errorf("verdict = %s after %s, want %s within 45s", v.Reason, at, v1alpha1.ReasonNeverStarted)
	}
}

// leaseOf is a look at the Lease some seconds after the swap, with a renewal for each second in which it is alive.
func leaseOf(holder, renewal string, at float64) observation {
	now := swapped + time.Duration(at*float64(time.Second))
	return observation{At: now, LeaseAt: now, APIReachable: true, Health: answerRefused, LeaseHolder: holder, LeaseRenewal: renewal}
}

func TestTheHandOverEndsWithAnySuccessor(t *testing.T) {
	unreachable := observation{At: swapped + time.Second, Health: answerRefused}
	tests := map[string]struct {
		looks []observation
		want  time.Duration
	}{
		"another node's process takes over before this node's new one answers": {
			[]observation{leaseOf("old", "1", 0.5), leaseOf("old", "1", 16.5), leaseOf("b", "2", 17), leaseOf("b", "3", 19)}, 17 * time.Second,
		},
		"the old process has given the Lease up": {
			[]observation{leaseOf("", "1", 0), leaseOf("b", "2", 1), leaseOf("b", "3", 3)}, time.Second,
		},
		"this node's new process takes over": {
			[]observation{leaseOf("old", "1", 0), leaseOf("a", "2", 31), leaseOf("a", "3", 33)}, 31 * time.Second,
		},
		"the first renewal is not waited for at the end": {
			[]observation{leaseOf("old", "1", 0), leaseOf("b", "2", 17)}, 17 * time.Second,
		},
		"one who never renews the Lease was no leader": {
			[]observation{leaseOf("old", "1", 0), leaseOf("b", "2", 17), leaseOf("c", "3", 34), leaseOf("c", "4", 36)}, 34 * time.Second,
		},
		"who succeeds the successor does not matter": {
			[]observation{leaseOf("old", "1", 0), leaseOf("b", "2", 17), leaseOf("b", "3", 19), leaseOf("c", "4", 40)}, 17 * time.Second,
		},
		"nobody takes over":                        {[]observation{leaseOf("old", "1", 0), leaseOf("old", "1", 60)}, 0},
		"the Lease cannot be read for a while":     {[]observation{leaseOf("old", "1", 0), unreachable, leaseOf("b", "2", 17)}, 17 * time.Second},
		"it was over before anybody looked":        {[]observation{unreachable, leaseOf("b", "2", 60), leaseOf("b", "3", 62)}, 0},
		"the old holder renews once more, late":    {[]observation{leaseOf("old", "1", 0), leaseOf("old", "2", 0.5), leaseOf("b", "3", 18)}, 18 * time.Second},
		"nobody looks":                             {nil, 0},
		"the Lease is deleted and made by another": {[]observation{leaseOf("old", "1", 0), leaseOf("", "", 5), leaseOf("b", "1", 6)}, 6 * time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			p := newProof(trialOf(func(t *trial) { t.Holder = "old" }))
			for _, o := range tt.looks {
				p, _ = p.step(o)
			}
			if got := p.leaderless(); got != tt.want {
				t.Errorf("nobody led for %s, want %s", got, tt.want)
			}
		})
	}
}

func TestWithoutTheOldHolderTheHandOverEndsWithARenewal(t *testing.T) {
	p := newProof(trialOf())
	for _, d := range []during{refused(11), up(20, newProcess, asked)} {
		for at := range 2 {
			d.At = swapped + time.Duration(11+at)*time.Second
			d.LeaseRenewal += "." // another one each time
			p, _ = p.step(d.observation)
		}
	}
	if got := p.leaderless(); got != 12*time.Second {
		t.Errorf("nobody led for %s, want it until the first renewal after the new process was seen, 12s", got)
	}
}

func TestTheLeaseIsReadOftenWhileItsHandOverIsTimed(t *testing.T) {
	led, standby := trialOf(func(t *trial) { t.Holder = "old" }), trialOf()
	for _, tt := range []struct {
		trial trial
		after time.Duration
		want  time.Duration
	}{
		{led, 0, handOverEvery},
		{led, 29 * time.Second, handOverEvery},
		{led, 30 * time.Second, leaseEvery},
		{standby, 0, leaseEvery},
	} {
		if got := tt.trial.leasePace(swapped + tt.after); got != tt.want {
			t.Errorf("%s after the swap, with the old holder %q, the Lease is read after %s, want %s", tt.after, tt.trial.Holder, got, tt.want)
		}
	}
}
