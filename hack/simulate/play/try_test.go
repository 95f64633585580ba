package play

import (
	"os"
	"testing"
	"time"
)

func TestTry(t *testing.T) {
	for _, f := range Families() {
		if n := os.Getenv("FAM"); n != "" && n != f.Name {
			continue
		}
		scene := f.Scene(1)
		t0 := time.Now()
		st := still(scene, Default())
		d0 := time.Since(t0)
		t0 = time.Now()
		best := still(scene, Flags(500, 1000, 50))
		d1 := time.Since(t0)
		t0 = time.Now()
		op := Operate(scene)
		d2 := time.Since(t0)
		t0 = time.Now()
		or := Oracle(scene)
		d3 := time.Since(t0)
		wrong := 0
		for _, a := range op.Actions {
			if scene.Wrong(a) {
				wrong++
			}
		}
		t.Logf("%-18s n=%d svc=%d | still viol %d miss %d max %.1f | best viol %d | op viol %d restarts %d wrong %d broken %v last %v | unav %d | oracle viol %d %v | t %v %v %v %v", f.Name, len(scene.Changes), scene.Services, scene.Violations(st.Lags), scene.missedWindows(st.Lags), quantile(st.Lags), scene.Violations(best.Lags), scene.Violations(op.Lags), op.Restarts, wrong, op.Broken, op.Last, scene.Unavoidable(st.Lags), scene.Violations(or.Lags), or.Last, d0.Round(1e6), d1.Round(1e6), d2.Round(1e6), d3.Round(1e6))
		for _, a := range op.Actions {
			t.Logf("    %.0f since %.0f %v -> %v %s", a.At, a.Since, a.From, a.To, a.Cause)
		}
	}
}
