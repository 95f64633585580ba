package watch

import (
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

// object is an object of the fake API server.
type object interface {
	metav1.Object
	marshaler
}

// change is one entry of the server's history.
type change struct {
	version  int
	resource string
	is       string
	frame    []byte
}

// server is an API server that speaks as much of the protocol as a feed needs, in protobuf, with one history for all
// resources.
type server struct {
	probes     atomic.Int64
	probeTakes time.Duration // until it is answered

	t *testing.T

	mu       sync.Mutex
	changed  sync.Cond
	version  int
	objects  map[string]map[string]object // by resource and key
	history  []change
	oldest   int             // watches from an older version are answered with 410
	broken   int             // how often all streams were broken
	refused  map[string]int  // status codes by resource
	noStream bool            // WatchList is not supported
	requests []string        // "resource query"
	half     map[string]bool // break the stream of the resource in the middle of the next frame
	dead     bool            // break all streams now, without their end
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, version: 10, objects: map[string]map[string]object{}, refused: map[string]int{}, half: map[string]bool{}}
	s.changed.L = &s.mu
	for resource, o := range map[string]object{
		"services": service(), "pods": pod("old", true), "endpointslices": slice("old"), "endpoints": endpoints("old"),
		"nodes":      &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}},
		"namespaces": &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"tier": "gold"}}},
	} {
		s.set(resource, o)
	}
	return s
}

func key(o object) string { return o.GetNamespace() + "/" + o.GetName() }

// set creates or updates an object.
func (s *server) set(resource string, o object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	is := "MODIFIED"
	if s.objects[resource] == nil {
		s.objects[resource] = map[string]object{}
	}
	if s.objects[resource][key(o)] == nil {
		is = "ADDED"
	}
	s.objects[resource][key(o)] = o
	s.append(resource, is, o)
}

// any returns some object of a resource.
func (s *server) any(resource string) object {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.objects[resource] {
		return o
	}
	return nil
}

// remove deletes an object.
func (s *server) remove(resource, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[resource][key]
	delete(s.objects[resource], key)
	s.append(resource, "DELETED", o)
}

func (s *server) append(resource, is string, o object) {
	s.version++
	o.SetResourceVersion(strconv.Itoa(s.version))
	s.history = append(s.history, change{s.version, resource, is, frame(s.t, is, o)})
	s.changed.Broadcast()
}

// do changes the server's state.
func (s *server) do(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	s.changed.Broadcast()
}

// asked returns the requests for a resource whose query contains the text.
func (s *server) asked(resource, text string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.requests {
		if strings.HasPrefix(r, resource+" ") && strings.Contains(r, text) {
			n++
		}
	}
	return n
}

// ServeHTTP answers lists and watches.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resource, query := path.Base(r.URL.Path), r.URL.Query()
	if r.URL.Path == probed().path {
		s.probes.Add(1)
		select {
		case <-time.After(s.probeTakes):
		case <-r.Context().Done():
		}
		s.refuse(w, http.StatusForbidden, "leases")
		return
	}
	s.mu.Lock()
	s.requests = append(s.requests, resource+" "+r.URL.RawQuery)
	code, noStream := s.refused[resource], s.noStream
	s.mu.Unlock()
	switch {
	case r.Header.Get("Accept") != accepted(resource, query.Get("watch")):
		http.Error(w, "not protobuf", http.StatusNotAcceptable)
	case code != 0:
		s.refuse(w, code, resource)
	case query.Get("watch") == "":
		s.list(w, resource)
	case query.Get("sendInitialEvents") != "" && noStream:
		s.refuse(w, http.StatusUnprocessableEntity, resource)
	default:
		s.watch(w, r, resource, query)
	}
}

// accepted is what the API server needs to be asked for: of metadata alone, a list has another name than a watch.
func accepted(resource, watch string) string {
	switch {
	case resource != "nodes" && resource != "namespaces":
		return protobuf
	case watch == "":
		return metadataOnlyList
	}
	return metadataOnly
}

func (s *server) refuse(w http.ResponseWriter, code int, resource string) {
	of := schema.GroupResource{Resource: resource}
	status := apierrors.NewGenericServerResponse(code, "get", of, "", "not you", 0, false).ErrStatus
	if code == http.StatusGone {
		status = apierrors.NewResourceExpired("too old").ErrStatus
	}
	w.Header().Set("Content-Type", protobuf)
	w.WriteHeader(code)
	_, _ = w.Write(envelope(s.t, &status))
}

func (s *server) list(w http.ResponseWriter, resource string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	meta := metav1.ListMeta{ResourceVersion: strconv.Itoa(s.version)}
	var list marshaler
	switch resource {
	case "pods":
		list = &corev1.PodList{ListMeta: meta, Items: items[corev1.Pod](s, resource)}
	case "services":
		list = &corev1.ServiceList{ListMeta: meta, Items: items[corev1.Service](s, resource)}
	case "endpointslices":
		list = &discoveryv1.EndpointSliceList{ListMeta: meta, Items: items[discoveryv1.EndpointSlice](s, resource)}
	case "endpoints":
		list = &corev1.EndpointsList{ListMeta: meta, Items: items[legacyEndpoints](s, resource)}
	default:
		list = &metav1.PartialObjectMetadataList{ListMeta: meta, Items: items[metav1.PartialObjectMetadata](s, resource)}
	}
	w.Header().Set("Content-Type", protobuf)
	_, _ = w.Write(envelope(s.t, list))
}

func items[T any](s *server, resource string) []T {
	var all []T
	for _, o := range s.objects[resource] {
		all = append(all, *any(o).(*T))
	}
	return all
}

func (s *server) watch(w http.ResponseWriter, r *http.Request, resource string, query url.Values) {
	from, _ := strconv.Atoi(query.Get("resourceVersion"))
	s.mu.Lock()
	defer s.mu.Unlock()
	if from < s.oldest && query.Get("sendInitialEvents") == "" {
		s.refuse(w, http.StatusGone, resource)
		return
	}
	w.Header().Set("Content-Type", protobuf+";stream=watch")
	w.WriteHeader(http.StatusOK)
	if query.Get("sendInitialEvents") != "" {
		for _, o := range s.objects[resource] {
			s.send(w, frame(s.t, "ADDED", o))
		}
		end := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			ResourceVersion: strconv.Itoa(s.version), Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"},
		}}
		s.send(w, frame(s.t, "BOOKMARK", end))
		from = s.version
	}
	w.(http.Flusher).Flush()
	defer context.AfterFunc(r.Context(), func() { s.do(func() {}) })()
	for broken := s.broken; s.broken == broken && r.Context().Err() == nil; s.changed.Wait() {
		if s.dead {
			panic(http.ErrAbortHandler)
		}
		for _, c := range s.history {
			if c.resource != resource || c.version <= from {
				continue
			}
			if from = c.version; s.half[resource] {
				s.half[resource] = false
				s.send(w, c.frame[:len(c.frame)/2])
				panic(http.ErrAbortHandler)
			}
			s.send(w, c.frame)
			if c.is == "ERROR" {
				return
			}
		}
		w.(http.Flusher).Flush()
	}
}

// send writes a frame; the length is always that of a whole one.
func (s *server) send(w http.ResponseWriter, frame []byte) {
	_, _ = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...))
}

// expire sends an error on the watches of a resource, as an API server whose history has been compacted.
func (s *server) expire(resource string) {
	status := apierrors.NewResourceExpired("too old").ErrStatus
	s.do(func() {
		s.version++
		s.oldest = s.version
		s.history = append(s.history, change{s.version, resource, "ERROR", frame(s.t, "ERROR", &status)})
	})
}

// memory is a listener whose connections are pipes.
type memory struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

func (m *memory) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

func (m *memory) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case m.conns <- there:
		return here, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

// start runs the server and a feed until the test ends. It must be called inside a synctest bubble.
func (s *server) start(tracker *lag.Tracker, options Options) *Feed {
	s.t.Helper()
	m := &memory{conns: make(chan net.Conn), closed: make(chan struct{})}
	h := &http.Server{Handler: s}
	served := make(chan error, 1)
	go func() { served <- h.Serve(m) }()
	f, err := NewFeed(&rest.Config{Host: "http://server", Dial: m.dial}, tracker, options)
	if err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(s.t.Context())
	go func() { ended <- f.Start(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			s.t.Errorf("Start() = %v, want nil", err)
		}
		_ = h.Close() // It has no client any more.
		<-served
	})
	return f
}
