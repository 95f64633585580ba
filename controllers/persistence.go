package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/manifest"
	"github.com/endpointsync/endpoint-sync-operator/internal/platform"
	"github.com/endpointsync/endpoint-sync-operator/internal/rollout"
)

// How often kubeadm's configuration is looked at while nothing changes: it matters at the next upgrade, and nobody but
// people and kubeadm write it; and how soon again where a person has to act first.
const (
	persistInterval = 10 * time.Minute
	persistRetry    = time.Minute
)

// clusterConfigurationKey is where kubeadm keeps its configuration in its ConfigMap.
const clusterConfigurationKey = "ClusterConfiguration"

func kubeadmConfigKey() client.ObjectKey {
	return client.ObjectKey{Namespace: metav1.NamespaceSystem, Name: "kubeadm-config"}
}

// errand is what is wanted of kubeadm's configuration.
type errand struct {
	policy     string
	generation int64          // of its spec: a person who changes that wants it looked at
	flags      v1alpha1.Flags // to be kept there; none: what the operator found there comes back
}

// visit is what came of the last errand. It is not worth keeping over a restart: another look costs one request.
type visit struct {
	errand
	at      time.Time
	refused string // why a person has to act, if so
}

// recent says whether an errand was run so lately that what came of it still holds.
func (v visit) recent(want errand, now time.Time) bool {
	interval := persistInterval
	if v.refused != "" {
		interval = persistRetry
	}
	return v.errand == want && now.Sub(v.at) < interval
}

// persist keeps kubeadm's configuration in step with the flags that every node has, where the policy asks for that. It
// returns the pass with what came of it; the flags themselves are rolled out whether or not they could be kept there.
func (r *PolicyReconciler) persist(ctx context.Context, p pass) (pass, error) {
	want, wanted := errandOf(p.Situation, p.Stalled)
	if !wanted {
		return p, nil
	}
	if !r.visited.recent(want, p.Now) {
		changed, err := r.run(ctx, want)
		refused, isRefusal := errors.AsType[*refusedError](err)
		switch {
		case apierrors.IsConflict(err):
			return p, nil // Somebody wrote it at the same time: the next pass looks again.
		case err != nil && !isRefusal:
			return p, err
		}
		r.visited = visit{errand: want, at: p.Now}
		if isRefusal {
			r.visited.refused = refused.Error()
		}
		if changed != "" {
			r.Events.Eventf(&p.Policy, nil, corev1.EventTypeNormal, v1alpha1.ReasonPersisted, "Persist", "%s", bounded(changed))
		}
	}
	if r.visited.refused != "" {
		p.Stalled, p.Message = v1alpha1.ReasonPersistenceFailed, r.visited.refused
		return p, nil
	}
	p.Persisted = &want.flags
	return p, nil
}

// errandOf is what a pass wants of kubeadm's configuration, if anything: nothing while nodes change, and nothing of a
// policy that may write nothing now.
func errandOf(s Situation, stalled string) (want errand, wanted bool) {
	policy := s.Policy
	want = errand{policy: policy.Name, generation: policy.Generation}
	switch {
	case stalled != "", policy.Spec.Mode != v1alpha1.ModeEnforce, policy.DeletionTimestamp != nil,
		policy.Annotations[v1alpha1.PauseAnnotation] == "true":
		return want, false
	case policy.Spec.Persistence != v1alpha1.PersistenceKubeadmConfig:
		return want, policy.Status.Persisted != (v1alpha1.Flags{})
	}
	want.flags, wanted = rolledOut(s)
	return want, wanted
}

// rolledOut returns the flags that every node was told on behalf of the policy, and has.
func rolledOut(s Situation) (v1alpha1.Flags, bool) {
	plan := planOf(s)
	for _, n := range plan.Nodes {
		if n.Policy != s.Policy.Name {
			return v1alpha1.Flags{}, false
		}
		plan.Target = rollout.Target{Action: v1alpha1.ActionApply, Flags: n.Flags}
	}
	done := plan.Target.Flags != (v1alpha1.Flags{}) && rollout.Next(plan, s.Now).Kind == rollout.Done
	return plan.Target.Flags, done
}

// unpersist puts kubeadm's configuration back to what the operator found there, once the restore of every node after the
// deletion of a policy is done. Whether the policy had asked for persistence the configuration itself knows.
func (r *PolicyReconciler) unpersist(ctx context.Context, policy string, restore rollout.Step) error {
	want, now := errand{policy: policy}, r.Clock.Now()
	if restore.Kind != rollout.Done || r.visited.recent(want, now) {
		return nil
	}
	changed, err := r.run(ctx, want)
	refused, isRefusal := errors.AsType[*refusedError](err)
	if err != nil && !isRefusal {
		return err
	}
	r.visited = visit{errand: want, at: now}
	log := ctrl.LoggerFrom(ctx).WithValues("policy", policy)
	switch {
	case isRefusal:
		r.visited.refused = refused.Error()
		log.Info("Left kubeadm's configuration as it is", "reason", r.visited.refused)
	case changed != "":
		log.Info("Restored kubeadm's configuration", "change", changed)
	}
	return nil
}

// refusedError says what a person has to do before an errand can be run.
type refusedError struct{ message string }

func (e *refusedError) Error() string { return e.message }

// run reads kubeadm's configuration, past every cache, and writes it if it is not as wanted, by a write that fails if
// anybody has touched it since. It returns what it changed, or why a person has to act as a *refusedError.
func (r *PolicyReconciler) run(ctx context.Context, want errand) (changed string, err error) {
	key := kubeadmConfigKey()
	var object corev1.ConfigMap
	if err = r.Live.Get(ctx, key, &object); apierrors.IsNotFound(err) && want.flags == (v1alpha1.Flags{}) {
		return "", nil
	} else if err != nil {
		return "", want.explained(fmt.Errorf("read ConfigMap %s: %w", key, err))
	}
	before := platform.KubeadmConfig{
		ClusterConfiguration: object.Data[clusterConfigurationKey], Originals: object.Annotations[platform.OriginalsAnnotation],
	}
	after, err := want.applied(before)
	if err != nil {
		return "", want.refuse("ConfigMap %s: %v", key, err)
	}
	if after == before {
		return "", nil
	}
	object.Data[clusterConfigurationKey] = after.ClusterConfiguration
	delete(object.Annotations, platform.OriginalsAnnotation)
	if after.Originals != "" {
		metav1.SetMetaDataAnnotation(&object.ObjectMeta, platform.OriginalsAnnotation, after.Originals)
	}
	if err := r.Client.Update(ctx, &object); err != nil {
		return "", want.explained(fmt.Errorf("update ConfigMap %s: %w", key, err))
	}
	return fmt.Sprintf("ConfigMap %s: %s", key, difference(before, after)), nil
}

// applied returns the configuration as it is wanted.
func (e errand) applied(c platform.KubeadmConfig) (platform.KubeadmConfig, error) {
	if e.flags == (v1alpha1.Flags{}) {
		return c.Restored()
	}
	return c.With(e.flags)
}

// explained turns an answer of the API server that will not change by itself into what a person has to do.
func (e errand) explained(err error) error {
	switch {
	case apierrors.IsForbidden(err):
		return e.refuse("%v: grant it with `kubectl apply -k config/kubeadm-config`", err)
	case apierrors.IsNotFound(err):
		return e.refuse("%v: this control plane is not kubeadm's; set spec.persistence: None, and keep the flags where its "+
			"platform does (status.recommended.snippet)", err)
	case apierrors.IsInvalid(err):
		return e.refuse("%v: is it immutable?", err)
	}
	return err
}

func (e errand) refuse(format string, args ...any) error {
	head := "what the operator wrote into kubeadm's configuration cannot be put back: "
	if e.flags != (v1alpha1.Flags{}) {
		head = fmt.Sprintf("every node has %s, which the next `kubeadm upgrade` would take away: ", e.flags)
	}
	return &refusedError{head + fmt.Sprintf(format, args...)}
}

// difference lists the arguments that changed, as they were and as they are. Both configurations were understood before.
func difference(before, after platform.KubeadmConfig) string {
	was, _ := platform.ReadExtraArgs([]byte(before.ClusterConfiguration))
	is, _ := platform.ReadExtraArgs([]byte(after.ClusterConfiguration))
	var changes []string
	for i := range min(len(was), len(is)) {
		if was[i] != is[i] {
			changes = append(changes, fmt.Sprintf("%s %s -> %s", is[i].Name, given(was[i]), given(is[i])))
		}
	}
	return cmp.Or(strings.Join(changes, ", "), "every argument is what it was")
}

func given(s manifest.Setting) string {
	if s.Absent {
		return "not given"
	}
	return s.Value
}
