package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/endpointsync/endpoint-sync-operator/internal/lag"
)

func pageOf(t *testing.T, d *Plan) string {
	t.Helper()
	var out bytes.Buffer
	if err := d.HTML(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// wellFormed checks that a page is XML, and that no id is given twice and every one that is referred to is there.
func wellFormed(t *testing.T, page string) {
	t.Helper()
	ids, wanted := map[string]bool{}, []string{}
	decoder := xml.NewDecoder(strings.NewReader(page))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
		element, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		for _, a := range element.Attr {
			switch a.Name.Local {
			case "id":
				if ids[a.Value] {
					t.Errorf("id %q is there twice", a.Value)
				}
				ids[a.Value] = true
			case "aria-labelledby":
				wanted = append(wanted, strings.Fields(a.Value)...)
			case "href", "src", "style", "onload", "xmlns":
				t.Errorf("<%s> has %s=%q", element.Name.Local, a.Name.Local, a.Value)
			}
		}
	}
	for _, id := range wanted {
		if !ids[id] {
			t.Errorf("nothing has the id %q", id)
		}
	}
}

func TestThePageNeedsNothingElse(t *testing.T) {
	page := pageOf(t, samplePlan())
	golden(t, "plan.html", page)
	wellFormed(t, page)
	for _, banned := range []string{"http:", "https:", "<script", "<link", "<img", "<iframe", "@import", "url(", "NaN", "Inf", "ZgotmplZ"} {
		if strings.Contains(page, banned) {
			t.Errorf("the page has %q", banned)
		}
	}
	for _, want := range []string{
		"Missed", "ClientRateLimit", "kube-api-qps", `value: &#34;120&#34;`, "prefers-color-scheme: dark", "@media print",
		`class="chosen"`, `class="now"`, "changes per second", "What this does not cover", `role="img"`, "<desc",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestThePageEscapesWhatOthersWrote(t *testing.T) {
	d := samplePlan()
	hostile := `</pre><script>alert("&")</script>`
	d.Bottleneck.Advice, d.Verdict.Message, d.Recommendation.Snippet = hostile, hostile, hostile
	d.Policy.Name, d.NotSeen, d.Running.Source = hostile, []string{hostile}, hostile
	d.Bottleneck.Evidence = []CauseEvidence{{Cause: hostile, For: []string{hostile}, Against: []string{hostile}}}
	d.Trace = &Recording{File: hostile, Recorded: start, Tool: hostile, Version: hostile}
	page := pageOf(t, d)
	wellFormed(t, page)
	if strings.Contains(page, "<script") || !strings.Contains(page, "&lt;script&gt;") {
		t.Error("the page does not escape what was written elsewhere")
	}
}

func TestThePageOfNextToNothing(t *testing.T) {
	b := incident()
	b.Evidence.Demand = lag.Demand{}
	for name, d := range map[string]*Plan{
		"nothing":   {},
		"no demand": {Assessment: Assess(b)},
		"one change": {Assessment: func() Assessment {
			c := incident()
			c.Evidence.Demand.Changes = c.Evidence.Demand.Changes[:1]
			return Assess(c)
		}()},
		"two equal settings": {Assessment: Assess(incident()), Curve: []CurvePoint{{Cost: 5}, {Cost: 5}}},
		"a lag of nothing":   {Assessment: Assess(incident()), Curve: []CurvePoint{{Flags: Flags{"kube-api-qps": 5}, Cost: 5}, {Flags: Flags{"kube-api-qps": 9}, Cost: 9, Chosen: true}}},
	} {
		page := pageOf(t, d)
		wellFormed(t, page)
		if strings.Contains(page, "NaN") || strings.Contains(page, "Inf") {
			t.Errorf("%s: a figure is none:\n%s", name, page)
		}
		var text bytes.Buffer
		if err := d.Text(&text, Style{}); err != nil || strings.Contains(text.String(), "NaN") {
			t.Errorf("%s: Text = %v\n%s", name, err, text.String())
		}
	}
}

func TestTheFrontierLeavesOutWhatCostsMoreAndBringsLess(t *testing.T) {
	curve := []CurvePoint{
		{Cost: 10, WorstSeconds: 5, Current: true}, {Cost: 20, WorstSeconds: 4}, {Cost: 40, WorstSeconds: 1}, {Cost: 30, WorstSeconds: 6}, {Cost: 50, WorstSeconds: 1},
	}
	var got []int64
	for _, c := range frontier(curve) {
		got = append(got, c.Cost)
	}
	if len(got) != 2 || got[0] != 20 || got[1] != 40 {
		t.Errorf("frontier = %v, want the settings of cost 20 and 40", got)
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestThePageSaysThatItCouldNotBeWritten(t *testing.T) {
	if err := samplePlan().HTML(brokenPipe{}); err == nil || !strings.Contains(err.Error(), "broken pipe") {
		t.Errorf("HTML = %v, want the writer's error", err)
	}
}
