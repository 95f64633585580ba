package agent

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

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

func TestWhenTheManifestLastChanged(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 11, 23, 12, minute, 0, 0, time.UTC) }
	file := func(text string, changed time.Time) snapshot {
		return snapshot{Hash: hashOf([]byte(text)), changed: changed}
	}
	type look struct {
		at   found
		file snapshot
		wall time.Time
	}
	tests := map[string]struct {
		looks []look
		want  time.Time
	}{
		"the first look takes the file's own time": {[]look{{foundOther, file("a", at(3)), at(10)}}, at(3)},
		"a file of the future is one of now":       {[]look{{foundOther, file("a", at(30)), at(10)}}, at(10)},
		"no file has no time":                      {[]look{{foundAbsent, snapshot{}, at(10)}}, time.Time{}},
		"one that cannot be read has none":         {[]look{{foundUnreadable, snapshot{}, at(10)}}, time.Time{}},
		"the same bytes in another file":           {[]look{{foundOther, file("a", at(3)), at(10)}, {foundOther, file("a", at(11)), at(12)}}, at(3)},
		"other bytes have the time of the look":    {[]look{{foundOther, file("a", at(3)), at(10)}, {foundOther, file("b", at(1)), at(12)}}, at(12)},
		"bytes that cannot be read for a while": {
			[]look{{foundOther, file("a", at(3)), at(10)}, {foundUnreadable, snapshot{}, at(11)}, {foundOther, file("a", at(3)), at(12)}}, at(3),
		},
		"bytes that go":            {[]look{{foundOther, file("a", at(3)), at(10)}, {foundAbsent, snapshot{}, at(11)}}, at(11)},
		"bytes that go and come":   {[]look{{foundOther, file("a", at(3)), at(10)}, {foundAbsent, snapshot{}, at(11)}, {foundOther, file("a", at(3)), at(12)}}, at(12)},
		"a file where none was":    {[]look{{foundAbsent, snapshot{}, at(10)}, {foundOther, file("a", at(3)), at(12)}}, at(12)},
		"a clock that is set back": {[]look{{foundOther, file("a", at(3)), at(10)}, {foundOther, file("b", at(11)), at(11)}, {foundOther, file("c", at(2)), at(2)}}, at(11)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var seen manifestSeen
			for _, l := range tt.looks {
				seen = seen.next(l.at, l.file, l.wall)
			}
			if !seen.changed.Equal(tt.want) {
				t.Errorf("the manifest changed at %s, want %s", seen.changed, tt.want)
			}
		})
	}
}

func TestTheStatusSaysWhenTheManifestChanged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t, only(behaves))
		b.startAgent(t)
		s := b.waitFor(t, "the manifest", func(s v1alpha1.EndpointSyncNodeStatus) bool { return s.ManifestHash != "" })
		if age := time.Since(s.ManifestChangeTime.Time); age < 0 || age > time.Minute {
			t.Errorf("the manifest changed %s ago at the start, want about now: its file is from later than this virtual time", age)
		}
		pause(t.Context(), time.Hour)
		b.cluster.instruct(patiently("1m", "1m"))
		asked := time.Now()
		s = b.waitFor(t, "end of revision 1", ended(1))
		if after := s.ManifestChangeTime.Sub(asked); after < -time.Second || after > 5*time.Second {
			t.Errorf("the manifest changed %s after the instruction, want it at the swap", after)
		}
		pause(t.Context(), time.Hour)
		writeFile(t, b.path(), manifestText, 0o600)
		written := time.Now()
		s = b.waitFor(t, "the other manifest", func(s v1alpha1.EndpointSyncNodeStatus) bool {
			return s.ManifestHash == string(hashOf([]byte(manifestText)))
		})
		if after := s.ManifestChangeTime.Sub(written); after < -time.Second || after > 2*steadyEvery {
			t.Errorf("the manifest changed %s after somebody wrote it, want it at the next look", after)
		}
	})
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
