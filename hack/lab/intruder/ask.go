package intruder

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

const (
	// callTimeout bounds one answer. Refusals come at once; what is no refusal may take its time.
	callTimeout = 10 * time.Second
	// attempts and retryDelay are how an answer is asked for again that says only that the API server was busy, or that an
	// object changed in between.
	attempts   = 5
	retryDelay = 300 * time.Millisecond
	// answerLimit is how much of an answer is read, in bytes: its status and message stand at the beginning.
	answerLimit = 1 << 20
	// shownAnswer is how much of an answer is shown, in bytes.
	shownAnswer = 200
)

// call is one request of the raid.
type call struct {
	// what sets it apart from others of the same path.
	what   string
	method string
	path   string // with its query
	patch  string // content type of a patch
	// as are the headers that ask to be somebody else; nil: none.
	as http.Header
	// body is asked for at each attempt, because some carry the present version of an object; nil: none.
	body func(ctx context.Context) (any, error)
}

// String names the call; different calls have different names.
func (c call) String() string {
	name := c.method + " " + c.path
	if c.patch != "" {
		name += " (" + strings.TrimPrefix(c.patch, "application/") + ")"
	}
	if c.what != "" {
		name += ", " + c.what
	}
	if c.as != nil {
		values := url.Values(c.as)
		name += " as " + values.Encode()
	}
	return name
}

func called(what string, c call) call {
	c.what = what
	return c
}

func (c call) attributes() attributes {
	target, err := url.Parse(c.path)
	if err != nil {
		panic(err) // All paths are made here.
	}
	return attributesOf(c.method, target)
}

func fixed(body any) func(context.Context) (any, error) {
	return func(context.Context) (any, error) { return body, nil }
}

// refuser is who refused a call.
type refuser int

const (
	noOne refuser = iota
	authentication
	authorization
	admission
)

// answer to a call.
type answer struct {
	status int // 0: there was none
	by     refuser
	body   []byte
	err    error
}

func (a answer) success() bool {
	return a.status >= http.StatusOK && a.status < http.StatusMultipleChoices
}

// open says that there was an answer and nobody refused.
func (a answer) open() bool {
	return a.status != 0 && a.status != http.StatusUnauthorized && a.status != http.StatusForbidden
}

// passing says that the answer may be another one if asked again.
func (a answer) passing() bool {
	switch a.status {
	case 0, http.StatusConflict, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

func (a answer) String() string {
	if a.err != nil {
		return a.err.Error()
	}
	return fmt.Sprintf("%d %.*s", a.status, shownAnswer, a.body)
}

// clientWith returns a client with nothing but a token.
func clientWith(config *rest.Config, token string) (*http.Client, error) {
	bare := rest.AnonymousClientConfig(config)
	bare.BearerToken = token
	client, err := rest.HTTPClientFor(bare)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	// A redirect is an answer.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return client, nil
}

// ask makes a call, and again while the answer says only that this was not the moment.
func (r *raid) ask(ctx context.Context, client *http.Client, c call) answer {
	for attempt := 1; ; attempt++ {
		got := r.askOnce(ctx, client, c)
		if !got.passing() || attempt == attempts {
			return got
		}
		select {
		case <-ctx.Done():
			return got
		case <-r.clock.After(retryDelay * time.Duration(attempt)):
		}
	}
}

func (r *raid) askOnce(ctx context.Context, client *http.Client, c call) answer {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := r.pace.Wait(ctx); err != nil {
		return answer{err: err}
	}
	request, err := r.request(ctx, c)
	if err != nil {
		return answer{err: err}
	}
	response, err := client.Do(request)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = response.Body.Close() }()
	got := answer{status: response.StatusCode}
	if request.URL.Query().Has("watch") && got.success() {
		return got // Its body has no end.
	}
	if got.body, err = io.ReadAll(io.LimitReader(response.Body, answerLimit)); err != nil {
		return answer{err: err}
	}
	got.by = refusedBy(got.status, got.body)
	return got
}

func (r *raid) request(ctx context.Context, c call) (*http.Request, error) {
	body := []byte{}
	if c.body != nil {
		content, err := c.body(ctx)
		if err != nil {
			return nil, fmt.Errorf("make the body of %s: %w", c, err)
		}
		if body, err = json.Marshal(content); err != nil {
			return nil, fmt.Errorf("make the body of %s: %w", c, err)
		}
	}
	request, err := http.NewRequestWithContext(ctx, c.method, r.Admin.Host+c.path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	maps.Copy(request.Header, c.as)
	request.Header.Set("Accept", "application/json")
	request.Header.Set("Content-Type", "application/json")
	if c.patch != "" {
		request.Header.Set("Content-Type", c.patch)
	}
	return request, nil
}

// refusedBy tells who refused: other 403s, such as those of a quota, say nothing about rights.
func refusedBy(code int, body []byte) refuser {
	if code == http.StatusUnauthorized {
		return authentication
	}
	var status metav1.Status
	if code != http.StatusForbidden || json.Unmarshal(body, &status) != nil {
		return noOne
	}
	switch {
	case strings.Contains(status.Message, "ValidatingAdmissionPolicy 'endpoint-sync-"):
		return admission
	case strings.Contains(status.Message, `User "`) && strings.Contains(status.Message, `" cannot `):
		return authorization
	}
	return noOne
}

// askInto makes a call of the thief's that must succeed.
func (r *raid) askInto(ctx context.Context, c call, into any) error {
	got := r.ask(ctx, r.thief, c)
	if !got.success() {
		return fmt.Errorf("%s: %s", c, got)
	}
	if err := json.Unmarshal(got.body, into); err != nil {
		return fmt.Errorf("%s: %w", c, err)
	}
	return nil
}

// each calls f for 0..n-1, in this order but some at once, unless ctx ends before.
func (r *raid) each(ctx context.Context, n int, f func(ctx context.Context, i int)) error {
	next := make(chan int)
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for i := range next {
				f(ctx, i)
			}
		})
	}
	for i := 0; i < n && ctx.Err() == nil; i++ {
		next <- i
	}
	close(next)
	running.Wait()
	return context.Cause(ctx)
}
