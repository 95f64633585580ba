package scale

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
)

// Server plays the API server of a cluster that exists only in numbers. It serves what endpoint tools read (Pods,
// Services, EndpointSlices, Endpoints, nodes, namespaces, Leases, and the operator's own kinds) by LIST, WATCH and
// WatchList, in JSON and protobuf, and lets everybody do everything.
type Server struct {
	cluster *cluster
	churner *churner
	traffic *traffic
	orders  chan order // churns that were asked for
}

// NewServer makes a cluster and its server.
func NewServer(shape Shape) *Server {
	c := newCluster(shape, time.Now())
	return &Server{cluster: c, churner: newChurner(c), traffic: newTraffic(), orders: make(chan order, 1)}
}

// Serve answers on a listener until ctx ends; nothing of it runs after it has returned.
func (s *Server) Serve(ctx context.Context, listener net.Listener, identity Identity) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { s.cluster.idle(ctx) })
	running.Go(func() { s.obey(ctx) })
	defer running.Wait()
	defer cancel()
	h := &http.Server{
		Handler: s, TLSConfig: identity.config(), ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { _ = h.Close() })
	defer stop()
	if err := h.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the synthetic API: %w", err)
	}
	return nil
}

// Words that URLs and objects have.
const (
	pathGroups = "apis"
	yes        = "true"
	anybody    = "lab" // whoever asks
)

// request is a request for objects of a kind.
type request struct {
	kind        *kind
	namespace   string
	name        string
	subresource string
	query       map[string][]string
	encoding    encoding
	labels      labels.Selector
	fields      fields.Selector
}

func (r *request) param(name string) string {
	if v := r.query[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// wants says whether an object is asked for.
func (r *request) wants(o object) bool {
	if r.namespace != "" && o.GetNamespace() != r.namespace {
		return false
	}
	at := fields.Set{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace()}
	return (r.labels.Empty() || r.labels.Matches(labels.Set(o.GetLabels()))) && (r.fields.Empty() || r.fields.Matches(at))
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, controlPrefix) {
		s.control(w, r)
		return
	}
	if s.discover(w, r) || s.review(w, r) {
		return
	}
	req, err := s.parse(r)
	if err != nil {
		s.traffic.count(r.Method + " " + r.URL.Path)
		fail(w, err)
		return
	}
	s.serve(w, r, req)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, req *request) {
	resource := req.kind.resource
	watch := req.param("watch")
	switch {
	case r.Method != http.MethodGet:
		s.traffic.count(r.Method + " " + resource)
		s.write(w, r, req)
	case req.name != "":
		s.traffic.count("GET " + resource)
		s.get(w, req)
	case (watch == yes || watch == "1") && req.param("sendInitialEvents") == yes:
		s.traffic.list("WATCHLIST " + resource)
		s.watch(w, r, req)
	case watch == yes || watch == "1":
		s.traffic.watch("WATCH " + resource)
		s.watch(w, r, req)
	default:
		s.traffic.list("LIST " + resource)
		s.list(w, req)
	}
}

// parse understands the URL of objects: [namespaces/NAMESPACE/]RESOURCE[/NAME[/SUBRESOURCE]] below a group and version.
func (s *Server) parse(r *http.Request) (*request, error) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	base := 2 // api/v1
	if parts[0] == pathGroups {
		base = 3
	}
	notFound := apierrors.NewNotFound(schema.GroupResource{Resource: r.URL.Path}, "")
	if len(parts) <= base {
		return nil, notFound
	}
	req, rest := &request{query: r.URL.Query()}, parts[base:]
	if rest[0] == resourceNamespaces && len(rest) > 2 {
		req.namespace, rest = rest[1], rest[2:]
	}
	k := s.cluster.kind("/" + strings.Join(parts[:base], "/") + "/" + rest[0])
	if k == nil {
		return nil, notFound
	}
	req.kind, req.encoding = k, encodingFor(r.Header.Get("Accept"), k)
	if len(rest) > 1 {
		req.name = rest[1]
	}
	if len(rest) > 2 {
		req.subresource = rest[2]
	}
	var err error
	if req.labels, err = labels.Parse(req.param("labelSelector")); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if req.fields, err = fields.ParseSelector(req.param("fieldSelector")); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return req, nil
}

func (s *Server) get(w http.ResponseWriter, req *request) {
	o := s.cluster.named(req.kind, req.namespace, req.name)
	if o == nil {
		fail(w, req.notFound())
		return
	}
	s.send(w, req, http.StatusOK, o)
}

func (r *request) notFound() error {
	return apierrors.NewNotFound(schema.GroupResource{Group: r.kind.gv.Group, Resource: r.kind.resource}, r.name)
}

func (s *Server) send(w http.ResponseWriter, req *request, status int, o object) {
	body, err := req.encoding.one(o, req.encoding.typeOf(req.kind, ""))
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", req.encoding.contentType())
	w.WriteHeader(status)
	_, _ = w.Write(body) // A client that has gone needs no answer.
}

// list answers a LIST: in pages if the client asks for them, but for resource version "0", which the cache of an API
// server answers without regard to the limit (k8s.io/apiserver).
func (s *Server) list(w http.ResponseWriter, req *request) {
	limit, skip := 0, 0
	if text := req.param("limit"); text != "" && req.param("resourceVersion") != "0" {
		limit, _ = strconv.Atoi(text) // No number is no limit.
	}
	if token := req.param("continue"); token != "" {
		var err error
		if skip, err = strconv.Atoi(token); err != nil {
			fail(w, apierrors.NewBadRequest("continue is not a token of this server"))
			return
		}
	}
	s.cluster.mu.Lock()
	version, all := s.cluster.version, req.kind.objects()
	s.cluster.mu.Unlock()
	p := page{
		version: versionText(version), item: req.encoding.typeOf(req.kind, ""), is: req.encoding.typeOf(req.kind, "List"),
		objects: req.some(all, skip, limit),
	}
	if limit > 0 && !empty(req.some(all, skip+limit, 1)) {
		p.next = strconv.Itoa(skip + limit)
	}
	w.Header().Set("Content-Type", req.encoding.contentType())
	if err := req.encoding.list(w, p); err == nil { // Else the client has gone.
		s.traffic.synced(req.kind.resource)
	}
}

// some are the objects that are asked for, without the first few and up to a limit (0: none).
func (r *request) some(all iter.Seq[object], skip, limit int) iter.Seq[object] {
	return func(yield func(object) bool) {
		n := 0
		for o := range all {
			if !r.wants(o) {
				continue
			}
			n++
			if limit > 0 && n > skip+limit || n > skip && !yield(o) {
				return
			}
		}
	}
}

func empty(objects iter.Seq[object]) bool {
	for range objects {
		return false
	}
	return true
}

// write changes the objects that clients may change; those of the synthetic cluster are read-only.
func (s *Server) write(w http.ResponseWriter, r *http.Request, req *request) {
	k := req.kind
	if k.table == nil {
		fail(w, apierrors.NewMethodNotSupported(schema.GroupResource{Resource: k.resource}, r.Method))
		return
	}
	if r.Method == http.MethodDelete {
		if !s.cluster.take(k, types.NamespacedName{Namespace: req.namespace, Name: req.name}) {
			fail(w, req.notFound())
			return
		}
		sendJSON(w, http.StatusOK, metav1.Status{Status: metav1.StatusSuccess})
		return
	}
	after, err := s.written(r, req)
	if err != nil {
		fail(w, err)
		return
	}
	s.cluster.put(k, after)
	status := http.StatusOK
	if r.Method == http.MethodPost {
		status = http.StatusCreated
	}
	s.send(w, req, status, after)
}

// written is the object that a client creates, puts in the place of another, or patches.
func (s *Server) written(r *http.Request, req *request) (object, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if r.Method == http.MethodPatch {
		before := s.cluster.named(req.kind, req.namespace, req.name)
		if before == nil {
			return nil, req.notFound()
		}
		after, patchErr := req.kind.merged(before, body)
		if patchErr != nil {
			return nil, apierrors.NewBadRequest(patchErr.Error())
		}
		return after, nil
	}
	after := req.kind.blank()
	if err = decode(req.kind, body, after); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	after.SetNamespace(req.namespace)
	return after, nil
}

// decode reads an object in protobuf or JSON.
func decode(k *kind, body []byte, into object) error {
	if k.protobuf() {
		_, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, into)
		return err
	}
	return json.Unmarshal(body, into)
}

// review answers what servers ask about their callers (all are known and may do everything), and takes Events.
func (s *Server) review(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodPost {
		return false
	}
	k := &kind{}
	var o object
	switch last := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]; last {
	case "tokenreviews":
		k.gv, k.name = authenticationv1.SchemeGroupVersion, "TokenReview"
		o = &authenticationv1.TokenReview{Status: authenticationv1.TokenReviewStatus{
			Authenticated: true, User: authenticationv1.UserInfo{Username: anybody, Groups: []string{"system:masters"}},
		}}
	case "subjectaccessreviews":
		k.gv, k.name = authorizationv1.SchemeGroupVersion, "SubjectAccessReview"
		o = &authorizationv1.SubjectAccessReview{Status: authorizationv1.SubjectAccessReviewStatus{Allowed: true}}
	case "events":
		k.gv, k.name = eventsv1.SchemeGroupVersion, "Event"
		o = &eventsv1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: anybody}}
	default:
		return false
	}
	s.traffic.count("POST " + k.name)
	s.send(w, &request{kind: k, encoding: encodingFor(r.Header.Get("Accept"), nil)}, http.StatusCreated, o)
	return true
}

// fail answers with an error as an API server does.
func fail(w http.ResponseWriter, err error) {
	var known apierrors.APIStatus
	if !errors.As(err, &known) {
		known = apierrors.NewInternalError(err)
	}
	status := known.Status()
	sendJSON(w, int(status.Code), status)
}

// sendJSON answers with a value, or with its type and the value if it is a Status.
func sendJSON(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if status, ok := v.(metav1.Status); ok {
		body, err = typedJSON(status, runtime.TypeMeta{APIVersion: "v1", Kind: "Status"})
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(code)
	_, _ = w.Write(body) // A client that has gone needs no answer.
}
