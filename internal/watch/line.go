package watch

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"
)

// waited is how long a Read takes at least when it had to wait for data; one that finds data takes a few microseconds.
const waited = 50 * time.Microsecond

// reads keeps what the Reads of a connection or of a stream tell about time.
type reads struct {
	clock clock.PassiveClock
	start time.Time    // the zero of the stamps below
	since atomic.Int64 // the Read that is under way began; negative: none is
	last  atomic.Int64 // bytes came last
	idle  atomic.Int64 // a Read that had waited ended last: everything before had been read by then
}

func newReads(c clock.PassiveClock) *reads {
	r := &reads{clock: c, start: c.Now()}
	r.since.Store(-1)
	return r
}

// read does one Read and keeps its times.
func (r *reads) read(from io.Reader, p []byte) (int, error) {
	began := r.clock.Since(r.start)
	r.since.Store(int64(began))
	n, err := from.Read(p)
	ended := r.clock.Since(r.start)
	r.since.Store(-1)
	if n > 0 {
		r.last.Store(int64(ended))
	}
	if ended-began >= waited {
		r.idle.Store(int64(ended))
	}
	return n, err
}

func (r *reads) time(of *atomic.Int64) time.Time { return r.start.Add(time.Duration(of.Load())) }

// line is a connection whose Reads are timed.
type line struct {
	net.Conn
	reads *reads
}

// Read reads from the connection.
func (l *line) Read(p []byte) (int, error) { return l.reads.read(l.Conn, p) }

type dialer = func(ctx context.Context, network, address string) (net.Conn, error)

// timed makes a dialer's connections lines.
func timed(dial dialer, c clock.PassiveClock) dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &line{Conn: conn, reads: newReads(c)}, nil
	}
}

// traced returns a context that tells over which line its request goes. Another request may share the line.
func traced(ctx context.Context) (context.Context, func() *reads) {
	var on atomic.Pointer[line]
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		conn := got.Conn
		if secure, ok := conn.(*tls.Conn); ok {
			conn = secure.NetConn()
		}
		if l, ok := conn.(*line); ok {
			on.Store(l)
		}
	}})
	return ctx, func() *reads {
		if l := on.Load(); l != nil {
			return l.reads
		}
		return nil
	}
}
