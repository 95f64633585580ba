package play

// Score is what counts of one scene under one pilot.
type Score struct {
	Restarts   int     `json:"restarts"`
	Violations int     `json:"violations"`
	MeanCost   float64 `json:"meanCost"`
	LastCost   float64 `json:"lastCost"`
}

func (s *Scene) score(r Result) Score {
	return Score{Restarts: r.Restarts, Violations: s.Violations(r.Lags), MeanCost: r.MeanCost, LastCost: r.LastCost}
}

// Round is one scene under everybody.
type Round struct {
	Seed     uint64
	Changes  int
	Operator Score
	// Actions of the operator, Wrong how many of them were on a wrong cause, and Broken the promises that it broke.
	Actions []Action
	Wrong   int
	Broken  []string
	Oracle  Score
	// Unavoidable violations; see Scene.Unavoidable.
	Unavoidable int
	// Rivals are the scores of the others, in the order of RivalNames.
	Rivals []Score
}

// RivalNames are those that the operator is compared with: settings that people run, and rules that people follow.
func RivalNames() []string {
	var names []string
	for _, s := range Statics() {
		names = append(names, s.Name)
	}
	return append(names, "doubling", "AIMD")
}

// Play plays the family's scene of a seed under the operator, its rivals, and the oracle.
func (f Family) Play(seed uint64) Round {
	scene := f.Scene(seed)
	own := play(scene, newOperator(scene))
	out := Round{Seed: seed, Changes: len(scene.Changes), Operator: scene.score(own), Actions: own.Actions, Broken: own.Broken}
	for _, a := range own.Actions {
		if scene.Wrong(a) {
			out.Wrong++
		}
	}
	for i, s := range Statics() {
		r := still(s.under(scene), s.Flags)
		if i == 0 {
			out.Unavoidable = scene.Unavoidable(r.Lags)
		}
		out.Rivals = append(out.Rivals, scene.score(r))
	}
	for _, r := range []*rule{doubling(), aimd()} {
		out.Rivals = append(out.Rivals, scene.score(play(scene, r)))
	}
	out.Oracle = scene.score(Oracle(scene))
	return out
}

// Operate plays the scene under the operator alone.
func Operate(scene *Scene) Result { return play(scene, newOperator(scene)) }
