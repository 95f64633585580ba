package watch

import (
	"bytes"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// message walks over the fields of a protobuf message without copying. Fields of a wire type other than bytes and varint
// are passed over: nothing that is read here has one.
type message struct {
	rest   []byte
	number int
	bytes  []byte // of the field, if it has bytes; they live as long as the frame
	varint uint64 // of the field, if it is a number
	err    error
}

// next goes to the next field; false at the end of the message or at its first fault, which err tells.
func (m *message) next() bool {
	if m.err != nil || len(m.rest) == 0 {
		return false
	}
	number, wireType, n := protowire.ConsumeTag(m.rest)
	if !m.consume(n) {
		return false
	}
	m.number, m.bytes, m.varint = int(number), nil, 0
	if wireType == protowire.BytesType {
		m.bytes, n = protowire.ConsumeBytes(m.rest)
		return m.consume(n)
	}
	if wireType == protowire.VarintType {
		m.varint, n = protowire.ConsumeVarint(m.rest)
		return m.consume(n)
	}
	return m.consume(protowire.ConsumeFieldValue(number, wireType, m.rest))
}

func (m *message) consume(n int) bool {
	if n < 0 {
		m.err = protowire.ParseError(n)
		return false
	}
	m.rest = m.rest[n:]
	return true
}

// into ends the walk if what was done with a field failed.
func (m *message) into(err error) {
	if m.err == nil {
		m.err = err
	}
}

// field returns the last value of one bytes field.
func field(raw []byte, number int) ([]byte, error) {
	var value []byte
	m := message{rest: raw}
	for m.next() {
		if m.number == number {
			value = m.bytes
		}
	}
	return value, m.err
}

// two returns the last values of two bytes fields.
func two(raw []byte, first, second int) (a, b []byte, err error) {
	m := message{rest: raw}
	for m.next() {
		switch m.number {
		case first:
			a = m.bytes
		case second:
			b = m.bytes
		}
	}
	return a, b, m.err
}

// The fields of an entry of a map (protobuf's encoding of maps).
const (
	entryKey   = 1
	entryValue = 2
)

// entry returns one entry of a map of strings.
func entry(raw []byte) (key, value []byte, err error) { return two(raw, entryKey, entryValue) }

// magic begins every object that Kubernetes encodes in protobuf; a runtime.Unknown follows, whose field 2 is the object
// itself (k8s.io/apimachinery/pkg/runtime/serializer/protobuf, and generated.proto of pkg/runtime).
var magic = []byte("k8s\x00")

const unknownRaw = 2

var errNoProtobuf = errors.New("not in Kubernetes' protobuf encoding")

// unwrap returns the object in an envelope.
func unwrap(envelope []byte) ([]byte, error) {
	inner, ok := bytes.CutPrefix(envelope, magic)
	if !ok {
		return nil, errNoProtobuf
	}
	return field(inner, unknownRaw)
}

// event is a decoded frame of a watch.
type event struct {
	is     string // as k8s.io/apimachinery/pkg/watch.EventType
	object []byte // without its envelope
}

// The fields of a WatchEvent (generated.proto of k8s.io/apimachinery/pkg/apis/meta/v1) and of the RawExtension in it
// (of pkg/runtime).
const (
	eventType    = 1
	eventObject  = 2
	extensionRaw = 1
)

// readEvent takes a frame apart: a bare WatchEvent, whose object has an envelope (NewRawSerializer and NewSerializer in
// k8s.io/apimachinery/pkg/runtime/serializer/protobuf).
func readEvent(frame []byte) (event, error) {
	var e event
	m := message{rest: frame}
	for m.next() {
		switch m.number {
		case eventType:
			e.is = eventName(m.bytes)
		case eventObject:
			envelope, err := field(m.bytes, extensionRaw)
			if err == nil {
				e.object, err = unwrap(envelope)
			}
			m.into(err)
		}
	}
	if m.err != nil {
		return event{}, fmt.Errorf("read a watch event: %w", m.err)
	}
	return e, nil
}

// eventName is string(name), without an allocation for the names there are.
func eventName(name []byte) string {
	for _, known := range [...]string{"ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"} {
		if string(name) == known {
			return known
		}
	}
	return string(name)
}
