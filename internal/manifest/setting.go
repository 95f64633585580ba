package manifest

import (
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

// Setting gives one allow-listed flag a value, or (Absent) takes it out.
type Setting struct {
	Name   string // without dashes, one of v1alpha1.Flag…
	Value  string // as written after "=": empty when Absent
	Absent bool
}

var (
	// wholeNumber is what the operator writes. A leading zero would make kube-controller-manager read octal.
	wholeNumber = regexp.MustCompile(`^[1-9][0-9]{0,5}$`)
	// decimalNumber is what --kube-api-qps, a float, may be put back to.
	decimalNumber = regexp.MustCompile(`^[0-9]{1,6}(\.[0-9]{1,3})?$`)
)

// Settings turns flags into settings in canonical order (v1alpha1.Flags.List), leaving absent flags out.
func Settings(f v1alpha1.Flags) []Setting {
	var set []Setting
	for _, v := range f.List() {
		if v.Value != 0 {
			set = append(set, Setting{Name: v.Name, Value: strconv.Itoa(int(v.Value))})
		}
	}
	return set
}

// Check refuses a setting that may not be written: an unknown flag, or a value that is not a plain decimal number
// within the compiled-in limits.
func (s Setting) Check() error {
	limit := maximum(s.Name)
	if limit == 0 {
		return outOfBounds("flag %q is not one that may be set: %s", s.Name, strings.Join(names(), ", "))
	}
	if s.Absent {
		return nil
	}
	pattern, kind := wholeNumber, "a whole number"
	if s.Name == v1alpha1.FlagKubeAPIQPS {
		pattern, kind = decimalNumber, "a decimal number"
	}
	value, err := strconv.ParseFloat(s.Value, 64)
	if !pattern.MatchString(s.Value) || err != nil || value < 1 || value > float64(limit) {
		return outOfBounds("--%s=%.40q must be %s from 1 to %d", s.Name, s.Value, kind, limit)
	}
	return nil
}

// Canonical returns the settings in canonical order. It refuses unknown flags and flags that are set twice.
func Canonical(set []Setting) ([]Setting, error) {
	byName := map[string]Setting{}
	for _, s := range set {
		if maximum(s.Name) == 0 {
			return nil, s.Check()
		}
		if _, twice := byName[s.Name]; twice {
			return nil, outOfBounds("--%s is set twice: set it once", s.Name)
		}
		if s.Absent {
			s.Value = ""
		}
		byName[s.Name] = s
	}
	var ordered []Setting
	for _, name := range names() {
		if s, ok := byName[name]; ok {
			ordered = append(ordered, s)
		}
	}
	return ordered, nil
}

// names returns the allow-listed flags in canonical order.
func names() []string {
	var all []string
	for _, v := range (v1alpha1.Flags{}).List() {
		all = append(all, v.Name)
	}
	return all
}

// maximum returns the largest value that may be written for the flag, 0 if it is not allow-listed.
func maximum(name string) int32 {
	for _, v := range (v1alpha1.Flags{}).List() {
		if v.Name == name {
			return v.Max
		}
	}
	return 0
}

func reasonOf(err error) string {
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return refused.Reason
	}
	return v1alpha1.ReasonUnsupportedManifest
}
