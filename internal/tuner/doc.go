// Package tuner turns evidence about kube-controller-manager (KCM) into a verdict, a bottleneck and a decision: which
// flags would have met the objective on the changes that were recorded, at the least cost to the API server.
//
// It does no I/O, keeps no state and reads no clock: the same values in give the same values out. It does not know
// cooldowns, budgets or nodes; those belong to package rollout and to the controllers.
//
// The stages, each a function from values to a value:
//
//	lag.Summary, Objective ─ Verdict ─▶ met, missed or inconclusive, and the row that decided
//	Evidence ─ Diagnose ─▶ Bottleneck ─ Decide ─▶ Decision {flags, predicted lag, cost, or why it holds}
//	Demand, Flags, Parameters ─ Predict ─▶ the lag that the model of KCM gives (package kcm)
package tuner
