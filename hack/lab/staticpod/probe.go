package staticpod

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// probe runs the container's startup probe and then its liveness probe, and sends the name of the one that failed as
// often in a row as its threshold says. Only httpGet is known; other probes count as passed.
func (r *Runner) probe(ctx context.Context, c *corev1.Container) <-chan string {
	failed := make(chan string, 1)
	if c.StartupProbe == nil && c.LivenessProbe == nil {
		return failed
	}
	go func() {
		switch {
		case !r.passes(ctx, c, c.StartupProbe):
			failed <- "startup"
		case !r.lives(ctx, c, c.LivenessProbe):
			failed <- "liveness"
		}
	}()
	return failed
}

// passes reports false when the startup probe used up its threshold, true when it passed, is absent or ctx ended.
func (r *Runner) passes(ctx context.Context, c *corev1.Container, p *corev1.Probe) bool {
	if p == nil || p.HTTPGet == nil || !r.sleep(ctx, seconds(p.InitialDelaySeconds)) {
		return true
	}
	for range p.FailureThreshold {
		if get(ctx, c, p) || !r.sleep(ctx, seconds(p.PeriodSeconds)) {
			return true
		}
	}
	return false
}

// lives returns false when the liveness probe failed as often in a row as its threshold says, true when ctx ended.
func (r *Runner) lives(ctx context.Context, c *corev1.Container, p *corev1.Probe) bool {
	if p == nil || p.HTTPGet == nil || !r.sleep(ctx, seconds(p.InitialDelaySeconds)) {
		return true
	}
	for failures := int32(0); ; {
		failures++
		if get(ctx, c, p) {
			failures = 0
		}
		switch {
		case ctx.Err() != nil:
			return true
		case failures >= p.FailureThreshold:
			return false
		case !r.sleep(ctx, seconds(p.PeriodSeconds)):
			return true
		}
	}
}

// get makes one request, without checking certificates, as the kubelet does.
func get(ctx context.Context, c *corev1.Container, p *corev1.Probe) bool {
	ctx, cancel := context.WithTimeout(ctx, seconds(p.TimeoutSeconds))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, probeURL(c, p.HTTPGet), http.NoBody)
	if err != nil {
		return false
	}
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // the kubelet's probes do not verify
		DisableKeepAlives: true,
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<16))
	if closeErr := res.Body.Close(); err != nil || closeErr != nil {
		return false
	}
	return res.StatusCode >= http.StatusOK && res.StatusCode < http.StatusBadRequest
}

func probeURL(c *corev1.Container, g *corev1.HTTPGetAction) string {
	port := g.Port.IntValue()
	if g.Port.Type == intstr.String {
		for _, named := range c.Ports {
			if named.Name == g.Port.StrVal {
				port = int(named.ContainerPort)
			}
		}
	}
	host, scheme := g.Host, "http"
	if host == "" {
		host = "127.0.0.1" // there is no Pod network here
	}
	if g.Scheme == corev1.URISchemeHTTPS {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(port)) + g.Path
}

func seconds(s int32) time.Duration { return time.Duration(s) * time.Second }
