// Package watch feeds a lag.Tracker from an API server: one watch for each kind, read as protobuf straight into the few
// values that matter, stamped before it is decoded. It keeps no objects, decides nothing and writes nothing.
//
// The way of an event: a reader for each watch takes frames off the connection, stamps each when its last byte is there
// and puts it into one bounded queue, ordered by stamp. A single goroutine takes them out, decodes them and tells the
// tracker, so that a tracker or decoder that takes its time makes no stamp late, and a Pod's event is never told after
// the slice that followed from it. A client-go Reflector for each kind drives the requests (stream of the first state,
// resumption, relist, back-off); it hears resource versions, never objects.
//
// What a stamp is worth: the tracker is told for each second by how much its stamps may be late. That is 6 ms for what
// nobody sees (unseenDelay), and the largest of
//   - the time for which a reader may have lagged behind: from the end of the last read that had to wait, on the stream
//     and on the connection below, to the stamp. It contains the time for which a full queue held the reader up;
//   - the lateness of a canary that wakes every 5 ms, if something was stamped meanwhile or right after: this process did
//     not get the processor, or collected garbage;
//   - the time that a small request over the same connection took until its answer was read: every two seconds; and twice
//     that time, of five a second, while much happens. It bounds what the API server and the network add, as far as one request is like
//     another: a delay of theirs that meets no probe cannot be told from kube-controller-manager's lag.
//
// Gaps: while the watch of a kind is down the tracker knows that it does not receive. A gap begins at the end that the
// server sent, or when a watch broke, with the last bytes that came over its connection: a silent connection ends by
// HTTP/2 pings after 45 s, and nothing says how long it had been dead. The probes are
// answered over the same connection, so that bytes come every two seconds. A gap ends when the first state of a relist is
// complete; or, after a resumption, as soon as the reader waits 50 ms for more, at the latest after a second.
package watch
