package play

import (
	"github.com/endpointsync/endpoint-sync-operator/controllers"
	"os"
	"strconv"
	"testing"
)

func TestWhy(t *testing.T) {
	for _, f := range Families() {
		if n := os.Getenv("FAM"); n != f.Name {
			continue
		}
		seed, _ := strconv.Atoi(os.Getenv("SEED"))
		scene := f.Scene(uint64(seed))
		o := newOperator(scene)
		var last standing
		n := 0
		o.hears = func(at float64, out controllers.Outcome) {
			n++
			is := standing{out.Step.Kind, out.Step.Reason, out.Bottleneck.Type}
			if is != last {
				t.Logf("%6.0f %v %s | %s | %s", at, is, out.Verdict.Message, out.Step.Message, out.Bottleneck.Message)
				last = is
			}
		}
		r := play(scene, o)
		t.Logf("base %.4f cap %.0f senses %v passes %d restarts %d %v", scene.Base, scene.Capacity, scene.Senses, n, r.Restarts, scene.OperatorRestarts)
	}
}
