package scale

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
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
	running context.Context
}

// NewServer makes a cluster and its server, both of which stop when ctx ends.
func NewServer(ctx context.Context, shape Shape) *Server {
	c := newCluster(shape, time.Now())
	s := &Server{cluster: c, churner: newChurner(c), traffic: newTraffic(), running: ctx}
	go c.idle(ctx)
	return s
}

// Serve answers on a listener until the context of the server ends.
func (s *Server) Serve(listener net.Listener, identity Identity) error {
	h := &http.Server{Handler: s, TLSConfig: identity.config(), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(s.running, func() { _ = h.Close() })
	defer stop()
	if err := h.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the synthetic API: %w", err)
	}
	return nil
}

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
	case (watch == "true" || watch == "1") && req.param("sendInitialEvents") == "true":
		s.traffic.list("WATCHLIST " + resource)
		s.watch(w, r, req)
	case watch == "true" || watch == "1":
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
	if parts[0] == "apis" {
		base = 3
	}
	notFound := apierrors.NewNotFound(schema.GroupResource{Resource: r.URL.Path}, "")
	if len(parts) <= base {
		return nil, notFound
	}
	req, rest := &request{query: r.URL.Query()}, parts[base:]
	if rest[0] == "namespaces" && len(rest) > 2 {
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

// list answers a LIST: in pages if the client asks for them, and for a version of its choice, which the server's cache
// cannot page (k8s.io/apiserver ignores the limit of a list with resourceVersion "0").
func (s *Server) list(w http.ResponseWriter, req *request) {
	limit, _ := strconv.Atoi(req.param("limit"))
	if req.param("resourceVersion") == "0" {
		limit = 0
	}
	skip, _ := strconv.Atoi(req.param("continue"))
	s.cluster.mu.Lock()
	version, all := s.cluster.version, req.kind.objects()
	s.cluster.mu.Unlock()
	p := page{
		version: versionText(version), item: req.encoding.typeOf(req.kind, ""), is: req.encoding.typeOf(req.kind, "List"),
	}
	matching := 0
	for o := range all {
		if limit == 0 || matching > skip+limit {
			break
		}
		if req.wants(o) {
			matching++
		}
	}
	if limit > 0 && matching > skip+limit {
		p.next = strconv.Itoa(skip + limit)
	}
	p.objects = func(yield func(object) bool) {
		n := 0
		for o := range all {
			if !req.wants(o) {
				continue
			}
			if n++; n <= skip {
				continue
			}
			if limit > 0 && n > skip+limit || !yield(o) {
				return
			}
		}
	}
	w.Header().Set("Content-Type", req.encoding.contentType())
	if err := req.encoding.list(w, p); err == nil {
		s.traffic.synced(req.kind.resource)
	}
}

// write changes the objects that clients may change; those of the synthetic cluster are read-only.
func (s *Server) write(w http.ResponseWriter, r *http.Request, req *request) {
	k := req.kind
	if k.table == nil {
		fail(w, apierrors.NewMethodNotSupported(schema.GroupResource{Resource: k.resource}, r.Method))
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		fail(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	key := types.NamespacedName{Namespace: req.namespace, Name: req.name}
	if r.Method == http.MethodDelete {
		if !s.cluster.take(k, key) {
			fail(w, req.notFound())
			return
		}
		sendJSON(w, http.StatusOK, metav1.Status{Status: metav1.StatusSuccess})
		return
	}
	after := k.blank()
	if r.Method == http.MethodPatch {
		before := s.cluster.named(k, req.namespace, req.name)
		if before == nil {
			fail(w, req.notFound())
			return
		}
		after, err = k.merged(before, body)
	} else {
		err = decode(k, body, after)
		after.SetNamespace(req.namespace)
	}
	if err != nil {
		fail(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	s.cluster.put(k, after)
	status := http.StatusOK
	if r.Method == http.MethodPost {
		status = http.StatusCreated
	}
	s.send(w, req, status, after)
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
			Authenticated: true, User: authenticationv1.UserInfo{Username: "lab", Groups: []string{"system:masters"}},
		}}
	case "subjectaccessreviews":
		k.gv, k.name = authorizationv1.SchemeGroupVersion, "SubjectAccessReview"
		o = &authorizationv1.SubjectAccessReview{Status: authorizationv1.SubjectAccessReviewStatus{Allowed: true}}
	case "events":
		k.gv, k.name = eventsv1.SchemeGroupVersion, "Event"
		o = &eventsv1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "lab"}}
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
