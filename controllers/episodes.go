package controllers

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/endpointsync/endpoint-sync-operator/internal/tuner"
)

const (
	// episodesName is the ConfigMap, in the operator's own namespace, that the worst episodes are kept in.
	episodesName = "endpoint-sync-episodes"
	episodesKey  = "book.json.gz"

	// saveEvery is how often it is written at most. What is lost with a crash is at most as long ago.
	saveEvery = 5 * time.Minute
)

// episodeBook keeps the worst episodes over restarts of the operator. Only the leader has it: it reads what the leader
// before it wrote with its first pass. A nil one remembers nothing.
type episodeBook struct {
	client    client.Client
	live      client.Reader // past the cache, which would watch every ConfigMap
	clock     clock.PassiveClock
	namespace string

	mu     sync.Mutex
	loaded bool
	book   []tuner.Episode
	stored []tuner.Episode
	tried  time.Time
}

// with returns the worst episodes, those of the evidence among them.
func (b *episodeBook) with(ctx context.Context, e tuner.Evidence, o tuner.Objective) []tuner.Episode {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.loaded {
		b.load(ctx)
	}
	b.book = tuner.Remember(b.book, e, o)
	return slices.Clone(b.book)
}

// load reads the book. One that cannot be understood is logged and replaced; while it cannot be read nothing is written.
func (b *episodeBook) load(ctx context.Context) {
	log := ctrl.LoggerFrom(ctx).WithValues("namespace", b.namespace, "configMap", episodesName)
	var object corev1.ConfigMap
	err := b.live.Get(ctx, b.key(), &object)
	if err != nil && !apierrors.IsNotFound(err) {
		log.V(1).Info("The worst episodes cannot be read yet", "error", err.Error())
		return
	}
	b.loaded = true
	if err != nil {
		return
	}
	if b.stored, err = tuner.DecodeBook(object.BinaryData[episodesKey]); err != nil {
		log.Error(err, "Start without the worst episodes of the last week; flags are not lowered before two days have passed")
		return
	}
	b.book = append(slices.Clone(b.stored), b.book...) // with what was learned while it could not be read
}

func (b *episodeBook) key() client.ObjectKey {
	return client.ObjectKey{Namespace: b.namespace, Name: episodesName}
}

// save writes the book if it has changed since and was not written lately. A failure is logged and tried again: the
// policy's status is no place for it, because nothing is decided on what is stored.
func (b *episodeBook) save(ctx context.Context) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock.Now()
	if !b.loaded || now.Sub(b.tried) < saveEvery || slices.EqualFunc(b.book, b.stored, sameEpisode) {
		return
	}
	b.tried = now
	if err := b.write(ctx); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Keep the worst episodes; tried again later")
		return
	}
	b.stored = slices.Clone(b.book)
}

func (b *episodeBook) write(ctx context.Context) error {
	packed, err := tuner.EncodeBook(b.book)
	if err != nil {
		return err
	}
	object := corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: episodesName, Namespace: b.namespace,
		Labels: map[string]string{"app.kubernetes.io/part-of": "endpoint-sync-operator"},
	}}
	put := func() error { return b.client.Update(ctx, &object) }
	if err := b.live.Get(ctx, b.key(), &object); apierrors.IsNotFound(err) {
		put = func() error { return b.client.Create(ctx, &object) }
	} else if err != nil {
		return fmt.Errorf("read ConfigMap %s: %w", b.key(), err)
	}
	object.BinaryData = map[string][]byte{episodesKey: packed}
	if err := put(); err != nil {
		return fmt.Errorf("write ConfigMap %s: %w", b.key(), err)
	}
	return nil
}

// sameEpisode compares what tells two states of an episode apart: it only ever grows.
func sameEpisode(a, b tuner.Episode) bool {
	return a.Start.Equal(b.Start) && len(a.Demand.Changes) == len(b.Demand.Changes)
}
