package agent

import "testing"

func TestRecoverFromIsTotal(t *testing.T) {
	all := []found{foundH0, foundH1, foundOther, foundEmpty, foundAbsent, foundUnreadable}
	want := map[phase][]remedy{ // in the order of all
		phaseNone:        {remedyNothing, remedyNothing, remedyNothing, remedyNothing, remedyNothing, remedyNothing},
		phaseCommitted:   {remedyNothing, remedyNothing, remedyNothing, remedyNothing, remedyNothing, remedyNothing},
		phaseRolledBack:  {remedyNothing, remedyNothing, remedyNothing, remedyNothing, remedyNothing, remedyNothing},
		phaseIntent:      {remedyForget, remedyProveNew, remedyForget, remedyPutBack, remedyPutBack, remedyHold},
		phaseApplied:     {remedyYield, remedyProveNew, remedyYield, remedyPutBack, remedyPutBack, remedyHold},
		phaseRollingBack: {remedyProveOld, remedyRollBack, remedyYield, remedyPutBack, remedyPutBack, remedyHold},
	}
	for p, row := range want {
		for i, f := range all {
			if got := recoverFrom(p, f); got != row[i] {
				t.Errorf("recoverFrom(%q, %s) = %s, want %s", p, f, got, row[i])
			}
		}
	}
}
