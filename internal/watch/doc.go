// Package watch feeds a lag.Tracker from an API server: five watches, no copy of the objects. It decides nothing and
// writes nothing.
package watch
