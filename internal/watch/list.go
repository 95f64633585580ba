package watch

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// list is a list whose objects went to the tracker one by one: to the Reflector it is empty.
type list struct {
	metav1.ListMeta
	Items []bookmark // by this name apimachinery's meta.ExtractList finds it
}

var _ runtime.Object = (*list)(nil)

// GetObjectKind says that the kind does not matter.
func (l *list) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject returns a copy.
func (l *list) DeepCopyObject() runtime.Object { return &list{ListMeta: *l.DeepCopy()} }

// stretch reads fields of a message off a stream, within the bytes that the message has left.
type stretch struct {
	from *bufio.Reader
	left uint64
}

// endless is the length of a message that ends with the stream.
const endless = math.MaxUint64

// ReadByte reads one byte of the message; io.EOF at its end.
func (s *stretch) ReadByte() (byte, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	b, err := s.from.ReadByte()
	switch {
	case s.left == endless:
	case err == nil:
		s.left--
	case ended(err):
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// varint reads a number. io.EOF means that there was none.
func (s *stretch) varint() (uint64, error) {
	var raw [10]byte // The longest encoding of 64 bits.
	for n := range raw {
		b, err := s.ReadByte()
		if err != nil {
			if n > 0 {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		raw[n] = b
		if b < 0x80 { // The last byte of a varint has no top bit.
			v, length := protowire.ConsumeVarint(raw[:n+1])
			return v, protowire.ParseError(length)
		}
	}
	return 0, errors.New("a number of more than 64 bits")
}

// next returns the number of the next field and the length of its bytes, 0 if it is a number, which it passes over.
// io.EOF is the end.
func (s *stretch) next() (number int, length uint64, err error) {
	tag, err := s.varint()
	if err != nil {
		return 0, 0, err
	}
	field, wireType := protowire.DecodeTag(tag)
	value, err := s.varint()
	switch {
	case err != nil:
		return 0, 0, errors.Join(io.ErrUnexpectedEOF, err)
	case wireType == protowire.VarintType:
		return int(field), 0, nil
	case wireType != protowire.BytesType:
		return 0, 0, fmt.Errorf("a list with a field of wire type %d", wireType)
	case value > s.left:
		return 0, 0, io.ErrUnexpectedEOF
	}
	return int(field), value, nil
}

// take says that n bytes of the message are about to be read elsewhere.
func (s *stretch) take(n uint64) {
	if s.left != endless {
		s.left -= n
	}
}

// receiveList takes the objects of a list off the stream, one by one.
func (s *stream) receiveList(into *list) error {
	from := bufio.NewReaderSize(s, readBytes)
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(from, head); err != nil {
		return fmt.Errorf("read a list of %s: %w", s.kind.name, err)
	}
	if string(head) != string(magic) {
		return fmt.Errorf("read a list of %s: %w", s.kind.name, errNoProtobuf)
	}
	envelope, whole := &stretch{from: from, left: endless}, false
	for {
		number, n, err := envelope.next()
		switch {
		case ended(err) && whole:
			return nil
		case err == nil && number == unknownRaw:
			envelope.take(n)
			whole = true
			err = s.receiveItems(&stretch{from: from, left: n}, into)
		case err == nil:
			_, err = s.listField(envelope, n)
		}
		if err != nil {
			return fmt.Errorf("read a list of %s: %w", s.kind.name, err)
		}
	}
}

func (s *stream) receiveItems(body *stretch, into *list) error {
	for {
		number, n, err := body.next()
		if ended(err) {
			return nil
		}
		var data []byte
		if err == nil {
			data, err = s.listField(body, n)
		}
		switch {
		case err != nil:
			return err
		case number == metadata:
			err = readListMeta(data, into)
		case number == listItems:
			if !s.feed.queue.push(item{from: s, step: stepListed, at: s.feed.clock.Now(), data: data}) {
				err = errClosed
			}
		}
		if err != nil {
			return err
		}
	}
}

var errClosed = errors.New("the feed has ended")

// listField reads the bytes of one field.
func (s *stream) listField(of *stretch, n uint64) ([]byte, error) {
	if n > frameBytes {
		return nil, fmt.Errorf("an object of %d bytes, more than %d", n, frameBytes)
	}
	data := s.feed.queue.buffer(int(n))
	of.take(n)
	if _, err := io.ReadFull(of.from, data); err != nil {
		return nil, errors.Join(io.ErrUnexpectedEOF, err)
	}
	return data, nil
}

func readListMeta(raw []byte, into *list) error {
	version, more, err := two(raw, listMetaVersion, listMetaContinue)
	into.ResourceVersion, into.Continue = string(version), string(more)
	return err
}
