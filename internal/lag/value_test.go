package lag

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestParseUID(t *testing.T) {
	const canonical = "0f8fad5b-d9cb-469f-a165-70867728950e"
	if got := ParseUID(canonical).String(); got != canonical {
		t.Errorf("ParseUID(%q) = %s, want the same", canonical, got)
	}
	if ParseUID(canonical) != ParseUID([]byte(canonical)) {
		t.Error("text and bytes are different UIDs")
	}
	seen := map[UID]string{}
	for _, text := range []string{
		canonical, "", "a", "b", "0F8FAD5B-D9CB-469F-A165-70867728950E", "0f8fad5bd9cb469fa16570867728950e",
		"0f8fad5b-d9cb-469f-a165-70867728950g", "0f8fad5bxd9cb-469f-a165-70867728950e",
	} {
		if other, taken := seen[ParseUID(text)]; taken {
			t.Errorf("%q and %q are the same UID", text, other)
		}
		seen[ParseUID(text)] = text
	}
}

func TestParseIP(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"IPv4":                     {"10.0.0.1", "10.0.0.1"},
		"IPv6":                     {"fd00::1", "fd00::1"},
		"IPv6 written at length":   {"fd00:0:0::0:1", "fd00::1"},
		"IPv4 with leading zeroes": {"010.000.0.01", "10.0.0.1"},
		"no address":               {"localhost", ""},
		"too large":                {"10.0.0.256", ""},
		"nothing":                  {"", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := ParseIP(test.text).String(); got != test.want {
				t.Errorf("ParseIP(%q) = %q, want %q", test.text, got, test.want)
			}
		})
	}
	if ParseIP("10.0.0.1").Family() != FamilyIPv4 || ParseIP("fd00::1").Family() != FamilyIPv6 {
		t.Error("families are mixed up")
	}
}

func TestLabelsAreTheirMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[a-z./0-9]{0,4}`)
		m := rapid.MapOfN(text, text, 0, 6).Draw(t, "labels")
		l := LabelsOf(m)
		if got := maps.Collect(l.All()); !maps.Equal(got, m) {
			t.Fatalf("LabelsOf(%v) = %v", m, got)
		}
		if l.IsEmpty() != (len(m) == 0) {
			t.Fatalf("IsEmpty() = %t of %v", l.IsEmpty(), m)
		}
		key := text.Draw(t, "key")
		value, exists := l.Lookup(key)
		if want, there := m[key]; value != want || exists != there || l.Get(key) != want || l.Has(key) != there {
			t.Fatalf("Lookup(%q) in %v = %q, %t", key, m, value, exists)
		}
		pairs := []Label{}
		for k, v := range m {
			pairs = append(pairs, Label{k, v})
		}
		if again := NewLabels(pairs); again != l || !again.Equal(l) {
			t.Fatalf("the same labels of %v differ", m)
		}
		o := rapid.MapOfN(text, text, 0, 2).Draw(t, "others")
		contained := true
		for k, v := range o {
			got, there := m[k]
			contained = contained && there && got == v
		}
		if got := l.include(LabelsOf(o)); got != contained {
			t.Fatalf("%v includes %v: %t, want %t", m, o, got, contained)
		}
	})
}

func TestPortNamesAreASet(t *testing.T) {
	a, b := NewPortNames("TCP/http", "TCP/admin", "TCP/http"), NewPortNames("TCP/admin", "TCP/http")
	if a != b || !a.Equal(b) {
		t.Error("the same names differ")
	}
	if got, want := slices.Collect(a.All()), []string{"TCP/admin", "TCP/http"}; !slices.Equal(got, want) {
		t.Errorf("All() = %v, want %v", got, want)
	}
	if !a.meets(NewPortNames("UDP/x", "TCP/http")) || a.meets(NewPortNames("UDP/http")) || a.meets(PortNames{}) {
		t.Error("meets() mixes names up")
	}
	if !NewPortNames().IsEmpty() || a.IsEmpty() {
		t.Error("IsEmpty() is wrong")
	}
}
