package controllers

import (
	"context"
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

// shelf is where a book is kept: a fake API server that counts writes and may refuse reads.
type shelf struct {
	client.Client
	clock  *clocktesting.FakePassiveClock
	writes int
	broken bool
}

func newShelf(t *testing.T, objects ...client.Object) *shelf {
	t.Helper()
	scheme, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	s := &shelf{clock: clocktesting.NewFakePassiveClock(now)}
	s.Client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if s.broken {
				return errors.New("the API server is away")
			}
			return c.Get(ctx, key, obj, opts...)
		},
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			s.writes++
			return c.Create(ctx, obj, opts...)
		},
		Update: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
			s.writes++
			return c.Update(ctx, obj, opts...)
		},
	}).Build()
	return s
}

func (s *shelf) open() *episodeBook {
	return &episodeBook{client: s.Client, live: s.Client, clock: s.clock, namespace: "endpoint-sync-system"}
}

// evidenceAt is the incident, so long after now.
func evidenceAt(after time.Duration) tuner.Evidence {
	_, demand := incident()
	demand.Start = demand.Start.Add(after)
	return tuner.Evidence{Now: now.Add(after), Flags: v1alpha1.DefaultFlags(), Leader: tuner.Led, Demand: demand}
}

func TestTheBookOutlivesTheProcess(t *testing.T) {
	s, o := newShelf(t), ObjectiveOf(valid().Policy.Spec.Objective)
	first := s.open()
	wrote := first.with(t.Context(), evidenceAt(0), o)
	first.save(t.Context())
	if len(wrote) != 1 || s.writes != 1 {
		t.Fatalf("%d episodes, %d writes; want one of each", len(wrote), s.writes)
	}
	read := s.open().with(t.Context(), tuner.Evidence{Now: now.Add(time.Hour)}, o)
	if len(read) != 1 || !read[0].Start.Equal(wrote[0].Start) || len(read[0].Demand.Changes) != 1000 {
		t.Errorf("%d episodes after a restart, want the one that was written", len(read))
	}
}

func TestTheBookIsWrittenSeldom(t *testing.T) {
	s, o := newShelf(t), ObjectiveOf(valid().Policy.Spec.Objective)
	b := s.open()
	for _, step := range []struct {
		name   string
		after  time.Duration
		writes int
	}{
		{"a new episode", 0, 1},
		{"another, too soon after", time.Minute, 1},
		{"five minutes later", 5 * time.Minute, 2},
		{"nothing new", 5 * time.Minute, 2},
	} {
		s.clock.SetTime(now.Add(step.after))
		b.with(t.Context(), evidenceAt(step.after), o)
		b.save(t.Context())
		if s.writes != step.writes {
			t.Errorf("%s: %d writes, want %d", step.name, s.writes, step.writes)
		}
	}
}

func TestADamagedBookIsReplaced(t *testing.T) {
	damaged := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "endpoint-sync-system", Name: episodesName},
		BinaryData: map[string][]byte{episodesKey: []byte("no book")},
	}
	s, o := newShelf(t, damaged), ObjectiveOf(valid().Policy.Spec.Objective)
	b := s.open()
	if got := b.with(t.Context(), tuner.Evidence{Now: now}, o); len(got) != 0 {
		t.Errorf("%d episodes of a damaged book, want none", len(got))
	}
	b.with(t.Context(), evidenceAt(0), o)
	b.save(t.Context())
	if got := s.open().with(t.Context(), tuner.Evidence{Now: now}, o); len(got) != 1 {
		t.Errorf("%d episodes after the damaged book was replaced, want 1", len(got))
	}
}

func TestABookThatCannotBeReadIsNotOverwritten(t *testing.T) {
	s, o := newShelf(t), ObjectiveOf(valid().Policy.Spec.Objective)
	first := s.open()
	first.with(t.Context(), evidenceAt(0), o)
	first.save(t.Context())

	s.broken = true
	second := s.open()
	s.clock.SetTime(now.Add(time.Hour))
	second.with(t.Context(), evidenceAt(time.Hour), o)
	second.save(t.Context())
	if s.writes != 1 {
		t.Errorf("%d writes while the book could not be read, want only the first", s.writes)
	}
	s.broken = false
	if got := second.with(t.Context(), evidenceAt(time.Hour), o); len(got) != 2 {
		t.Errorf("%d episodes once it could be read, want that of before and that of meanwhile", len(got))
	}
}

func TestNoBookRemembersNothing(t *testing.T) {
	s, o := newShelf(t), ObjectiveOf(valid().Policy.Spec.Objective)
	var none *episodeBook
	if got := none.with(t.Context(), evidenceAt(0), o); got != nil {
		t.Errorf("no book remembers %d episodes", len(got))
	}
	none.save(t.Context())
	var object corev1.ConfigMap
	if err := s.Get(t.Context(), client.ObjectKey{Namespace: "endpoint-sync-system", Name: episodesName}, &object); !apierrors.IsNotFound(err) {
		t.Errorf("Get = %v, want nothing written", err)
	}
}
