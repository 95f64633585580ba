// Package scale measures what the operator's controller costs in a large cluster: a synthetic API server streams Pods,
// Services, slices and their changes to it and, in the same run, to what most tools use instead. It judges nothing.
package scale
