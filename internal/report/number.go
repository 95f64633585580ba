package report

import (
	"math"
	"strconv"
	"strings"
	"time"
)

const (
	// none stands where there is no value.
	none = "-"
	// atLeast marks a lower bound.
	atLeast = "≥"
)

// Seconds returns a length of time for a person: three digits at most below ten minutes.
func Seconds(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0) || v < 0:
		return none
	case v == 0:
		return "0s"
	case v < 0.9995:
		return strconv.FormatFloat(v*1000, 'f', 0, 64) + "ms"
	case v < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64) + "s"
	case v < 59.95:
		return strconv.FormatFloat(v, 'f', 1, 64) + "s"
	}
	return time.Duration(v * float64(time.Second)).Round(time.Second).String()
}

// exact returns a length of time that a person wrote, as Go writes it.
func exact(v float64) string { return time.Duration(math.Round(v * float64(time.Second))).String() }

// lagText is a lag that may be a lower bound, or absent.
func lagText(v *float64, lowerBound bool) string {
	switch {
	case v == nil:
		return none
	case lowerBound:
		return atLeast + Seconds(*v)
	}
	return Seconds(*v)
}

// Count returns a whole number with thousands set apart.
func Count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	var groups []string
	for len(digits) > 3 {
		groups = append([]string{digits[len(digits)-3:]}, groups...)
		digits = digits[:len(digits)-3]
	}
	return sign + strings.Join(append([]string{digits}, groups...), ",")
}

// seconds rounds to a tenth of a millisecond: finer than anything that is measured.
func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1e4) / 1e4 }
