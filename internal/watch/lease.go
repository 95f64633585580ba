package watch

import (
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// The Lease of kube-controller-manager, which it renews every two seconds.
const (
	leaseGroup     = "/apis/coordination.k8s.io/v1"
	leaseNamespace = metav1.NamespaceSystem
	leaseName      = "kube-controller-manager"
)

// keptRenewals is for how long renewals are compared: longer than nearly every lag, and too short for two clocks that
// nobody sets to drift apart by more than a few milliseconds. A delay that lasts longer is the same at both ends of a
// change.
const keptRenewals = 2 * time.Minute

// alikeRenewals is how many renewals have to take longer before the way is taken to be longer. Single ones do because of
// their own write: on an idle control plane whose disk is shared, one in twenty took 30 to 90 ms instead of 4.
const alikeRenewals = 3

// renewal is one renewal of the Lease, as it was received.
type renewal struct {
	at time.Time
	// after is how long after the time that its holder wrote into it: what the clocks differ, the write, and the watch.
	after time.Duration
}

// renewals are the latest of one holder, oldest first.
type renewals struct {
	holder string
	latest []renewal
}

// add returns by how much the way of the latest renewals was longer than the shortest that is kept, in the median, and
// since when that may have been so. It is an estimate of what the API server and the network add.
func (r *renewals) add(holder string, n renewal) (since time.Time, excess time.Duration) {
	if holder != r.holder {
		r.holder, r.latest = holder, nil
	}
	old, _ := slices.BinarySearchFunc(r.latest, n.at.Add(-keptRenewals), func(k renewal, t time.Time) int { return k.at.Compare(t) })
	r.latest = append(slices.Delete(r.latest, 0, old), n)
	if len(r.latest) < alikeRenewals {
		return n.at, 0
	}
	alike := slices.Clone(r.latest[len(r.latest)-alikeRenewals:])
	since = alike[0].at
	shortest := slices.MinFunc(r.latest, byWay)
	slices.SortFunc(alike, byWay)
	return since, alike[alikeRenewals/2].after - shortest.after
}

func byWay(a, b renewal) int { return int(a.after - b.after) }

// lease watches kube-controller-manager's Lease: something that comes every two seconds, and that says when it was sent.
func (f *Feed) lease() *kind {
	var known renewals
	k := &kind{
		name: "leases", path: resource(leaseGroup, leaseNamespace, "leases"), optional: true, waiting: true,
		fields: fields.OneTermEqualSelector(metav1.ObjectNameField, leaseName).String(),
		remove: func(string, string, time.Time) {},
	}
	k.set = func(d *decoder, raw []byte, at time.Time) error {
		if err := d.object(raw); err != nil {
			return err
		}
		var l coordinationv1.Lease
		if err := l.Unmarshal(raw); err != nil {
			return err
		}
		if l.Spec.HolderIdentity == nil || l.Spec.RenewTime == nil || k.seen != nil {
			return nil // Nobody holds it, or the renewal was not received when it happened.
		}
		since, excess := known.add(*l.Spec.HolderIdentity, renewal{at: at, after: at.Sub(l.Spec.RenewTime.Time)})
		f.delays.path(since, at, excess)
		return nil
	}
	return k
}
