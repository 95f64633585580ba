package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// fakeCluster is an API server that holds one EndpointSyncNode and one policy, and can be dead.
type fakeCluster struct {
	mu       sync.Mutex
	node     *v1alpha1.EndpointSyncNode
	pol      *v1alpha1.EndpointSyncPolicy
	dead     bool
	noBeat   bool
	holder   func() string // of the Lease
	probed   error         // what an attempt at the isolation probe's status gets
	see      func(*v1alpha1.EndpointSyncNode)
	statuses []v1alpha1.EndpointSyncNodeStatus
}

func (f *fakeCluster) watchNode(ctx context.Context, see func(*v1alpha1.EndpointSyncNode)) {
	f.mu.Lock()
	f.see = see
	if f.node != nil && !f.dead {
		see(f.node.DeepCopy())
	}
	f.mu.Unlock()
	<-ctx.Done()
}

func (f *fakeCluster) permits(context.Context, string) (policyView, othersView) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		err := errors.New("connection refused")
		return policyView{Unreachable: err}, othersView{Unreachable: err}
	}
	return policyView{Policy: f.pol}, othersView{}
}

func (f *fakeCluster) lease(context.Context) leaseView {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.dead:
		return leaseView{}
	case f.noBeat:
		return leaseView{Reachable: true, Holder: "nobody-who-lives", Renewal: "never"}
	}
	return leaseView{Reachable: true, Holder: f.holder(), Renewal: time.Now().String()}
}

func (f *fakeCluster) report(_ context.Context, status v1alpha1.EndpointSyncNodeStatus) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead || f.node == nil {
		return errors.New("connection refused")
	}
	f.node.Status = status
	f.statuses = append(f.statuses, status)
	return nil
}

func (f *fakeCluster) tryProbe(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return errors.New("connection refused")
	}
	return f.probed
}

// deny is how an API server with config/admission refuses a node's agent the status of the isolation probe.
func deny(node string) error {
	return denial("ValidatingAdmissionPolicy '" + confinement + "' with binding '" + confinement + "' denied request: node " +
		node + " may not write the status of " + v1alpha1.IsolationProbe)
}

// denial is a refusal by an admission policy, with its message where k8s.io/apiserver puts it.
func denial(message string) error {
	resource := schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "endpointsyncnodes"}
	err := apierrors.NewForbidden(resource, v1alpha1.IsolationProbe, errors.New(message))
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{Message: message}}
	return fmt.Errorf("write the status of EndpointSyncNode %s: %w", v1alpha1.IsolationProbe, err)
}

// answerProbe sets what an attempt at the isolation probe's status gets.
func (f *fakeCluster) answerProbe(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.probed = err
}

// instruct hands the agent an instruction.
func (f *fakeCluster) instruct(spec v1alpha1.EndpointSyncNodeSpec) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.node = f.node.DeepCopy()
	f.node.Spec = spec
	f.node.Generation++
	if f.see != nil && !f.dead {
		f.see(f.node.DeepCopy())
	}
}

func (f *fakeCluster) status() v1alpha1.EndpointSyncNodeStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.node.Status
}

func (f *fakeCluster) kill() { f.setDead(true) }

func (f *fakeCluster) setDead(dead bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = dead
}
