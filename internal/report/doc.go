// Package report renders what was measured and concluded: as text for a terminal (tables, plots of lag over time) and
// as JSON or YAML for scripts. It writes to the io.Writer it is given and measures, decides and looks up nothing.
//
// Measurement and Plan are the documents that `measure -o json` and `plan -o json` print. They are stable: fields are
// added, never renamed; durations are seconds in fields that end in Seconds; a lag with its LowerBound set means "at
// least", because it rests on changes that are still open.
package report
