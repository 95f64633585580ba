// Package lag turns what watches say about Pods, Services, EndpointSlices and Endpoints into changes and how late each
// one was published. It reads no clock, does no I/O and knows no client: callers hand it plain values and times.
//
// A change opens when the desired ready membership of a Pod in a Service changes and closes when the published objects
// say the same: an addition when any slice shows the Pod as ready at an address it has, a removal when none does. Every
// change ends in exactly one Class for each Resource.
package lag
