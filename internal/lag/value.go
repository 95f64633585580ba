package lag

import (
	"encoding/hex"
	"hash/fnv"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unique"
)

// UID is the UID of an object in 16 bytes instead of a string of 36: a tracker keeps several for each Pod.
type UID [16]byte

// uuidLength is the length of a UUID in its canonical form, and uuidHyphens where that has hyphens (RFC 9562 §4).
const uuidLength = 36

var uuidHyphens = [4]int{8, 13, 18, 23}

// ParseUID reads a UID. A UUID in canonical, lower-case form is kept as it is; any other text becomes its FNV-128a hash,
// so that different texts are different UIDs for all practical purposes.
func ParseUID[T ~string | ~[]byte](text T) UID {
	if id, ok := parseUUID(text); ok {
		return id
	}
	hash := fnv.New128a()
	_, _ = hash.Write([]byte(text)) // A hash takes all.
	return UID(hash.Sum(nil))
}

func parseUUID[T ~string | ~[]byte](text T) (id UID, ok bool) {
	if len(text) != uuidLength {
		return id, false
	}
	for _, i := range uuidHyphens {
		if text[i] != '-' {
			return id, false
		}
	}
	at := 0
	for i := range id {
		if slices.Contains(uuidHyphens[:], at) {
			at++
		}
		high, low := digit(text[at]), digit(text[at+1])
		if high > 15 || low > 15 {
			return id, false
		}
		id[i] = high<<4 | low
		at += 2
	}
	return id, true
}

// digit is the value of a lower-case hexadecimal digit; more than 15 if it is none.
func digit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 16
}

// String returns the canonical form of a UUID.
func (u UID) String() string {
	text := hex.EncodeToString(u[:])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}

// IP is an IP address, IPv4 in its IPv6-mapped form; the zero value is none.
type IP [16]byte

// ParseIP reads an IP address, with leading zeroes in an IPv4 one as Kubernetes does (ParseIPSloppy in
// k8s.io/utils/net); it is zero if the text is none.
func ParseIP[T ~string | ~[]byte](text T) IP {
	address, err := netip.ParseAddr(string(text))
	if err != nil {
		if address, err = netip.ParseAddr(trimZeroes(string(text))); err != nil {
			return IP{}
		}
	}
	return address.As16()
}

// trimZeroes writes the numbers of an IPv4 address without leading zeroes.
func trimZeroes(text string) string {
	parts := strings.Split(text, ".")
	for i, part := range parts {
		if n, err := strconv.ParseUint(part, 10, 8); err == nil {
			parts[i] = strconv.FormatUint(n, 10)
		}
	}
	return strings.Join(parts, ".")
}

// Family is the family of the address; IPv6 for none.
func (ip IP) Family() Family {
	if netip.AddrFrom16(ip).Is4In6() {
		return FamilyIPv4
	}
	return FamilyIPv6
}

// String returns the usual form of the address, empty for none.
func (ip IP) String() string {
	if ip == (IP{}) {
		return ""
	}
	return netip.AddrFrom16(ip).Unmap().String()
}

// Label is one label.
type Label struct{ Key, Value string }

// separator stands between the texts of an interned set. No label and no port name may contain it.
const separator = "\x00"

// set is an interned list of texts. Equal lists are the same set, and cost one pointer each: the Pods of a Deployment
// share theirs.
type set struct{ texts unique.Handle[string] }

func newSet(texts string) set {
	if texts == "" {
		return set{}
	}
	return set{unique.Make(texts)}
}

func (s set) all() string {
	if s == (set{}) {
		return ""
	}
	return s.texts.Value()
}

// next cuts the first text off a list of texts, each followed by the separator.
func next(texts string) (first, rest string) {
	i := strings.IndexByte(texts, separator[0])
	return texts[:i], texts[i+1:]
}

// Labels is a set of labels. It can be compared with ==, is the same as k8s.io/apimachinery/pkg/labels.Labels, and is
// empty as its zero value.
type Labels struct{ set set }

// LabelsOf returns the labels of a map.
func LabelsOf(m map[string]string) Labels {
	pairs := make([]Label, 0, len(m))
	for k, v := range m {
		pairs = append(pairs, Label{k, v})
	}
	return NewLabels(pairs)
}

// NewLabels returns the labels of pairs with different keys. It sorts the pairs.
func NewLabels(pairs []Label) Labels {
	byKey := func(a, b Label) int { return strings.Compare(a.Key, b.Key) }
	if !slices.IsSortedFunc(pairs, byKey) {
		slices.SortFunc(pairs, byKey)
	}
	size := 0
	for _, p := range pairs {
		size += len(p.Key) + len(p.Value) + 2*len(separator)
	}
	texts := make([]byte, 0, size)
	for _, p := range pairs {
		texts = append(append(texts, p.Key...), separator...)
		texts = append(append(texts, p.Value...), separator...)
	}
	return Labels{newSet(string(texts))}
}

// All yields the labels, sorted by key.
func (l Labels) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for rest := l.set.all(); rest != ""; {
			var k, v string
			k, rest = next(rest)
			v, rest = next(rest)
			if !yield(k, v) {
				return
			}
		}
	}
}

// IsEmpty says whether there is no label.
func (l Labels) IsEmpty() bool { return l == Labels{} }

// Equal says whether both are the same labels; == does as well.
func (l Labels) Equal(o Labels) bool { return l == o }

// Lookup returns the value of a label and whether there is one.
func (l Labels) Lookup(key string) (value string, exists bool) {
	for k, v := range l.All() {
		if k == key {
			return v, true
		}
	}
	return "", false
}

// Get returns the value of a label, empty without one.
func (l Labels) Get(key string) string {
	value, _ := l.Lookup(key)
	return value
}

// Has says whether there is a label of that key.
func (l Labels) Has(key string) bool {
	_, exists := l.Lookup(key)
	return exists
}

// include says whether every label of o is one of l.
func (l Labels) include(o Labels) bool {
	for k, v := range o.All() {
		if got, exists := l.Lookup(k); !exists || got != v {
			return false
		}
	}
	return true
}

// PortNames is a set of named ports, each as protocol/name ("TCP/http"). It can be compared with == and is empty as its
// zero value.
type PortNames struct{ set set }

// NewPortNames returns the set of the given names. It sorts them.
func NewPortNames(names ...string) PortNames {
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) == 0 {
		return PortNames{}
	}
	return PortNames{newSet(strings.Join(names, separator) + separator)}
}

// IsEmpty says whether there is no name.
func (p PortNames) IsEmpty() bool { return p == PortNames{} }

// Equal says whether both are the same names; == does as well.
func (p PortNames) Equal(o PortNames) bool { return p == o }

// All yields the names, sorted.
func (p PortNames) All() iter.Seq[string] {
	return func(yield func(string) bool) {
		for rest := p.set.all(); rest != ""; {
			var name string
			if name, rest = next(rest); !yield(name) {
				return
			}
		}
	}
}

// meets says whether some name is in both sets.
func (p PortNames) meets(o PortNames) bool {
	for a := range p.All() {
		for b := range o.All() {
			if a == b {
				return true
			}
		}
	}
	return false
}
