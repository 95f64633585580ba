package controllers

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/platform"
)

// clusterConfiguration is part of what kubeadm init stores.
const clusterConfiguration = `apiServer: {}
apiVersion: kubeadm.k8s.io/v1beta4
controllerManager: {}
kind: ClusterConfiguration
kubernetesVersion: v1.37.2
`

// rolled are flags that every node has.
var rolled = v1alpha1.Flags{KubeAPIQPS: 50, KubeAPIBurst: 500, ConcurrentServiceEndpointSyncs: 20}

// persistBench is a bench with kubeadm's ConfigMap, whose node has ended what it was told. It counts what is asked of the
// ConfigMap, and can answer for it.
type persistBench struct {
	bench
	t             *testing.T
	gets, updates int
	get, update   error
}

func newPersistBench(t *testing.T, persistence v1alpha1.Persistence) *persistBench {
	t.Helper()
	p := policyObject(v1alpha1.ModeEnforce)
	p.Spec.Persistence = persistence
	b := &persistBench{bench: newBench(t, p), t: t}
	object := corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "kubeadm-config", Annotations: map[string]string{"theirs": "1"}},
		Data:       map[string]string{clusterConfigurationKey: clusterConfiguration, "other": "kept"},
	}
	if err := b.client.Create(t.Context(), &object); err != nil {
		t.Fatal(err)
	}
	watched, ok := b.client.(client.WithWatch)
	if !ok {
		t.Fatalf("the fake client is a %T", b.client)
	}
	counted := interceptor.NewClient(watched, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if _, is := obj.(*corev1.ConfigMap); is {
				if b.gets++; b.get != nil {
					return b.get
				}
			}
			return c.Get(ctx, key, obj, opts...)
		},
		Update: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
			if _, is := obj.(*corev1.ConfigMap); is {
				if b.updates++; b.update != nil {
					return b.update
				}
			}
			return c.Update(ctx, obj, opts...)
		},
	})
	b.Client, b.Live = counted, counted
	n := b.node(t)
	n.Spec = v1alpha1.EndpointSyncNodeSpec{
		Revision: new(int64(1)), Action: v1alpha1.ActionApply, Flags: rolled, PolicyName: p.Name, PolicyGeneration: p.Generation,
	}
	if err := b.client.Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	b.end(t, v1alpha1.OutcomeCommitted, v1alpha1.ReasonCommitted)
	return b
}

func (b *persistBench) config() *corev1.ConfigMap {
	b.t.Helper()
	var object corev1.ConfigMap
	if err := b.client.Get(b.t.Context(), kubeadmConfigKey(), &object); err != nil {
		b.t.Fatal(err)
	}
	return &object
}

// later lets time pass in which the agent goes on reporting.
func (b *persistBench) later(d time.Duration) {
	b.t.Helper()
	b.clock.SetTime(b.clock.Now().Add(d))
	n := b.node(b.t)
	n.Status.ReportTime = metav1.NewTime(b.clock.Now())
	if err := b.client.Status().Update(b.t.Context(), n); err != nil {
		b.t.Fatal(err)
	}
}

func (b *persistBench) change(change func(*v1alpha1.EndpointSyncPolicy)) {
	b.t.Helper()
	p := b.policy(b.t)
	change(p)
	p.Generation++
	if err := b.client.Update(b.t.Context(), p); err != nil {
		b.t.Fatal(err)
	}
}

func (b *persistBench) wantCalls(gets, updates int) {
	b.t.Helper()
	if b.gets != gets || b.updates != updates {
		b.t.Errorf("%d reads and %d writes of kubeadm's configuration, want %d and %d", b.gets, b.updates, gets, updates)
	}
}

// holds says what kubeadm's configuration is to be with flags, and without.
func holds(t *testing.T, flags v1alpha1.Flags) platform.KubeadmConfig {
	t.Helper()
	c, err := platform.KubeadmConfig{ClusterConfiguration: clusterConfiguration}.With(flags)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (b *persistBench) wantConfig(want platform.KubeadmConfig) {
	b.t.Helper()
	object := b.config()
	got := platform.KubeadmConfig{
		ClusterConfiguration: object.Data[clusterConfigurationKey], Originals: object.Annotations[platform.OriginalsAnnotation],
	}
	if diff := cmp.Diff(want, got); diff != "" {
		b.t.Errorf("kubeadm's configuration (-want +got):\n%s", diff)
	}
	if object.Data["other"] != "kept" || object.Annotations["theirs"] != "1" {
		b.t.Errorf("something else of the ConfigMap was changed: %+v", object)
	}
}

func TestRolledOutFlagsArePersisted(t *testing.T) {
	b := newPersistBench(t, v1alpha1.PersistenceKubeadmConfig)
	b.reconcile(t)
	b.wantConfig(holds(t, rolled))
	b.wantCalls(1, 1)
	p := b.policy(t)
	if p.Status.Persisted != rolled {
		t.Errorf("status.persisted = %s, want %s", p.Status.Persisted, rolled)
	}
	wantCondition(t, p, v1alpha1.ConditionStalled, metav1.ConditionFalse, "")

	b.later(persistInterval - time.Second)
	b.reconcile(t)
	b.wantCalls(1, 1)
	b.later(time.Second)
	b.reconcile(t)
	b.wantCalls(2, 1)

	object := b.config() // Somebody changes it by hand, or kubeadm writes what it read before.
	object.Data[clusterConfigurationKey] = clusterConfiguration
	if err := b.client.Update(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	b.later(persistInterval)
	b.reconcile(t)
	b.wantConfig(holds(t, rolled))
	b.wantCalls(3, 2)

	close(b.events.Events)
	seen := 0
	for e := range b.events.Events {
		if strings.Contains(e, v1alpha1.ReasonPersisted) && strings.Contains(e, "kube-api-qps not given -> ") {
			seen++
		}
	}
	if seen != 2 {
		t.Errorf("%d Events about the two writes, want 2", seen)
	}
}

func TestNothingIsPersistedWhere(t *testing.T) {
	tests := map[string]func(*persistBench){
		"it is not asked for": func(b *persistBench) {
			b.change(func(p *v1alpha1.EndpointSyncPolicy) { p.Spec.Persistence = "" })
		},
		"the policy only observes": func(b *persistBench) {
			b.change(func(p *v1alpha1.EndpointSyncPolicy) { p.Spec.Mode = v1alpha1.ModeObserve })
		},
		"the policy only recommends": func(b *persistBench) {
			b.change(func(p *v1alpha1.EndpointSyncPolicy) { p.Spec.Mode = v1alpha1.ModeRecommend })
		},
		"the policy is paused": func(b *persistBench) {
			b.change(func(p *v1alpha1.EndpointSyncPolicy) {
				p.Annotations = map[string]string{v1alpha1.PauseAnnotation: "true"}
			})
		},
		"the node is changing": func(b *persistBench) {
			n := b.node(b.t)
			n.Spec.Revision = new(int64(2))
			if err := b.client.Update(b.t.Context(), n); err != nil {
				b.t.Fatal(err)
			}
		},
		"the node rolled back": func(b *persistBench) {
			b.end(b.t, v1alpha1.OutcomeRolledBack, v1alpha1.ReasonCrashLooping)
		},
		"the node runs something else": func(b *persistBench) {
			n := b.node(b.t)
			n.Status.Running = v1alpha1.DefaultFlags()
			if err := b.client.Status().Update(b.t.Context(), n); err != nil {
				b.t.Fatal(err)
			}
		},
		"the flags are another policy's": func(b *persistBench) {
			n := b.node(b.t)
			n.Spec.PolicyName = "former"
			if err := b.client.Update(b.t.Context(), n); err != nil {
				b.t.Fatal(err)
			}
		},
		"another policy is in charge": func(b *persistBench) {
			older := policyObject(v1alpha1.ModeEnforce)
			older.Name, older.CreationTimestamp = "older", metav1.NewTime(now.Add(-2*time.Hour))
			if err := b.client.Create(b.t.Context(), older); err != nil {
				b.t.Fatal(err)
			}
		},
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			b := newPersistBench(t, v1alpha1.PersistenceKubeadmConfig)
			change(b)
			b.reconcile(t)
			b.wantCalls(0, 0)
			b.wantConfig(platform.KubeadmConfig{ClusterConfiguration: clusterConfiguration})
		})
	}
}

func TestLeavingPersistenceRestores(t *testing.T) {
	b := newPersistBench(t, v1alpha1.PersistenceKubeadmConfig)
	b.reconcile(t)
	b.change(func(p *v1alpha1.EndpointSyncPolicy) { p.Spec.Persistence = v1alpha1.PersistenceNone })
	b.reconcile(t)
	b.wantConfig(platform.KubeadmConfig{ClusterConfiguration: clusterConfiguration})
	if got := b.policy(t).Status.Persisted; got != (v1alpha1.Flags{}) {
		t.Errorf("status.persisted = %s, want none", got)
	}
	b.later(2 * persistInterval)
	b.reconcile(t)
	b.wantCalls(2, 2)
}

func TestDeletionRestoresWhatWasPersisted(t *testing.T) {
	tests := map[string]struct {
		deletion v1alpha1.DeletionPolicy
		restored bool
	}{
		"restore": {v1alpha1.DeletionRestore, true},
		"retain":  {v1alpha1.DeletionRetain, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := newPersistBench(t, v1alpha1.PersistenceKubeadmConfig)
			b.change(func(p *v1alpha1.EndpointSyncPolicy) { p.Spec.DeletionPolicy = test.deletion })
			b.reconcile(t)
			want := holds(t, rolled)
			if err := b.client.Delete(t.Context(), b.policy(t)); err != nil {
				t.Fatal(err)
			}
			b.reconcile(t)
			b.wantConfig(want) // The nodes come first.
			if test.restored {
				b.end(t, v1alpha1.OutcomeCommitted, v1alpha1.ReasonRestored)
				want = platform.KubeadmConfig{ClusterConfiguration: clusterConfiguration}
			}
			b.reconcile(t)
			b.wantConfig(want)
			b.reconcile(t)
			if test.restored {
				b.wantCalls(2, 2)
			}
		})
	}
}

func TestPersistenceThatAPersonHasToHelp(t *testing.T) {
	resource := schema.GroupResource{Resource: "configmaps"}
	forbidden := apierrors.NewForbidden(resource, "kubeadm-config", nil)
	tests := map[string]struct {
		hinder func(*persistBench)
		want   []string
	}{
		"reading is not allowed": {
			func(b *persistBench) { b.get = forbidden }, []string{"forbidden", "kubectl apply -k config/kubeadm-config"},
		},
		"writing is not allowed": {
			func(b *persistBench) { b.update = forbidden }, []string{"update ConfigMap", "kubectl apply -k config/kubeadm-config"},
		},
		"it is not kubeadm's": {
			func(b *persistBench) { b.get = apierrors.NewNotFound(resource, "kubeadm-config") },
			[]string{"not kubeadm's", "spec.persistence: None"},
		},
		"the ConfigMap is immutable": {
			func(b *persistBench) {
				b.update = apierrors.NewInvalid(schema.GroupKind{Kind: "ConfigMap"}, "kubeadm-config", nil)
			}, []string{"immutable"},
		},
		"an old kubeadm stored it": {
			func(b *persistBench) {
				object := b.config()
				object.Data[clusterConfigurationKey] = strings.ReplaceAll(clusterConfiguration, "v1beta4", "v1beta3")
				if err := b.client.Update(b.t.Context(), object); err != nil {
					b.t.Fatal(err)
				}
			}, []string{"v1beta3", "kubeadm upgrade apply"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := newPersistBench(t, v1alpha1.PersistenceKubeadmConfig)
			test.hinder(b)
			b.reconcile(t)
			p := b.policy(t)
			wantCondition(t, p, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonPersistenceFailed)
			for _, c := range p.Status.Conditions {
				for _, want := range append(test.want, rolled.String()) {
					if c.Type == v1alpha1.ConditionStalled && !strings.Contains(c.Message, want) {
						t.Errorf("message %q lacks %q", c.Message, want)
					}
				}
			}
			if p.Status.Persisted != (v1alpha1.Flags{}) || len(p.Status.Lag) == 0 {
				t.Errorf("status %+v, want nothing persisted, and the rest as ever", p.Status)
			}
			b.reconcile(t) // Soon after: remembered.
			wantCondition(t, b.policy(t), v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonPersistenceFailed)
			if b.gets != 1 {
				t.Errorf("%d reads, want 1", b.gets)
			}

			b.get, b.update = nil, nil
			object := b.config()
			object.Data[clusterConfigurationKey] = clusterConfiguration
			if err := b.client.Update(t.Context(), object); err != nil {
				t.Fatal(err)
			}
			b.later(persistRetry)
			b.reconcile(t)
			b.wantConfig(holds(t, rolled))
			wantCondition(t, b.policy(t), v1alpha1.ConditionStalled, metav1.ConditionFalse, "")
		})
	}
}

func TestAConflictIsLeftToTheNextPass(t *testing.T) {
	b := newPersistBench(t, v1alpha1.PersistenceKubeadmConfig)
	b.update = apierrors.NewConflict(schema.GroupResource{Resource: "configmaps"}, "kubeadm-config", nil)
	b.reconcile(t)
	wantCondition(t, b.policy(t), v1alpha1.ConditionStalled, metav1.ConditionFalse, "")
	b.update = nil
	b.reconcile(t)
	b.wantConfig(holds(t, rolled))
	b.wantCalls(2, 2)
}

func TestAnAPIServerThatFailsIsAnError(t *testing.T) {
	b := newPersistBench(t, v1alpha1.PersistenceKubeadmConfig)
	b.get = apierrors.NewInternalError(context.DeadlineExceeded)
	b.hear(t)
	if _, err := b.Reconcile(t.Context(), ctrl.Request{NamespacedName: types.NamespacedName{Name: "default"}}); err == nil || !strings.Contains(err.Error(), "kubeadm-config") {
		t.Errorf("Reconcile: %v, want an error that names kubeadm-config", err)
	}
	wantCondition(t, b.policy(t), v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonError)
}
