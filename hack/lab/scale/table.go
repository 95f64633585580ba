package scale

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	apiwatch "k8s.io/apimachinery/pkg/watch"
)

// table holds the few objects that clients may write. The cluster's lock guards it.
type table struct {
	rows map[types.NamespacedName]object // never changed once they are in
}

func newTable() *table { return &table{rows: map[types.NamespacedName]object{}} }

func (t *table) objects() iter.Seq[object] { return slices.Values(slices.Collect(maps.Values(t.rows))) }

func keyOf(o object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}

// put stores an object, with the next resource version, and tells who watches.
func (c *cluster) put(k *kind, o object) {
	c.mu.Lock()
	defer c.mu.Unlock()
	what, key := apiwatch.Added, keyOf(o)
	if before, exists := k.table.rows[key]; exists {
		what = apiwatch.Modified
		o.SetUID(before.GetUID())
		o.SetCreationTimestamp(before.GetCreationTimestamp())
	} else {
		o.SetUID(types.UID(uuid(c.key, uint64(c.version))))
		o.SetCreationTimestamp(metav1.NewTime(c.born))
		o.SetGeneration(1)
	}
	version := c.next()
	o.SetResourceVersion(versionText(version))
	k.table.rows[key] = o
	k.history.add(event{version: version, what: what, object: func() object { return o }})
}

// take removes an object and tells who watches; false if there is none.
func (c *cluster) take(k *kind, key types.NamespacedName) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	o, exists := k.table.rows[key]
	if !exists {
		return false
	}
	delete(k.table.rows, key)
	version := c.next()
	k.history.add(event{version: version, what: apiwatch.Deleted, object: func() object { return o }})
	return true
}

// merged returns an object changed by a JSON merge patch (RFC 7396).
func (k *kind) merged(o object, patch []byte) (object, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", o.GetName(), err)
	}
	var into, change map[string]any
	if err = json.Unmarshal(text, &into); err != nil {
		return nil, fmt.Errorf("decode %s: %w", o.GetName(), err)
	}
	if err = json.Unmarshal(patch, &change); err != nil {
		return nil, fmt.Errorf("decode the patch of %s: %w", o.GetName(), err)
	}
	if text, err = json.Marshal(merge(into, change)); err != nil {
		return nil, fmt.Errorf("encode %s: %w", o.GetName(), err)
	}
	after := k.blank()
	if err = json.Unmarshal(text, after); err != nil {
		return nil, fmt.Errorf("decode %s as it was patched: %w", o.GetName(), err)
	}
	return after, nil
}

func merge(into, change map[string]any) map[string]any {
	if into == nil {
		into = map[string]any{}
	}
	for key, value := range change {
		switch v := value.(type) {
		case nil:
			delete(into, key)
		case map[string]any:
			inner, _ := into[key].(map[string]any)
			into[key] = merge(inner, v)
		default:
			into[key] = v
		}
	}
	return into
}

// kcmLease is the Lease that kube-controller-manager renews every two seconds.
func (c *cluster) kcmLease(now time.Time) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: kcm},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity:       new("control-plane-1_" + uuid(c.key, 1)),
			LeaseDurationSeconds: new(int32(15)),
			AcquireTime:          &metav1.MicroTime{Time: c.born.Add(-24 * time.Hour)},
			RenewTime:            &metav1.MicroTime{Time: now},
			LeaseTransitions:     new(int32(3)),
		},
	}
}
