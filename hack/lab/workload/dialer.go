package workload

import (
	"context"
	"net"
	"time"
)

// newDialer returns a dial function of its own: client-go shares a connection between clients of equal configuration,
// and tells functions apart by identity.
func newDialer() func(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return dialer.DialContext
}
