package scale

import (
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"
)

const (
	// watchTimeout ends watches that ask for nothing else, as kube-apiserver does (--min-request-timeout).
	watchTimeout = 30 * time.Minute
	// bookmarkEvery is how often kube-apiserver tells a quiet watch how far it is.
	bookmarkEvery = time.Minute
	// batchSize is how many events are written before what was written is flushed.
	batchSize = 256
)

// stream is one watch being answered.
type stream struct {
	*request
	w        http.ResponseWriter
	history  *history
	position int64
	traffic  *traffic
}

// watch answers a watch: with all that there is first if the client asks for that, and then with what happens.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, req *request) {
	st := &stream{request: req, w: w, history: req.kind.history, traffic: s.traffic}
	w.Header().Set("Content-Type", req.encoding.streamType())
	w.WriteHeader(http.StatusOK)
	if err := s.begin(st); err != nil {
		return // The client has gone, or was told to list again.
	}
	timeout := watchTimeout
	if seconds, err := strconv.Atoi(req.param("timeoutSeconds")); err == nil && seconds > 0 {
		timeout = time.Duration(seconds) * time.Second
	}
	end := time.NewTimer(timeout)
	defer end.Stop()
	bookmarks := time.NewTicker(bookmarkEvery)
	defer bookmarks.Stop()
	for {
		b := st.history.read(st.position, batchSize)
		s.traffic.behind(b.behind)
		if !b.kept {
			_ = st.expired() // The client has gone.
			return
		}
		if len(b.events) > 0 {
			if err := st.send(b.events); err != nil {
				return
			}
			continue
		}
		select {
		case <-r.Context().Done():
			return
		case <-end.C:
			return
		case <-b.more:
		case <-bookmarks.C:
			if err := s.bookmark(st); err != nil {
				return
			}
		}
	}
}

// begin sends what there is, if the client wants it, and finds where its events begin.
func (s *Server) begin(st *stream) error {
	version := st.param("resourceVersion")
	initial := st.param("sendInitialEvents") == yes
	if !initial && version != "" && version != "0" {
		at, err := strconv.ParseInt(version, 10, 64)
		position, kept := st.history.after(at)
		if err != nil || !kept {
			s.traffic.expired()
			return st.expired()
		}
		st.position = position
		return st.flush()
	}
	s.cluster.mu.Lock()
	all, now := st.kind.objects(), s.cluster.version
	st.position = st.history.end()
	s.cluster.mu.Unlock()
	for o := range all {
		if err := st.event(apiwatch.Added, o); err != nil {
			return err
		}
	}
	if initial {
		if err := st.mark(now, map[string]string{metav1.InitialEventsAnnotationKey: yes}); err != nil {
			return err
		}
	}
	if err := st.flush(); err != nil {
		return err
	}
	s.traffic.synced(st.kind.resource)
	return nil
}

func (st *stream) send(events []event) error {
	for _, e := range events {
		if err := st.event(e.what, e.object()); err != nil {
			return err
		}
		st.position++
	}
	return st.flush()
}

// event sends one event, if it is about an object that the watch is about.
func (st *stream) event(what apiwatch.EventType, o object) error {
	if !st.wants(o) {
		return nil
	}
	body, err := st.encoding.one(o, st.encoding.typeOf(st.kind, ""))
	if err != nil {
		return err
	}
	return st.frame(what, body)
}

func (st *stream) frame(what apiwatch.EventType, body []byte) error {
	frame, err := st.encoding.frame(what, body)
	if err != nil {
		return err
	}
	_, err = st.w.Write(frame)
	return err
}

func (st *stream) flush() error { return http.NewResponseController(st.w).Flush() }

// bookmark tells how far the watch is, if it has everything.
func (s *Server) bookmark(st *stream) error {
	if st.param("allowWatchBookmarks") != yes {
		return nil
	}
	s.cluster.mu.Lock()
	now, current := s.cluster.version, st.position == st.history.end()
	s.cluster.mu.Unlock()
	if !current {
		return nil
	}
	if err := st.mark(now, nil); err != nil {
		return err
	}
	return st.flush()
}

// mark sends a bookmark.
func (st *stream) mark(version int64, annotations map[string]string) error {
	o := st.kind.blank()
	o.SetResourceVersion(versionText(version))
	o.SetAnnotations(annotations)
	body, err := st.encoding.one(o, st.encoding.typeOf(st.kind, ""))
	if err != nil {
		return err
	}
	return st.frame(apiwatch.Bookmark, body)
}

// expired tells the client that it has to list again.
func (st *stream) expired() error {
	status := apierrors.NewResourceExpired("too old resource version").Status()
	is := runtime.TypeMeta{APIVersion: "v1", Kind: "Status"}
	body, err := typedJSON(status, is)
	if st.encoding.protobuf {
		if body, err = status.Marshal(); err == nil {
			body, err = wrap(body, is)
		}
	}
	if err == nil {
		err = st.frame(apiwatch.Error, body)
	}
	if err == nil {
		err = st.flush()
	}
	if err == nil {
		err = apierrors.NewResourceExpired("the client was told to list again")
	}
	return err
}
