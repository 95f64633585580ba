package watch

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

func TestAStreamKnowsItsConnectionUnderHTTP2(t *testing.T) {
	s, protocol := newServer(t), 0
	h := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protocol = r.ProtoMajor
		s.ServeHTTP(w, r)
	}))
	h.EnableHTTP2 = true
	h.StartTLS()
	defer h.Close()
	f, err := NewFeed(&rest.Config{Host: h.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}, lag.NewTracker(lag.Options{}), Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, line := traced(t.Context())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began := time.Now()
	answer, err := f.get(ctx, f.all[0], metav1.ListOptions{Watch: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Close() }()
	if protocol != 2 {
		t.Fatalf("protocol = HTTP/%d, want HTTP/2", protocol)
	}
	on := line()
	if on == nil {
		t.Fatal("line() = nil, want the connection below HTTP/2 and TLS")
	}
	if last := on.time(&on.last); last.Before(began) || last.After(time.Now()) {
		t.Errorf("last bytes at %v, want between %v and now", last, began)
	}
}
