package controlplane

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken below the range that the kernel gives to outgoing connections (32768 and up on Linux), so that none of
// them takes a port while its server is stopped.
const (
	firstPort = 20000
	lastPort  = 32000
	portTries = 200
)

// FreePorts returns n different ports that nothing listens on at 127.0.0.1. Nobody holds them: take them soon.
func FreePorts(ctx context.Context, n int) ([]int, error) {
	ports := make([]int, 0, n)
	var config net.ListenConfig
	for range portTries {
		port := firstPort + rand.IntN(lastPort-firstPort)
		listener, err := config.Listen(ctx, "tcp4", net.JoinHostPort(loopback, strconv.Itoa(port)))
		if err != nil {
			continue
		}
		defer func() { _ = listener.Close() }() // Held until all are chosen, so that they differ.
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("find %d free ports between %d and %d at %s: found %d", n, firstPort, lastPort, loopback, len(ports))
}

// FreeAddresses are FreePorts with the address before them.
func FreeAddresses(ctx context.Context, n int) ([]string, error) {
	ports, err := FreePorts(ctx, n)
	addresses := make([]string, 0, n)
	for _, port := range ports {
		addresses = append(addresses, net.JoinHostPort(loopback, strconv.Itoa(port)))
	}
	return addresses, err
}

const loopback = "127.0.0.1"
