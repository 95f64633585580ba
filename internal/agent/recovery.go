package agent

// found is what the manifest's path holds, compared with the hashes of the change in the journal.
type found string

const (
	foundH0         found = "H0"         // the old manifest
	foundH1         found = "H1"         // the new manifest
	foundOther      found = "other"      // somebody else's
	foundEmpty      found = "empty"      // a file of no bytes
	foundAbsent     found = "absent"     // nothing
	foundUnreadable found = "unreadable" // something that cannot be read, or that we refuse to read
)

// remedy is what recovery does.
type remedy string

const (
	remedyNothing  remedy = "nothing"  // no change is open
	remedyForget   remedy = "forget"   // the change never began; its instruction still stands and is taken up anew
	remedyProveNew remedy = "proveNew" // the new manifest is in place; go on with its proof
	remedyRollBack remedy = "rollBack" // put the old manifest back over the new one
	remedyPutBack  remedy = "putBack"  // put the old manifest where there is none, or an empty file
	remedyProveOld remedy = "proveOld" // the old manifest is back; prove it
	remedyYield    remedy = "yield"    // somebody else wrote the manifest; it is theirs now
	remedyHold     remedy = "hold"     // nothing is certain: write nothing, look again
)

// recoverFrom says what to do about a change that a crash, or somebody else's edit, has interrupted. It is total:
// every phase with everything that can be found.
func recoverFrom(p phase, f found) remedy {
	if !p.open() {
		return remedyNothing
	}
	switch f {
	case foundH0:
		if p == phaseIntent { // the rename was not reached
			return remedyForget
		}
		if p == phaseApplied { // we journal "rollingback" before we put it back ourselves
			return remedyYield
		}
		return remedyProveOld
	case foundH1:
		if p == phaseRollingBack {
			return remedyRollBack
		}
		return remedyProveNew // with intent, the crash came between the rename and the journal
	case foundOther:
		if p == phaseIntent {
			return remedyForget
		}
		return remedyYield
	case foundEmpty, foundAbsent:
		return remedyPutBack
	case foundUnreadable:
		return remedyHold
	}
	return remedyHold
}
