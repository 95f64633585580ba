package agent

import (
	"fmt"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

const (
	// goodInARow is how often /healthz must be good in a row, so that a process that flaps is not taken for healthy.
	goodInARow = 5
)

// answer is how /healthz answered.
type answer int

const (
	answerSilent  answer = iota // timed out, or the connection broke: nothing is known
	answerRefused               // nobody listens: there is no process
	answerBad                   // a process answered, and it is not healthy
	answerGood                  // a process answered, and it is healthy
)

// process is what tells one process from another. Either field may be unknown.
type process struct {
	Start       time.Time `json:"start,omitzero"`        // from its metrics, which need the API server
	Fingerprint string    `json:"fingerprint,omitempty"` // of its serving certificate
}

// sameness of two processes.
type sameness int

const (
	unsure sameness = iota
	same
	different
)

// compare tells whether two sightings are of one process. The start time decides where both are known. A fresh
// certificate means a fresh process; an old one means nothing, because it may come from a file.
func (p process) compare(q process) sameness {
	switch {
	case !p.Start.IsZero() && !q.Start.IsZero():
		if p.Start.Equal(q.Start) {
			return same
		}
		return different
	case p.Fingerprint != "" && q.Fingerprint != "" && p.Fingerprint != q.Fingerprint:
		return different
	}
	return unsure
}

// and returns p with what is unknown taken from q.
func (p process) and(q process) process {
	if p.Start.IsZero() {
		p.Start = q.Start
	}
	if p.Fingerprint == "" {
		p.Fingerprint = q.Fingerprint
	}
	return p
}

// observation is what was seen at one instant, on the boot clock.
type observation struct {
	At      time.Duration
	Health  answer
	Process process

	FlagsKnown bool
	Flags      v1alpha1.Flags
	Leader     *bool

	APIReachable bool
	LeaseRenewal string        // the Lease's renew time as it stands; empty if it could not be read
	LeaseHolder  string        // who holds it; empty: nobody, or not known
	LeaseAt      time.Duration // when it was read
}

// trial is what a new process has to show, and by when, on the boot clock.
type trial struct {
	Began         time.Duration // the manifest was swapped
	Watched       time.Duration // we began to look, later than Began if the agent was restarted
	Deadline      time.Duration // by which health must have been proven; it must last for MinReady beyond that
	MinReady      time.Duration
	DownTimeout   time.Duration // how long nothing may answer
	Old           process       // the process before the swap
	OldWasUp      bool          // whether there was one
	Holder        string        // who held the Lease then, if that was the old process and is known
	Want          v1alpha1.Flags
	WantLeaseBeat bool // whether the Lease must have been renewed since
	WantFlags     bool // whether the flags must have been read

	// Patient waits for the deadline whatever happens: when the old manifest is being proven there is nothing else to
	// turn to. A process that has been good for AcceptAfter and is not known to be the rejected one is then enough.
	Patient     bool
	AcceptAfter time.Duration
}

// verdict ends a trial. The zero verdict means that it goes on.
type verdict struct {
	Passed  bool   `json:"passed,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	Blame   bool   `json:"blame,omitempty"` // whether the flags are at fault, as far as can be told
}

func (v verdict) done() bool { return v.Passed || v.Reason != "" }

// proof follows a trial from observation to observation. It is a value: step returns the next one.
type proof struct {
	trial trial

	lastAnswer   time.Duration // when any process last answered
	refusedSince bool          // nobody listened since a process last answered
	current      process       // the process that answered last
	seen         int           // how many new processes answered
	isOld        bool          // the process that answered last is known to be the old one
	good         int           // good answers of the current process in a row
	goodSince    time.Duration // when the first of them came
	everHealthy  bool          // some new process was healthy
	ready        time.Duration // since when everything was proven; 0 if it is not

	flagsKnown   bool // of the current process
	flagsRight   bool
	flags        v1alpha1.Flags
	firstRenewal string        // of the Lease since a new process was seen
	beaten       bool          // the Lease was renewed since
	handedOver   time.Duration // after which the new process was first seen to lead, or the Lease to be renewed
	succession   succession
	apiReachable bool
}

func newProof(t trial) proof {
	return proof{trial: t, lastAnswer: max(t.Began, t.Watched), current: t.Old, refusedSince: !t.OldWasUp}
}

// step takes one observation in and says whether the trial is over.
func (p proof) step(o observation) (proof, verdict) {
	p.apiReachable = o.APIReachable
	p.succession = p.succession.next(p.trial.Holder, o)
	p = p.identify(o).count(o)
	if p.seen > 0 {
		p = p.judge(o)
	}
	return p, p.verdict(o)
}

// identify finds out whether the process that answered is another one than before.
func (p proof) identify(o observation) proof {
	switch o.Health {
	case answerRefused:
		p.refusedSince = true
		return p
	case answerSilent:
		return p
	case answerBad, answerGood:
	}
	p.lastAnswer = o.At
	switch p.current.compare(o.Process) {
	case same:
		p.refusedSince, p.isOld = false, p.seen == 0
	case different:
		return p.adopt(o)
	case unsure:
		if p.refusedSince {
			return p.adopt(o)
		}
	}
	p.current = p.current.and(o.Process)
	return p
}

func (p proof) adopt(o observation) proof {
	p.seen++
	p.current, p.refusedSince, p.isOld = o.Process, false, false
	p.good, p.ready = 0, 0
	p.flagsKnown, p.flagsRight, p.flags = false, false, v1alpha1.Flags{}
	return p
}

// count counts good answers in a row.
func (p proof) count(o observation) proof {
	if o.Health != answerGood {
		p.good, p.ready = 0, 0
		return p
	}
	if p.good == 0 {
		p.goodSince = o.At
	}
	p.good++
	return p
}

// judge holds the new process against what it has to show.
func (p proof) judge(o observation) proof {
	if o.FlagsKnown {
		p.flagsKnown, p.flags, p.flagsRight = true, o.Flags, p.trial.Want.Within(o.Flags)
	}
	p = p.followLease(o)
	healthy := p.good >= goodInARow
	p.everHealthy = p.everHealthy || healthy
	switch proven := healthy && p.flagsProven() && p.leaseProven(); {
	case !proven:
		p.ready = 0
	case p.ready == 0:
		p.ready = o.At
	}
	return p
}

// followLease notices a renewal: the Lease changed between two looks at it, both since the new process was seen, so
// that no two clocks are compared.
func (p proof) followLease(o observation) proof {
	switch {
	case o.LeaseRenewal == "":
	case p.firstRenewal == "":
		p.firstRenewal = o.LeaseRenewal
	case o.LeaseRenewal != p.firstRenewal:
		p.beaten = true
	}
	leads := o.Leader != nil && *o.Leader
	if p.handedOver == 0 && (leads || p.beaten) {
		p.handedOver = o.At - p.trial.Began
	}
	return p
}

// leaderless returns how long nobody led since the swap, where the old process led; 0 if that is not known.
func (p proof) leaderless() time.Duration {
	switch {
	case p.trial.Holder == "":
		return p.handedOver
	case p.succession.holder == "":
		return 0
	}
	return p.succession.since - p.trial.Began
}

// succession is who holds the Lease after the one who held it before the swap: a process on any node.
type succession struct {
	open    bool          // the Lease was seen to be the old holder's still, or nobody's
	holder  string        // the successor
	since   time.Duration // when it was first seen to hold the Lease
	renewal string        // of the Lease then
	settled bool          // the successor has renewed it
}

// next takes in one look at the Lease. A successor that never renews it is no leader yet. One that was there before
// anybody looked has taken over at a time that nobody knows.
func (s succession) next(old string, o observation) succession {
	switch {
	case old == "" || o.LeaseRenewal == "" || s.settled: // nothing to learn
	case o.LeaseHolder == "" || o.LeaseHolder == old:
		return succession{open: true}
	case s.open && o.LeaseHolder != s.holder:
		s.holder, s.since, s.renewal = o.LeaseHolder, o.LeaseAt, o.LeaseRenewal
	case s.open && o.LeaseRenewal != s.renewal:
		s.settled = true
	}
	return s
}

func (p proof) flagsProven() bool { return !p.trial.WantFlags || p.flagsKnown && p.flagsRight }
func (p proof) leaseProven() bool { return !p.trial.WantLeaseBeat || p.beaten }

// verdict orders cases by what is certain: processes that die or never come are seen on this node alone and need no
// deadline; everything else gets the time that it was promised.
func (p proof) verdict(o observation) verdict {
	t := p.trial
	switch {
	case p.ready > 0 && o.At-p.ready >= t.MinReady, p.acceptable(o):
		return verdict{Passed: true}
	case o.At >= t.Deadline && p.ready == 0:
		return p.early(o).or(p.late())
	case t.Patient:
		return verdict{}
	}
	return p.early(o)
}

// acceptable reports whether a patient trial may take a process for the new one although that is not certain.
func (p proof) acceptable(o observation) bool {
	return p.trial.Patient && p.seen == 0 && !p.isOld && p.good >= goodInARow && o.At-p.goodSince >= p.trial.AcceptAfter
}

// early names what is certain before the deadline.
func (p proof) early(o observation) verdict {
	silence := o.At - p.lastAnswer
	down := silence >= p.trial.DownTimeout
	switch {
	case p.seen >= 2 && p.everHealthy && !p.apiReachable:
		return p.inconclusive("kube-controller-manager was restarted after it had been healthy")
	case p.seen >= 2:
		return p.fault(v1alpha1.ReasonCrashLooping, "%d different new processes were seen: kube-controller-manager does not stay up", p.seen)
	case p.seen == 0 && down:
		return p.fault(v1alpha1.ReasonNeverStarted, "no new process has answered and the last answer was %s ago", silence.Round(time.Second))
	case p.seen == 1 && down && p.refusedSince:
		return p.fault(v1alpha1.ReasonCrashLooping, "the new process went away and none has answered for %s", silence.Round(time.Second))
	case p.seen == 0 && p.isOld && !p.refusedSince && o.At-p.trial.Began >= p.trial.DownTimeout:
		return verdict{Reason: v1alpha1.ReasonNotPickedUp, Message: fmt.Sprintf(
			"the old process still answers %s after the swap: the kubelet has not picked the manifest up", p.trial.DownTimeout)}
	}
	return verdict{}
}

// or returns v, or w if v does not end the trial.
func (v verdict) or(w verdict) verdict {
	if v.done() {
		return v
	}
	return w
}

// late names what was missing at the deadline.
func (p proof) late() verdict {
	switch {
	case p.flagsKnown && !p.flagsRight && p.trial.WantFlags:
		return p.fault(v1alpha1.ReasonWrongFlags, "the new process runs with %s, want %s", p.flags, p.trial.Want)
	case !p.apiReachable:
		return p.inconclusive("the API server could not be reached, so the flags and the Lease could not be read")
	case p.good < goodInARow:
		return p.fault(v1alpha1.ReasonNeverHealthy, "/healthz was not good %d times in a row by the deadline", goodInARow)
	case !p.flagsProven():
		return p.inconclusive("the flags of the new process could not be read")
	default:
		return p.fault(v1alpha1.ReasonNeverLeader, "nobody has renewed the Lease kube-system/kube-controller-manager since the new process started")
	}
}

func (p proof) inconclusive(what string) verdict {
	return verdict{Reason: v1alpha1.ReasonInconclusive, Message: what + "; no value is blamed"}
}

func (p proof) fault(reason, format string, args ...any) verdict {
	return verdict{Reason: reason, Message: fmt.Sprintf(format, args...), Blame: true}
}
