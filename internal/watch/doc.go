// Package watch feeds a lag.Tracker from an API server: one watch for each kind, read as protobuf straight into the few
// values that matter, stamped before it is decoded. It keeps no objects, decides nothing and writes nothing.
//
// The way of an event: a reader for each watch takes frames off the connection, stamps each when its last byte is there
// and puts it into one bounded queue, ordered by stamp. A single goroutine takes them out, decodes them and tells the
// tracker. A client-go Reflector for each kind drives the requests (stream of the first state, resumption, relist,
// back-off); it hears resource versions, never objects.
package watch
