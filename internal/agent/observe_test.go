package agent

import "testing"

// TestOneSilentProbeProvesNothing: a probe that times out on a busy machine must not look like a process that is down,
// or every change of that moment would count as one without a leader.
func TestOneSilentProbeProvesNothing(t *testing.T) {
	for _, test := range []struct {
		name    string
		answers []answer
		want    *bool
	}{
		{"nothing yet", nil, nil},
		{"silent from the start", []answer{answerSilent}, nil},
		{"good", []answer{answerGood}, new(true)},
		{"once silent after good", []answer{answerGood, answerSilent}, new(true)},
		{"twice silent after good", []answer{answerGood, answerSilent, answerSilent}, new(false)},
		{"silent, good, silent", []answer{answerSilent, answerGood, answerSilent}, new(true)},
		{"good after two silent", []answer{answerSilent, answerSilent, answerGood}, new(true)},
		{"refused at once", []answer{answerGood, answerRefused}, new(false)},
		{"bad at once", []answer{answerGood, answerBad}, new(false)},
		{"silent after refused", []answer{answerRefused, answerSilent}, new(false)},
	} {
		t.Run(test.name, func(t *testing.T) {
			var healthy *bool
			var silent silence
			for _, a := range test.answers {
				silent = silent.next(a)
				healthy = silent.healthy(healthy, a)
			}
			if (healthy == nil) != (test.want == nil) || (healthy != nil && *healthy != *test.want) {
				t.Errorf("healthy: got %v, want %v", text(healthy), text(test.want))
			}
		})
	}
}

func text(b *bool) string {
	switch {
	case b == nil:
		return "unknown"
	case *b:
		return "true"
	}
	return "false"
}
