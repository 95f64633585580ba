package staticpod

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	"sigs.k8s.io/yaml"
)

// Annotations that the kubelet puts on static Pods and their mirrors (pkg/kubelet/types).
const (
	annotationHash   = "kubernetes.io/config.hash"
	annotationSource = "kubernetes.io/config.source"
	annotationMirror = "kubernetes.io/config.mirror"
)

const (
	// maxManifest is how much of a file the kubelet reads (maxConfigLength, pkg/kubelet/config/common.go).
	maxManifest = 10 << 20
	// watchRetry is how long the kubelet waits before it watches a directory again (pkg/kubelet/config/file_linux.go).
	watchRetry = time.Second
)

// source reads a manifests directory as pkg/kubelet/config/file.go and file_linux.go do (Kubernetes v1.37.2).
type source struct {
	dir     string
	node    string
	poll    time.Duration
	log     logr.Logger
	clock   clock.WithTicker
	store   map[string]*corev1.Pod // by full name
	byFile  map[string]string      // path to full name
	publish func([]*corev1.Pod)    // gets the whole set each time it may have changed
}

// run reads the directory until ctx ends: at once, at every poll, and file by file as events come in.
func (s *source) run(ctx context.Context) {
	watcher := s.watch()
	defer func() { s.close(watcher) }()
	s.list()
	tick, retry := s.clock.NewTicker(s.poll), s.clock.NewTicker(watchRetry)
	defer tick.Stop()
	defer retry.Stop()
	for {
		var events <-chan fsnotify.Event
		var failures <-chan error
		if watcher != nil {
			events, failures = watcher.Events, watcher.Errors
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C():
			s.list()
		case <-retry.C():
			if watcher == nil || len(watcher.WatchList()) == 0 { // the directory was absent, or went
				s.close(watcher)
				watcher = s.watch()
			}
		case e := <-events:
			s.consume(e)
		case err := <-failures:
			s.log.Error(err, "Watch of the manifests directory broke")
			s.close(watcher)
			watcher = nil
		}
	}
}

func (s *source) watch() *fsnotify.Watcher {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		s.log.Error(err, "No inotify, polling only")
		return nil
	}
	if err = w.Add(s.dir); err != nil {
		s.log.V(1).Info("Manifests directory cannot be watched", "error", err.Error())
		s.close(w)
		return nil
	}
	return w
}

func (s *source) close(w *fsnotify.Watcher) {
	if w == nil {
		return
	}
	if err := w.Close(); err != nil {
		s.log.V(1).Info("Watch could not be closed", "error", err.Error())
	}
}

// list reads every file whose name does not start with a dot. Of several Pods of one name the lexically last file wins,
// and one that cannot be read drops its Pod.
func (s *source) list() {
	files, err := filepath.Glob(filepath.Join(s.dir, "[^.]*"))
	if err != nil {
		s.log.Error(err, "Manifests directory cannot be listed")
		return
	}
	slices.Sort(files)
	pods := map[string]*corev1.Pod{}
	for _, path := range files {
		pod, err := s.read(path)
		if err != nil {
			s.log.Error(err, "Manifest cannot be used", "file", filepath.Base(path))
			continue
		}
		pods[fullName(pod)] = pod
	}
	if len(files) == 0 { // the kubelet says so and forgets to empty its store
		s.publish(nil)
		return
	}
	s.store = pods
	s.send()
}

// consume handles one event: of the file that it names alone, so for a moment a duplicate that was written last wins.
func (s *source) consume(e fsnotify.Event) {
	switch {
	case strings.HasPrefix(filepath.Base(e.Name), "."):
	case e.Op.Has(fsnotify.Create), e.Op.Has(fsnotify.Write), e.Op.Has(fsnotify.Chmod):
		pod, err := s.read(e.Name)
		if err != nil {
			s.log.Error(err, "Manifest cannot be used", "file", filepath.Base(e.Name))
			return
		}
		s.store[fullName(pod)] = pod
		s.send()
	case e.Op.Has(fsnotify.Remove), e.Op.Has(fsnotify.Rename):
		name, known := s.byFile[e.Name]
		if !known {
			return
		}
		delete(s.byFile, e.Name)
		delete(s.store, name)
		s.send()
	}
}

func (s *source) send() { s.publish(slices.Collect(maps.Values(s.store))) }

// read decodes the first YAML document of a regular file as a Pod and makes it a static Pod of this node.
func (s *source) read(path string) (*corev1.Pod, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	data, err := readAtMost(path)
	if err != nil {
		return nil, err
	}
	pod, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", path, err)
	}
	if err = s.own(pod, path); err != nil {
		return nil, err
	}
	s.byFile[path] = fullName(pod)
	return pod, nil
}

func readAtMost(path string) (_ []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, maxManifest))
}

// decode is lenient as the kubelet is: unknown fields and keys given twice do not matter to it.
func decode(data []byte) (*corev1.Pod, error) {
	asJSON, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, err
	}
	obj, _, err := scheme.Codecs.UniversalDeserializer().Decode(asJSON, nil, nil)
	if err != nil {
		return nil, err
	}
	pod, ok := obj.(*corev1.Pod)
	switch {
	case !ok:
		return nil, fmt.Errorf("%T is not a Pod", obj)
	case pod.Name == "":
		return nil, errors.New("the Pod has no name")
	case len(pod.Spec.Containers) == 0:
		return nil, errors.New("the Pod has no containers")
	}
	setDefaults(pod)
	return pod, nil
}

// setDefaults sets those of the API's defaults that the runner uses, so that writing one out changes no UID.
func setDefaults(pod *corev1.Pod) {
	if pod.Spec.RestartPolicy == "" {
		pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
	}
	if pod.Spec.TerminationGracePeriodSeconds == nil {
		grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
		pod.Spec.TerminationGracePeriodSeconds = &grace
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		for _, p := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
			if p == nil {
				continue
			}
			setDefault(&p.PeriodSeconds, 10)
			setDefault(&p.TimeoutSeconds, 1)
			setDefault(&p.SuccessThreshold, 1)
			setDefault(&p.FailureThreshold, 3)
		}
	}
}

func setDefault(field *int32, value int32) {
	if *field == 0 {
		*field = value
	}
}

// own does what applyDefaults of pkg/kubelet/config/common.go does. The UID is a hash of the decoded Pod, the node's name
// and the file's path, so it changes with any change of the Pod and with nothing else. The kubelet hashes its internal
// type and gets other digits.
func (s *source) own(pod *corev1.Pod, path string) error {
	if pod.UID == "" {
		content, err := json.Marshal(pod)
		if err != nil {
			return fmt.Errorf("hash %s: %w", path, err)
		}
		h := fnv.New128a()
		if _, err = fmt.Fprintf(h, "%shost:%sfile:%s", content, s.node, path); err != nil {
			return fmt.Errorf("hash %s: %w", path, err)
		}
		pod.UID = types.UID(hex.EncodeToString(h.Sum(nil)))
	}
	pod.Name += "-" + strings.ToLower(s.node)
	if pod.Namespace == "" {
		pod.Namespace = corev1.NamespaceDefault
	}
	pod.Spec.NodeName = s.node
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[annotationHash] = string(pod.UID)
	pod.Annotations[annotationSource] = "file"
	pod.Spec.Tolerations = append(pod.Spec.Tolerations, corev1.Toleration{
		Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute,
	})
	return nil
}
