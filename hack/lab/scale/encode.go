package scale

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"mime"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"
)

// encoding is how a client wants objects.
type encoding struct {
	protobuf bool
	// partial leaves only the metadata (PartialObjectMetadata).
	partial bool
}

const (
	protobufType = runtime.ContentTypeProtobuf
	jsonType     = runtime.ContentTypeJSON
	// protobufMagic begins every object in protobuf (k8s.io/apimachinery/pkg/runtime/serializer/protobuf).
	protobufMagic = "k8s\x00"
)

// marshaler is what generated types in protobuf have.
type marshaler interface {
	Marshal() ([]byte, error)
	Size() int
}

// encodingFor picks the first encoding that a client accepts and that the kind has.
func encodingFor(accept string, k *kind) encoding {
	for clause := range strings.SplitSeq(accept, ",") {
		mediaType, parameters, err := mime.ParseMediaType(clause)
		if err != nil {
			continue
		}
		e := encoding{partial: strings.HasPrefix(parameters["as"], "PartialObjectMetadata")}
		switch {
		case parameters["as"] != "" && !e.partial:
		case mediaType == protobufType && (e.partial || k == nil || k.protobuf()):
			e.protobuf = true
			return e
		case mediaType == jsonType, mediaType == "*/*":
			return e
		}
	}
	return encoding{}
}

// protobuf says whether the kind has that encoding: custom resources have not.
func (k *kind) protobuf() bool {
	_, ok := k.blank().(marshaler)
	return ok
}

func (e encoding) contentType() string {
	if e.protobuf {
		return protobufType
	}
	return jsonType
}

func (e encoding) streamType() string {
	if e.protobuf {
		return protobufType + ";stream=watch"
	}
	return jsonType
}

// typeOf is the type that objects of a kind have on the wire, with a suffix such as "List".
func (e encoding) typeOf(k *kind, suffix string) runtime.TypeMeta {
	if e.partial {
		return runtime.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata" + suffix}
	}
	return runtime.TypeMeta{APIVersion: k.gv.String(), Kind: k.name + suffix}
}

// shown is what is sent of an object.
func (e encoding) shown(o object) object {
	if !e.partial {
		return o
	}
	return &metav1.PartialObjectMetadata{ObjectMeta: metaOf(o)}
}

// metaOf returns an object's metadata.
func metaOf(o object) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: o.GetName(), GenerateName: o.GetGenerateName(), Namespace: o.GetNamespace(), UID: o.GetUID(),
		ResourceVersion: o.GetResourceVersion(), Generation: o.GetGeneration(), CreationTimestamp: o.GetCreationTimestamp(),
		DeletionTimestamp: o.GetDeletionTimestamp(), DeletionGracePeriodSeconds: o.GetDeletionGracePeriodSeconds(),
		Labels: o.GetLabels(), Annotations: o.GetAnnotations(), OwnerReferences: o.GetOwnerReferences(),
		Finalizers: o.GetFinalizers(), ManagedFields: o.GetManagedFields(),
	}
}

// one encodes an object by itself.
func (e encoding) one(o object, is runtime.TypeMeta) ([]byte, error) {
	shown := e.shown(o)
	if !e.protobuf {
		return typedJSON(shown, is)
	}
	raw, err := encodeProtobuf(shown)
	if err != nil {
		return nil, err
	}
	return wrap(raw, is)
}

func encodeProtobuf(o runtime.Object) ([]byte, error) {
	m, ok := o.(marshaler)
	if !ok {
		return nil, fmt.Errorf("%T has no encoding in protobuf", o)
	}
	return m.Marshal()
}

// wrap puts an object in protobuf into its envelope.
func wrap(raw []byte, is runtime.TypeMeta) ([]byte, error) {
	unknown := runtime.Unknown{TypeMeta: is, Raw: raw}
	size := unknown.Size()
	buffer := make([]byte, len(protobufMagic)+size)
	copy(buffer, protobufMagic)
	_, err := unknown.MarshalToSizedBuffer(buffer[len(protobufMagic):])
	return buffer, err
}

// typedJSON encodes an object with its type, which objects made by programs do not carry.
func typedJSON(o any, is runtime.TypeMeta) ([]byte, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	head, err := json.Marshal(metav1.TypeMeta{Kind: is.Kind, APIVersion: is.APIVersion})
	if err != nil {
		return nil, err
	}
	if len(text) == len("{}") {
		return head, nil
	}
	return append(append(head[:len(head)-1], ','), text[1:]...), nil
}

// frame encodes one event of a watch.
func (e encoding) frame(what apiwatch.EventType, body []byte) ([]byte, error) {
	if !e.protobuf {
		return fmt.Appendf(nil, "{\"type\":%q,\"object\":%s}\n", what, body), nil
	}
	watched := metav1.WatchEvent{Type: string(what), Object: runtime.RawExtension{Raw: body}}
	size := watched.Size()
	buffer := make([]byte, 4+size)
	binary.BigEndian.PutUint32(buffer, uint32(size))
	_, err := watched.MarshalToSizedBuffer(buffer[4:])
	return buffer, err
}

// page is a part of a list.
type page struct {
	version  string
	next     string // token of the next page; empty: this is the last
	objects  iter.Seq[object]
	is, item runtime.TypeMeta
}

// list writes a list without ever holding more than one of its objects.
func (e encoding) list(w io.Writer, p page) error {
	meta := metav1.ListMeta{ResourceVersion: p.version, Continue: p.next}
	if e.protobuf {
		return e.protobufList(w, meta, p)
	}
	return e.jsonList(w, meta, p)
}

func (e encoding) jsonList(w io.Writer, meta metav1.ListMeta, p page) error {
	head, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	_, _ = fmt.Fprintf(out, `{"kind":%q,"apiVersion":%q,"metadata":%s,"items":[`, p.is.Kind, p.is.APIVersion, head)
	separator := ""
	for o := range p.objects {
		text, err := typedJSON(e.shown(o), p.item)
		if err != nil {
			return err
		}
		_, _ = out.WriteString(separator)
		_, _ = out.Write(text)
		separator = ","
	}
	_, _ = out.WriteString("]}\n")
	return out.Flush() // An error of a write before comes again here.
}

// Fields of runtime.Unknown and of every list in protobuf, as tags: number and wire type "length-delimited".
const (
	tagType        = 1<<3 | 2
	tagRaw         = 2<<3 | 2
	tagEncoding    = 3<<3 | 2
	tagContentType = 4<<3 | 2
	tagListMeta    = 1<<3 | 2
	tagItems       = 2<<3 | 2
)

// protobufList makes every object twice: an envelope in protobuf begins with its size.
func (e encoding) protobufList(w io.Writer, meta metav1.ListMeta, p page) error {
	head, err := meta.Marshal()
	if err != nil {
		return err
	}
	size := delimited(len(head))
	for o := range p.objects {
		m, ok := e.shown(o).(marshaler)
		if !ok {
			return fmt.Errorf("%T has no encoding in protobuf", o)
		}
		size += delimited(m.Size())
	}
	is, err := p.is.Marshal()
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	_, _ = out.WriteString(protobufMagic)
	field(out, tagType, is)
	_, _ = out.Write(binary.AppendUvarint([]byte{tagRaw}, uint64(size)))
	field(out, tagListMeta, head)
	for o := range p.objects {
		raw, err := encodeProtobuf(e.shown(o))
		if err != nil {
			return err
		}
		field(out, tagItems, raw)
	}
	field(out, tagEncoding, nil)
	field(out, tagContentType, nil)
	return out.Flush()
}

// field writes a length-delimited field. An error comes again when the writer is flushed.
func field(out *bufio.Writer, tag byte, content []byte) {
	_, _ = out.Write(binary.AppendUvarint([]byte{tag}, uint64(len(content))))
	_, _ = out.Write(content)
}

// delimited is how long a field with a tag of one byte is.
func delimited(content int) int {
	return 1 + len(binary.AppendUvarint(nil, uint64(content))) + content
}
