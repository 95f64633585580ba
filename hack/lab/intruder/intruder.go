// Package intruder holds the stolen token of an agent and tries everything that the agent must not be able to do: what
// the API server serves times every verb, and what an attacker would try by name.
//
// It judges by the API server's answer alone. It leaves nothing behind: what would change something is a dry run, or
// aims at an object that was made for it.
package intruder

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/utils/clock"

	"github.com/endpointsync/endpoint-sync-operator/hack/lab/operator"
)

const (
	// defaultQPS is gentle with an API server that has other work, and keeps a raid of 3,000 calls under a minute.
	defaultQPS = 60
	// workers is how many calls are under way at once, so that a slow API server does not hold the pace back.
	workers = 8
)

// Options of a raid.
type Options struct {
	// Admin reaches the API server with all rights; it prepares, checks and cleans up.
	Admin *rest.Config

	// Token is the stolen one.
	Token string

	// Node is the node of the agent that lost it, and Others are EndpointSyncNodes that it must not touch: those of other
	// nodes, and the one that is reserved for the agents' isolation self-test. All of them exist.
	Node   string
	Others []string

	// MayReport says that the token may write the status of Node: it is bound to a Pod there.
	MayReport bool

	// Grants are what RBAC grants the agent: ReadGrants of config/rbac/agent.yaml, and whatever a test adds. Reading what
	// they grant is no crime; of what they let it write, the status of its own node alone is not. Where they go beyond
	// that, no controller may be running: it would take away the EndpointSyncNode that is made for the raid.
	Grants []Grant

	// QPS is how many calls a second it makes; 0 means 60.
	QPS float32
}

// Result of a raid.
type Result struct {
	// Tried is how many different calls should have been refused, and Refused how many of them were, by whom.
	Tried   int      `json:"tried"`
	Refused Refusals `json:"refused"`

	// Allowed are the calls that succeeded, and effects that a call must not have but had.
	Allowed []string `json:"allowed"`

	// Unexpected are answers that prove nothing: neither a success nor a refusal by who should refuse.
	Unexpected []string `json:"unexpected"`

	// Everybodys are calls that were not refused and that every account of the cluster may make: they are not in Tried.
	Everybodys []string `json:"everybodys"`
}

// Refusals are how many calls were refused by whom.
type Refusals struct {
	Authentication int `json:"authentication"`
	Authorization  int `json:"authorization"`
	Admission      int `json:"admission"`
}

// raid is one run.
type raid struct {
	Options

	kube   kubernetes.Interface
	admin  dynamic.Interface // may also write EndpointSyncNodes
	clock  clock.Clock
	pace   flowcontrol.RateLimiter
	thief  *http.Client // with the stolen token
	nobody *http.Client // with the token of an account that nobody granted anything

	me     authenticationv1.UserInfo
	served map[string]resource // by group/name
	made   []target
}

// Raid tries everything once, in the same order each time. It is an error if the raid itself went wrong, for example
// because the token is not an agent's or died meanwhile; what the token opened is no error but in the result.
func Raid(ctx context.Context, o Options) (result Result, err error) {
	r, err := newRaid(o)
	if err != nil {
		return Result{}, err
	}
	if r.me, err = r.whoAmI(ctx); err != nil {
		return Result{}, err
	}
	if r.served, err = r.discover(); err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, r.cleanUp(ctx)) }()
	if err = r.prepare(ctx); err != nil {
		return Result{}, err
	}
	derived, err := r.derived(ctx)
	if err != nil {
		return Result{}, err
	}
	result, err = r.rob(ctx, r.forbidden(slices.Concat(derived, r.known(), r.onMade())))
	if err != nil {
		return result, err
	}
	if err = r.smuggle(ctx, &result); err != nil {
		return result, err
	}
	if err = r.verifyMade(ctx, &result); err != nil {
		return result, err
	}
	if _, err = r.whoAmI(ctx); err != nil {
		return result, fmt.Errorf("after the raid, so that its refusals prove nothing: %w", err)
	}
	return result, nil
}

func newRaid(o Options) (*raid, error) {
	if o.QPS == 0 {
		o.QPS = defaultQPS
	}
	r := &raid{
		Options: o, clock: clock.RealClock{},
		pace: flowcontrol.NewTokenBucketRateLimiter(o.QPS, workers),
	}
	admin := rest.CopyConfig(o.Admin)
	admin.Impersonate = rest.ImpersonationConfig{UserName: marker, Groups: []string{"system:masters", "endpoint-sync-breakglass"}}
	admin.WarningHandler = rest.NoWarnings{}
	var err error
	if r.kube, err = kubernetes.NewForConfig(admin); err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	if r.admin, err = dynamic.NewForConfig(admin); err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	if r.thief, err = clientWith(o.Admin, o.Token); err != nil {
		return nil, err
	}
	return r, nil
}

// whoAmI makes sure that the token is a live one of an agent: refusals of any other would prove nothing.
func (r *raid) whoAmI(ctx context.Context) (authenticationv1.UserInfo, error) {
	var review authenticationv1.SelfSubjectReview
	if err := r.askInto(ctx, whoami(), &review); err != nil {
		return authenticationv1.UserInfo{}, fmt.Errorf("ask whose token this is: %w", err)
	}
	me := review.Status.UserInfo
	if want := "system:serviceaccount:" + operator.Namespace + ":" + operator.Agent; me.Username != want {
		return me, fmt.Errorf("the token is %s's, want one of %s", me.Username, want)
	}
	return me, nil
}

// forbidden drops what the agent is meant to have, what is not served, and repetitions.
func (r *raid) forbidden(calls []call) []call {
	seen := map[string]bool{}
	return slices.DeleteFunc(calls, func(c call) bool {
		again := seen[c.String()]
		seen[c.String()] = true
		return again || r.pointless(c)
	})
}

// pointless says that nothing follows from a call: the agent is meant to have it, or RBAC grants it and then there is
// nothing there to be refused.
func (r *raid) pointless(c call) bool {
	if c.as != nil || !covered(r.Grants, c.attributes()) {
		return false
	}
	a := c.attributes()
	if a.verb == "get" || a.verb == "list" || a.verb == "watch" {
		return true
	}
	if r.MayReport && a.resource == "endpointsyncnodes/status" && a.name == r.Node {
		return true
	}
	// Custom resources have no strategic merge.
	return !slices.Contains(r.served[a.group+"/"+a.resource].Verbs, a.verb) || c.patch == strategic
}

// outcome of one call.
type outcome struct {
	refusals   Refusals
	allowed    string
	unexpected string
	everybodys string
}

// rob makes the calls.
func (r *raid) rob(ctx context.Context, calls []call) (Result, error) {
	outcomes := make([]outcome, len(calls))
	err := r.each(ctx, len(calls), func(ctx context.Context, i int) { outcomes[i] = r.try(ctx, calls[i]) })
	result := Result{Allowed: []string{}, Unexpected: []string{}, Everybodys: []string{}}
	for _, o := range outcomes {
		if o.everybodys != "" {
			result.Everybodys = append(result.Everybodys, o.everybodys)
			continue
		}
		result.Tried++
		result.Refused.Authentication += o.refusals.Authentication
		result.Refused.Authorization += o.refusals.Authorization
		result.Refused.Admission += o.refusals.Admission
		result.Allowed = appendIf(result.Allowed, o.allowed)
		result.Unexpected = appendIf(result.Unexpected, o.unexpected)
	}
	return result, err
}

func appendIf(list []string, s string) []string {
	if s == "" {
		return list
	}
	return append(list, s)
}

// try makes one call. If nobody's token is not refused either, it is no matter of the agent's rights.
func (r *raid) try(ctx context.Context, c call) outcome {
	got := r.ask(ctx, r.thief, c)
	switch {
	case got.by == authentication:
		return outcome{refusals: Refusals{Authentication: 1}}
	case got.by == authorization:
		return outcome{refusals: Refusals{Authorization: 1}}
	case got.by == admission:
		return outcome{refusals: Refusals{Admission: 1}}
	case r.ask(ctx, r.nobody, c).open():
		return outcome{everybodys: c.String()}
	case got.success():
		return outcome{allowed: fmt.Sprintf("%s: %s", c, got)}
	}
	return outcome{unexpected: fmt.Sprintf("%s: %s", c, got)}
}

// String says in one line how a raid ended.
func (r Result) String() string {
	return fmt.Sprintf("%d calls tried, %d refused by authentication, %d by authorization, %d by admission; allowed: %d; unexpected answers: %d; everybody's: %s",
		r.Tried, r.Refused.Authentication, r.Refused.Authorization, r.Refused.Admission, len(r.Allowed), len(r.Unexpected),
		strings.Join(r.Everybodys, ", "))
}
