package observer

import (
	"testing"
	"time"
)

func TestPercentileIsTheNearestRank(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i+1) * time.Second
	}
	tests := map[string]struct {
		sorted []time.Duration
		p      float64
		want   time.Duration
	}{
		"of nothing it is 0":                   {nil, 99, 0},
		"of one value it is that value":        {[]time.Duration{7}, 50, 7},
		"p99 of 100 is the 99th":               {hundred, 99, 99 * time.Second},
		"p50 of 100 is the 50th":               {hundred, 50, 50 * time.Second},
		"p50 of 3 is the 2nd (1.5 rounded up)": {[]time.Duration{1, 2, 3}, 50, 2},
		"p99 of 50 is the last":                {hundred[:50], 99, 50 * time.Second},
		"p100 is the last":                     {hundred, 100, 100 * time.Second},
		"p0 is the first":                      {hundred, 0, time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := percentile(test.sorted, test.p); got != test.want {
				t.Errorf("percentile(%v) = %s, want %s", test.p, got, test.want)
			}
		})
	}
}
