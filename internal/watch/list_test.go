package watch

import (
	"bytes"
	"io"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

func TestAListIsReadItemByItem(t *testing.T) {
	whole := envelope(t, &corev1.PodList{
		ListMeta: metav1.ListMeta{ResourceVersion: "7", Continue: "more"},
		Items:    []corev1.Pod{*pod("a", true), *pod("b", false)},
	})
	pods, answer, err := received(t, whole)
	if err != nil || pods != 2 || answer.ResourceVersion != "7" || answer.Continue != "more" {
		t.Errorf("%d pods, version %q, continue %q, error %v, want 2, 7, more and none",
			pods, answer.ResourceVersion, answer.Continue, err)
	}
	// The fields after the list itself are of no account.
	raw, err := unwrap(whole)
	if err != nil {
		t.Fatal(err)
	}
	end := bytes.Index(whole, raw) + len(raw)
	for n := range end {
		if _, _, err := received(t, whole[:n]); err == nil {
			t.Errorf("a list cut off after %d of %d bytes: no error", n, end)
		}
	}
}

// received reads a list and returns how many objects it hands over.
func received(t *testing.T, body []byte) (int, *list, error) {
	t.Helper()
	f, err := NewFeed(&rest.Config{Host: "http://server"}, lag.NewTracker(lag.Options{}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	answer := &list{}
	err = f.newStream(f.all[0], io.NopCloser(bytes.NewReader(body)), func() {}).receiveList(answer)
	return len(f.queue.items), answer, err
}
