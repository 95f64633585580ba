package scale

import (
	"encoding/hex"
	"net/netip"
	"strconv"
)

// Salts tell apart what is derived from the same number.
const (
	saltPod uint64 = iota + 1
	saltReplicaSet
	saltService
	saltNode
	saltContainer
	saltSandbox
	saltImage
	saltSlice
	saltEndpoints
	saltNamespace
)

// mix is splitmix64: a good hash of a few numbers, and fast.
func mix(parts ...uint64) uint64 {
	var x uint64
	for _, p := range parts {
		x += p + 0x9e3779b97f4a7c15
		x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
		x = (x ^ (x >> 27)) * 0x94d049bb133111eb
		x ^= x >> 31
	}
	return x
}

// uuid is a random UUID (version 4) made of numbers, always the same for the same.
func uuid(parts ...uint64) string {
	a, b := mix(parts...), mix(append(parts, 1)...)
	var raw [16]byte
	for i := range 8 {
		raw[i], raw[8+i] = byte(a>>(8*i)), byte(b>>(8*i))
	}
	raw[6], raw[8] = raw[6]&0x0f|0x40, raw[8]&0x3f|0x80
	var text [36]byte
	hex.Encode(text[:], raw[:4])
	text[8] = '-'
	hex.Encode(text[9:], raw[4:6])
	text[13] = '-'
	hex.Encode(text[14:], raw[6:8])
	text[18] = '-'
	hex.Encode(text[19:], raw[8:10])
	text[23] = '-'
	hex.Encode(text[24:], raw[10:])
	return string(text[:])
}

// digest is 64 hexadecimal digits, as container and image IDs have.
func digest(parts ...uint64) string {
	var raw [32]byte
	for i := range 4 {
		x := mix(append(parts, uint64(i))...)
		for j := range 8 {
			raw[8*i+j] = byte(x >> (8 * j))
		}
	}
	return hex.EncodeToString(raw[:])
}

// suffix is n characters of those that the API server generates names from (k8s.io/apimachinery/pkg/util/rand).
func suffix(n int, parts ...uint64) string {
	const alphabet = "bcdfghjklmnpqrstvwxz2456789"
	x := mix(parts...)
	text := make([]byte, n)
	for i := range text {
		text[i] = alphabet[x%uint64(len(alphabet))]
		x /= uint64(len(alphabet))
	}
	return string(text)
}

// padded is a number with at least five digits, so that names sort by number and have the same length.
func padded(i int) string {
	text := strconv.Itoa(i)
	for len(text) < 5 {
		text = "0" + text
	}
	return text
}

func (c *cluster) namespaceName(service int) string {
	return "team-" + padded(service % c.Namespaces)[2:]
}

// words make names of Services as long and as different as they are in life.
var words = [...]string{
	"checkout", "payments", "catalogue", "search", "inventory", "recommendation", "shipping", "notification", "profile",
	"gateway", "pricing", "fulfilment",
}

func serviceName(service int) string { return words[service%len(words)] + "-api-" + padded(service) }

func (c *cluster) replicaSetName(service int) string {
	return serviceName(service) + "-" + suffix(9, c.key, saltReplicaSet, uint64(service))
}

func (c *cluster) podName(pod int, life uint32) string {
	return c.replicaSetName(serviceOf(pod)) + "-" + suffix(5, c.key, saltPod, uint64(pod), uint64(life))
}

func (c *cluster) podUID(pod int, life uint32) string {
	return uuid(c.key, saltPod, uint64(pod), uint64(life))
}

// podPlaces is how many Pods can have an address at a time; each place has 64 addresses in 10.0.0.0/8, for one Pod after
// the other.
const podPlaces = 1 << 18

func podIP(pod int, life uint32) string {
	n := uint32(pod) | life%64*podPlaces
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}).String()
}

func clusterIP(service int) string {
	return netip.AddrFrom4([4]byte{172, byte(16 + service>>16), byte(service >> 8), byte(service)}).String()
}

// nodeOf spreads the Pods of a Service over nodes, as topology spread constraints do.
func (c *cluster) nodeOf(pod int, life uint32) int {
	return int(mix(c.key, saltNode, uint64(pod), uint64(life)) % uint64(c.Nodes))
}

func nodeName(node int) string {
	return "ip-192-168-" + strconv.Itoa(node>>8) + "-" + strconv.Itoa(node&255) + ".eu-central-1.compute.internal"
}

func nodeIP(node int) string {
	return netip.AddrFrom4([4]byte{192, 168, byte(node >> 8), byte(node)}).String()
}

func zoneOf(node int) string { return "eu-central-1" + string(rune('a'+node%3)) }
