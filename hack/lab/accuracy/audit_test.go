package accuracy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// auditLog writes audit events, a second apart, each of which took 10 ms.
type auditLog struct {
	lines   []string
	version int
}

func (l *auditLog) add(verb, resource, name, object string) *auditLog {
	l.version++
	return l.addAs(verb, resource, name, fmt.Sprintf(object, fmt.Sprintf(`"resourceVersion":"%d"`, 9+l.version)), 200)
}

func (l *auditLog) addAs(verb, resource, name, object string, code int) *auditLog {
	end := start().Add(time.Duration(l.version) * time.Second)
	const layout = "2006-01-02T15:04:05.000000Z07:00"
	l.lines = append(l.lines, fmt.Sprintf(`{"stage":"ResponseComplete","auditID":"x","verb":%q,"objectRef":{"resource":%q,"namespace":"n","name":%q},`+
		`"responseStatus":{"code":%d},"responseObject":%s,"requestReceivedTimestamp":%q,"stageTimestamp":%q}`+"\n",
		verb, resource, name, code, object, end.Add(-10*time.Millisecond).Format(layout), end.Format(layout)))
	return l
}

func (l *auditLog) pod(verb, status string) *auditLog {
	return l.add(verb, "pods", "p", `{"kind":"Pod","metadata":{"name":"p","uid":"A-1","labels":{"app":"web"},%s},`+
		`"status":{"podIPs":[{"ip":"10.0.0.1"}],"conditions":[{"type":"Ready","status":"`+status+`"}]}}`)
}

func (l *auditLog) slice(name string, ready bool) *auditLog {
	return l.add("update", "endpointslices", name, `{"kind":"EndpointSlice","metadata":{"name":"`+name+`",%s},`+
		fmt.Sprintf(`"endpoints":[{"conditions":{"ready":%t},"targetRef":{"uid":"A-1"}}]}`, ready))
}

func (l *auditLog) endpoints(list string) *auditLog {
	return l.add("update", "endpoints", "web", `{"kind":"Endpoints","metadata":{"name":"web",%s},"subsets":[{"`+list+`":[{"targetRef":{"uid":"A-1"}}]}]}`)
}

func TestAuditTruth(t *testing.T) {
	change := func(resource string, added bool, class string, from, until int) Change {
		return Change{
			Resource: resource, Service: "web", Pod: "a1", Added: added, Class: class, From: start().Add(time.Duration(from) * time.Second),
			Lag: time.Duration(until-from) * time.Second, Spread: 20 * time.Millisecond,
		}
	}
	tests := map[string]struct {
		log  *auditLog
		want []Change
	}{
		"a Pod becomes ready and is published": {
			new(auditLog).pod("create", "True").slice("s", true).endpoints("addresses"),
			[]Change{change("EndpointSlice", true, classClosed, 1, 2), change("Endpoints", true, classClosed, 1, 3)},
		},
		"published as not ready is not published": {
			new(auditLog).pod("create", "True").slice("s", false).endpoints("notReadyAddresses"), nil,
		},
		"a removal ends when no slice shows the Pod as ready": {
			new(auditLog).pod("create", "True").slice("s", true).slice("t", true).pod("patch", "False").slice("s", false).slice("t", false),
			[]Change{
				change("EndpointSlice", true, classClosed, 1, 2), change("EndpointSlice", false, classClosed, 4, 6),
				change("Endpoints", true, classSuperseded, 1, 4),
			},
		},
		"a deletion is a removal": {
			new(auditLog).pod("create", "True").slice("s", true).pod("delete", "True").slice("s", false),
			[]Change{
				change("EndpointSlice", true, classClosed, 1, 2), change("EndpointSlice", false, classClosed, 3, 4),
				change("Endpoints", true, classSuperseded, 1, 3),
			},
		},
		"undone before it was published": {
			new(auditLog).pod("create", "True").pod("update", "False").slice("s", false),
			[]Change{change("EndpointSlice", true, classSuperseded, 1, 2), change("Endpoints", true, classSuperseded, 1, 2)},
		},
		"a write that was refused did nothing": {
			new(auditLog).pod("create", "True").addAs("update", "endpointslices", "s", `{"kind":"Status","metadata":{}}`, 409), nil,
		},
		"a slice that is deleted shows nothing": {
			new(auditLog).pod("create", "True").slice("s", true).pod("patch", "False").
				add("delete", "endpointslices", "s", `{"kind":"EndpointSlice","metadata":{"name":"s",%s},"endpoints":[{"targetRef":{"uid":"A-1"}}]}`),
			[]Change{
				change("EndpointSlice", true, classClosed, 1, 2), change("EndpointSlice", false, classClosed, 3, 4),
				change("Endpoints", true, classSuperseded, 1, 3),
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			// The order of the lines is not that of the writes.
			slices.Reverse(test.log.lines)
			got, err := AuditTruth(strings.NewReader(strings.Join(test.log.lines, "")+`{"cut off`), "app")
			if err != nil {
				t.Fatal(err)
			}
			for i := range got {
				got[i].From = got[i].From.UTC()
			}
			slices.SortFunc(got, func(a, b Change) int {
				return cmp.Or(a.From.Compare(b.From), -cmp.Compare(a.Resource, b.Resource))
			})
			slices.SortFunc(test.want, func(a, b Change) int {
				return cmp.Or(a.From.Compare(b.From), -cmp.Compare(a.Resource, b.Resource))
			})
			if diff := gocmp.Diff(test.want, got); diff != "" {
				t.Errorf("AuditTruth() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAuditTruthRefusesWhatItDoesNotUnderstand(t *testing.T) {
	tests := map[string]struct{ line, want string }{
		"no JSON":             {"{\n", "line 1"},
		"no resource version": {`{"stage":"ResponseComplete","verb":"update","objectRef":{"resource":"pods"},"responseObject":{"kind":"Pod"}}` + "\n", "without a resource version"},
		"an unknown kind":     {`{"stage":"ResponseComplete","objectRef":{"resource":"nodes"},"responseObject":{"metadata":{"resourceVersion":"1"}}}` + "\n", "nodes"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := AuditTruth(strings.NewReader(test.line), "app"); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("AuditTruth() error = %v, want one about %q", err, test.want)
			}
		})
	}
}
