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

// keptRenewals is for how long renewals are compared.
const keptRenewals = 10 * time.Minute

// add returns how much longer the way of a renewal was than the shortest of the time that is kept, and since when that
// may have been so: the renewal before.
func (r *renewals) add(holder string, n renewal) (since time.Time, excess time.Duration) {
	if holder != r.holder {
		r.holder, r.latest = holder, nil
	}
	since = n.at
	if len(r.latest) > 0 {
		since = r.latest[len(r.latest)-1].at
	}
	old, _ := slices.BinarySearchFunc(r.latest, n.at.Add(-keptRenewals), func(k renewal, t time.Time) int { return k.at.Compare(t) })
	r.latest = append(slices.Delete(r.latest, 0, old), n)
	shortest := slices.MinFunc(r.latest, func(a, b renewal) int { return int(a.after - b.after) })
	return since, n.after - shortest.after
}

// lease watches kube-controller-manager's Lease.
func (f *Feed) lease() *kind {
	var seen renewals
	return &kind{
		name: "leases", path: resource(leaseGroup, leaseNamespace, "leases"), optional: true, waiting: true,
		fields: fields.OneTermEqualSelector(metav1.ObjectNameField, leaseName).String(),
		set: func(d *decoder, raw []byte, at time.Time) error {
			if err := d.object(raw); err != nil {
				return err
			}
			var l coordinationv1.Lease
			if err := l.Unmarshal(raw); err != nil {
				return err
			}
			if l.Spec.HolderIdentity == nil || l.Spec.RenewTime == nil {
				return nil
			}
			n := renewal{at: at, after: at.Sub(l.Spec.RenewTime.Time)}
			_, _ = seen.add(*l.Spec.HolderIdentity, n)
			return nil
		},
		remove: func(string, string, time.Time) {},
	}
}
