package scale

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// controlPrefix begins the paths by which the benchmark steers the server; they are no part of the API and not counted.
const controlPrefix = "/lab/"

// ServerStats is what the server says of itself.
type ServerStats struct {
	Traffic Traffic    `json:"traffic"`
	Churn   ChurnStats `json:"churn"`
	Sizes   Sizes      `json:"sizes"`
}

// Sizes are the bytes of one object of each kind, as the server sends it.
type Sizes struct {
	PodProtobuf       int `json:"podProtobuf"`
	PodJSON           int `json:"podJSON"`
	SliceProtobuf     int `json:"sliceProtobuf"`
	EndpointsProtobuf int `json:"endpointsProtobuf"`
	ServiceProtobuf   int `json:"serviceProtobuf"`
	NodeProtobuf      int `json:"nodeProtobuf"`
}

// churnRequest asks for a churn.
type churnRequest struct {
	Rate    float64 `json:"rate"`
	LagMS   int64   `json:"lagMilliseconds"`
	Seconds float64 `json:"seconds"`
}

// order is a churn to make.
type order struct {
	how      Churn
	duration time.Duration
}

// obey makes the churns that are asked for, one after the other, until ctx ends.
func (s *Server) obey(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case o := <-s.orders:
			s.churner.run(ctx, o.how, o.duration)
		}
	}
}

func (s *Server) control(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case controlPrefix + "stats":
		sendJSON(w, http.StatusOK, s.stats())
	case controlPrefix + "reset":
		s.traffic.reset()
		sendJSON(w, http.StatusOK, s.stats())
	case controlPrefix + "churn":
		var asked churnRequest
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if !s.churner.begin() {
			http.Error(w, "a churn is running already: wait for its end", http.StatusConflict)
			return
		}
		s.orders <- order{
			how:      Churn{Rate: asked.Rate, Lag: time.Duration(asked.LagMS) * time.Millisecond},
			duration: time.Duration(asked.Seconds * float64(time.Second)),
		}
		sendJSON(w, http.StatusOK, s.stats())
	default:
		http.NotFound(w, r)
	}
}

func (s *Server) stats() ServerStats {
	return ServerStats{Traffic: s.traffic.stats(), Churn: s.churner.stats(), Sizes: s.cluster.sizes()}
}

func (c *cluster) sizes() Sizes {
	proto := encoding{protobuf: true}
	size := func(e encoding, url string, o object) int {
		body, err := e.one(o, e.typeOf(c.kind(url), ""))
		if err != nil {
			return 0
		}
		return len(body)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, to := c.podsOf(0)
	return Sizes{
		PodProtobuf:       size(proto, podsURL, c.pod(0, c.pods[0])),
		PodJSON:           size(encoding{}, podsURL, c.pod(0, c.pods[0])),
		SliceProtobuf:     size(proto, slicesURL, c.endpointSlice(0, c.slices[0], c.published[:to])),
		EndpointsProtobuf: size(proto, endpointsURL, c.endpointsOf(0, c.endpoints[0], c.published[:to])),
		ServiceProtobuf:   size(proto, servicesURL, c.service(0)),
		NodeProtobuf:      size(proto, nodesURL, c.node(0, c.nodes[0])),
	}
}

const (
	// leaseEvery is how often kube-controller-manager renews its Lease (--leader-elect-retry-period).
	leaseEvery = 2 * time.Second
	// heartbeatEvery is how often a kubelet reports a status that has not changed (nodeStatusReportFrequency).
	heartbeatEvery = 5 * time.Minute
)

// idle is what goes on in a cluster where nothing happens, until ctx ends: kube-controller-manager's Lease and the
// kubelets' reports.
func (c *cluster) idle(ctx context.Context) {
	lease, nodes := time.NewTicker(leaseEvery), time.NewTicker(heartbeatEvery/time.Duration(c.Nodes))
	defer lease.Stop()
	defer nodes.Stop()
	for i := 0; ; {
		select {
		case <-ctx.Done():
			return
		case now := <-lease.C:
			c.put(c.kind(leasesURL), c.kcmLease(now))
		case <-nodes.C:
			c.heartbeat(i % c.Nodes)
			i++
		}
	}
}
