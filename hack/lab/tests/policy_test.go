package tests

import (
	"context"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// refusal is an invalid policy and what the API server must say about it: field, value and what is allowed. For what is
// missing, unknown or not even a value of the field's type, it names the field and the fault.
type refusal struct {
	name string
	spec string // YAML, as people write it
	want []string
}

// bad is a refusal that names the field, the value and what is allowed.
func bad(name, spec, field, value, allowed string) refusal {
	return refusal{name, spec, []string{field + ":", value, allowed}}
}

const (
	bothRates    = "kubeAPIQPS: {min: 20, max: 200}, kubeAPIBurst: {min: 30, max: 400}"
	modes        = `supported values: "Observe", "Recommend", "Enforce"`
	emptyObject  = "have at least 1 properties" // the API server's words for an object without any field
	wrongInteger = "must be of type int"
	wrongString  = "must be of type string"
)

func modeRefusals() []refusal {
	const field = "spec.mode"
	return []refusal{
		bad("an unknown mode", "{mode: Auto}", field, `"Auto"`, modes),
		bad("a mode in lower case", "{mode: enforce}", field, `"enforce"`, modes),
		bad("an empty mode", `{mode: ""}`, field, `""`, modes),
		bad("a mode that is a number", "{mode: 1}", field, "integer", wrongString),
		bad("Enforce without bounds", "{mode: Enforce}", "spec.bounds", "Required value", "kubeAPIQPS {min, max}, each 1 to 1000"),
		bad("Enforce with empty bounds", "{mode: Enforce, bounds: {}}", "spec.bounds", "0", emptyObject),
		bad("an empty spec", "{}", "spec", "0", emptyObject),
		{"no spec", "null", []string{"spec: Required value"}},
	}
}

func boundRefusals() []refusal {
	bounds := func(text string) string { return "{mode: Enforce, bounds: {" + text + "}}" }
	qps := func(text string) string {
		return bounds("kubeAPIQPS: {" + text + "}, kubeAPIBurst: {min: 30, max: 400}")
	}
	burst := func(text string) string {
		return bounds("kubeAPIQPS: {min: 20, max: 200}, kubeAPIBurst: {" + text + "}")
	}
	const minQPS, maxQPS = "spec.bounds.kubeAPIQPS.min", "spec.bounds.kubeAPIQPS.max"
	const slices, endpoints = "spec.bounds.concurrentServiceEndpointSyncs", "spec.bounds.concurrentEndpointSyncs"
	return []refusal{
		bad("QPS without burst", bounds("kubeAPIQPS: {min: 20, max: 200}"), "spec.bounds.kubeAPIBurst", "Required value", "each 1 to 2000"),
		bad("burst without QPS", bounds("kubeAPIBurst: {min: 20, max: 200}"), "spec.bounds.kubeAPIQPS", "Required value", "each 1 to 1000"),
		bad("QPS 0", qps("min: 0, max: 200"), minQPS, "not 0", "1 to 1000"),
		bad("QPS below 0, which means unlimited to kube-controller-manager", qps("min: -1, max: 200"), minQPS, "not -1", "1 to 1000"),
		bad("QPS above the highest", qps("min: 20, max: 1001"), maxQPS, "not 1001", "1 to 1000"),
		bad("QPS MaxInt32", qps("min: 20, max: 2147483647"), maxQPS, "not 2147483647", "1 to 1000"),
		bad("QPS MaxInt32 + 1", qps("min: 20, max: 2147483648"), maxQPS, "not 2147483648", "1 to 1000"),
		bad("QPS MaxInt64 + 1", qps("min: 20, max: 9223372036854775808"), maxQPS, "9.223372036854776e+18", "less than or equal to 1000"),
		bad("QPS 1e999", qps("min: 20, max: 1e999"), maxQPS, "string", wrongInteger),
		{"QPS not a number", qps("min: 20, max: .nan"), []string{"unsupported value: NaN"}},
		bad("QPS with a fraction", qps("min: 20, max: 99.5"), maxQPS, "float64", wrongInteger),
		bad("QPS as text", qps(`min: 20, max: "200"`), maxQPS, "string", wrongInteger),
		bad("QPS as hexadecimal text", qps(`min: 20, max: "0x5"`), maxQPS, "string", wrongInteger),
		{"QPS null", qps("min: 20, max: null"), []string{maxQPS + ": Required value"}},
		{"QPS without min", qps("max: 200"), []string{minQPS + ": Required value"}},
		{"QPS without max", qps("min: 200"), []string{maxQPS + ": Required value"}},
		bad("QPS with min above max", qps("min: 201, max: 200"), "spec.bounds.kubeAPIQPS", "not min 201 and max 200", "want min <= max, both 1 to 1000"),
		bad("burst 0", burst("min: 0, max: 400"), "spec.bounds.kubeAPIBurst.min", "not 0", "1 to 2000"),
		bad("burst below 0", burst("min: 30, max: -400"), "spec.bounds.kubeAPIBurst.max", "not -400", "1 to 2000"),
		bad("burst above the highest", burst("min: 30, max: 2001"), "spec.bounds.kubeAPIBurst.max", "not 2001", "1 to 2000"),
		bad("burst with min above max", burst("min: 401, max: 400"), "spec.bounds.kubeAPIBurst", "not min 401 and max 400", "both 1 to 2000"),
		bad("no slice workers", bounds("concurrentServiceEndpointSyncs: {min: 0, max: 50}"), slices+".min", "not 0", "1 to 50"),
		bad("more slice workers than kube-controller-manager takes", bounds("concurrentServiceEndpointSyncs: {min: 5, max: 51}"), slices+".max", "not 51", "1 to 50"),
		bad("slice workers with min above max", bounds("concurrentServiceEndpointSyncs: {min: 6, max: 5}"), slices, "not min 6 and max 5", "both 1 to 50"),
		bad("no Endpoints workers", bounds("concurrentEndpointSyncs: {min: 0, max: 50}"), endpoints+".min", "not 0", "1 to 50"),
		bad("500 Endpoints workers, which kube-controller-manager takes", bounds("concurrentEndpointSyncs: {min: 5, max: 500}"), endpoints+".max", "not 500", "1 to 50"),
		bad("Endpoints workers below 0", bounds("concurrentEndpointSyncs: {min: -5, max: 5}"), endpoints+".min", "not -5", "1 to 50"),
		bad("Endpoints workers with min above max", bounds("concurrentEndpointSyncs: {min: 50, max: 1}"), endpoints, "not min 50 and max 1", "both 1 to 50"),
		bad("a bound that is one number", bounds("concurrentEndpointSyncs: 5"), endpoints, "integer", "must be of type object"),
		{"another flag of kube-controller-manager", bounds("kubeconfig: {min: 1, max: 2}"), []string{`unknown field "spec.bounds.kubeconfig"`}},
		{"a path", "{mode: Observe, manifestPath: /etc/shadow}", []string{`unknown field "spec.manifestPath"`}},
		{"a misspelt field", "{objective: {maxlag: 2s}}", []string{`unknown field "spec.objective.maxlag"`}},
	}
}

func objectiveRefusals() []refusal {
	maxLag := func(name, value string) refusal {
		spec := "{objective: {maxLag: " + value + "}}"
		return bad(name, spec, "spec.objective.maxLag", `not "`+strings.Trim(value, `"`)+`"`, "want 10ms to 10m")
	}
	objective := func(text string) string { return "{objective: {" + text + "}}" }
	const percentile, window, minSamples = "spec.objective.percentile", "spec.objective.window", "spec.objective.minSamples"
	return []refusal{
		maxLag("a lag of zero", "0s"),
		maxLag("a negative lag", `"-1s"`),
		maxLag("a lag with a negative term", "1h-5m"),
		maxLag("a lag in full-width digits", "５s"),
		maxLag("a lag after a space", `" 5s"`),
		maxLag("a lag with a space inside", `"5 s"`),
		maxLag("a lag before a space", `"5s "`),
		maxLag("a lag without a unit", `"50"`),
		maxLag("a lag in days", "1d"),
		maxLag("a lag in microseconds", "50us"),
		maxLag("a lag with an exponent", "1e3s"),
		maxLag("a lag with a plus sign", `"+5s"`),
		maxLag("a lag that begins with a point", ".5s"),
		maxLag("a lag that is infinite", "Infs"),
		maxLag("a lag that overflows", "9999999h"),
		maxLag("a lag that overflows by its terms", "999999h999999h999999h999999h"),
		maxLag("a lag that is too short", "9ms"),
		maxLag("a lag that is too long", "10m0.001s"),
		maxLag("a lag that is a command line", `"2s --kubeconfig=/x"`),
		bad("a lag that ends the line", objective(`maxLag: "2s\n"`), "spec.objective.maxLag", `"2s\n"`, "want 10ms to 10m"),
		bad("a lag of 65 characters", objective("maxLag: "+strings.Repeat("1", 64)+"s"), "spec.objective.maxLag", "Too long", "64"),
		bad("an empty lag", objective(`maxLag: ""`), "spec.objective.maxLag", `""`, "want 10ms to 10m"),
		bad("a lag that is a number", objective("maxLag: 5"), "spec.objective.maxLag", "integer", wrongString),
		bad("a percentile that is too low", objective("percentile: 49"), percentile, "not 49", "50 to 99"),
		bad("a percentile that no number of changes can prove", objective("percentile: 100"), percentile, "not 100", "50 to 99"),
		bad("a percentile of zero", objective("percentile: 0"), percentile, "not 0", "50 to 99"),
		bad("a percentile with a fraction", objective("percentile: 99.9"), percentile, "float64", wrongInteger),
		bad("a window that is too short", objective("window: 59s"), window, `not "59s"`, "want 1m to 24h"),
		bad("a window that is too long", objective("window: 24h1s"), window, `not "24h1s"`, "want 1m to 24h"),
		bad("no samples", objective("minSamples: 0"), minSamples, "not 0", "1 to 1000000"),
		bad("samples below zero", objective("minSamples: -1"), minSamples, "not -1", "1 to 1000000"),
		bad("too many samples", objective("minSamples: 1000001"), minSamples, "not 1000001", "1 to 1000000"),
		bad("an empty objective", "{objective: {}}", "spec.objective", "0", emptyObject),
	}
}

func rolloutRefusals() []refusal {
	rollout := func(text string) string { return "{rollout: {" + text + "}}" }
	const window = "{name: nights, schedule: 0 2 * * 1-5, duration: 2h}"
	var windows []string
	for i := range 17 {
		windows = append(windows, fmt.Sprintf("{name: w%d, schedule: 0 2 * * 1-5, duration: 2h}", i))
	}
	schedule := func(name, value string) refusal {
		return bad(name, rollout(`maintenanceWindows: [{name: a, schedule: "`+value+`", duration: 2h}]`),
			"spec.rollout.maintenanceWindows[0].schedule", `not "`+value+`"`, "want five fields of cron")
	}
	zone := func(name, value string) refusal {
		return bad(name, rollout(`maintenanceWindows: [{name: a, schedule: 0 2 * * 1-5, duration: 2h, timeZone: "`+value+`"}]`),
			"spec.rollout.maintenanceWindows[0].timeZone", `not "`+value+`"`, "want a name of the IANA database")
	}
	return []refusal{
		bad("no cooldown", rollout("cooldown: 0s"), "spec.rollout.cooldown", `not "0s"`, "want 1m to 168h"),
		bad("a negative cooldown", rollout("cooldown: -30m"), "spec.rollout.cooldown", `not "-30m"`, "want 1m to 168h"),
		bad("a cooldown that is too long", rollout("cooldown: 168h1s"), "spec.rollout.cooldown", `not "168h1s"`, "want 1m to 168h"),
		bad("less time than a healthy kubelet needs", rollout("healthTimeout: 44s"), "spec.rollout.healthTimeout", `not "44s"`, "want 45s to 15m"),
		bad("too much time for health", rollout("healthTimeout: 15m1s"), "spec.rollout.healthTimeout", `not "15m1s"`, "want 45s to 15m"),
		bad("no time of health", rollout("minReady: 0s"), "spec.rollout.minReady", `not "0s"`, "want 1s to 10m"),
		bad("too long a time of health", rollout("minReady: 601s"), "spec.rollout.minReady", `not "601s"`, "want 1s to 10m"),
		bad("no restarts", rollout("restartBudget: {maxRestarts: 0}"), "spec.rollout.restartBudget.maxRestarts", "not 0", "1 to 16"),
		bad("too many restarts", rollout("restartBudget: {maxRestarts: 17}"), "spec.rollout.restartBudget.maxRestarts", "not 17", "1 to 16"),
		bad("a budget over no time", rollout("restartBudget: {period: 0s}"), "spec.rollout.restartBudget.period", `not "0s"`, "want 1m to 168h"),
		bad("an unknown way to relax", rollout("relax: Always"), "spec.rollout.relax", `"Always"`, `supported values: "Never", "AfterQuiet"`),
		bad("a window that never opens", rollout("maintenanceWindows: [{name: a, schedule: 0 2 * * 1-5, duration: 0s}]"),
			"spec.rollout.maintenanceWindows[0].duration", `not "0s"`, "want 1m to 168h"),
		bad("two windows of one name", rollout("maintenanceWindows: ["+window+", "+window+"]"),
			"spec.rollout.maintenanceWindows[1]", "Duplicate value", "nights"),
		bad("too many windows", rollout("maintenanceWindows: ["+strings.Join(windows, ", ")+"]"),
			"spec.rollout.maintenanceWindows", "17", "at most 16"),
		bad("no windows", rollout("maintenanceWindows: []"), "spec.rollout.maintenanceWindows", "0", "at least 1"),
		schedule("a window with a sixth field", "0 0 2 * * 1-5"),
		schedule("a window with four fields", "0 2 1-5 12"),
		schedule("a window in words", "every night at two"),
		schedule("a window by a descriptor", "@every 48h"),
		schedule("a window with its time zone in the schedule", "TZ=Europe/Madrid 2 * * 1"),
		schedule("a window after a space", " 0 2 * * 1-5"),
		schedule("a window in full-width digits", "０ 2 * * 1-5"),
		schedule("a window over two lines", `0 2 * *\n1-5`),
		zone("a window in the zone of the host", "Local"),
		zone("a window in a zone that is a path", "../../etc/localtime"),
		zone("a window in a zone with a space", "Europe/San Marino"),
		bad("a window in no zone", rollout(`maintenanceWindows: [{name: a, schedule: 0 2 * * 1-5, duration: 2h, timeZone: ""}]`),
			"spec.rollout.maintenanceWindows[0].timeZone", `""`, "want a name of the IANA database"),
		{
			"a window without a schedule", rollout("maintenanceWindows: [{name: a, duration: 2h}]"),
			[]string{"spec.rollout.maintenanceWindows[0].schedule: Required value"},
		},
	}
}

func otherRefusals() []refusal {
	const operators = "every operator must be In or NotIn, with values, or Exists or DoesNotExist, without"
	selector := func(text string) string { return "{services: {selector: {matchExpressions: [{" + text + "}]}}}" }
	const expressions = "spec.services.selector.matchExpressions"
	return []refusal{
		bad("a selector with an unknown operator", selector("key: app, operator: Like, values: [a]"), expressions, "Invalid value", operators),
		bad("a selector with an operator that lacks values", selector("key: app, operator: In"), expressions, "Invalid value", operators),
		bad("a selector with values too many", selector("key: app, operator: Exists, values: [a]"), expressions, "Invalid value", operators),
		bad("a namespace selector with an unknown operator",
			"{services: {namespaceSelector: {matchExpressions: [{key: app, operator: in, values: [a]}]}}}",
			"spec.services.namespaceSelector.matchExpressions", "Invalid value", operators),
		bad("an empty scope", "{services: {}}", "spec.services", "0", emptyObject),
		bad("a rejection limit of zero", "{guardrails: {maxRejectedPercent: 0}}", "spec.guardrails.maxRejectedPercent", "not 0", "1 to 100"),
		bad("a rejection limit above all", "{guardrails: {maxRejectedPercent: 101}}", "spec.guardrails.maxRejectedPercent", "not 101", "1 to 100"),
		bad("a latency limit of zero", "{guardrails: {maxMutatingLatency: 0s}}", "spec.guardrails.maxMutatingLatency", `not "0s"`, "want 10ms to 1m"),
		bad("an unknown store", "{persistence: Etcd}", "spec.persistence", `"Etcd"`, `supported values: "None", "KubeadmConfig"`),
		bad("an unknown end", "{deletionPolicy: Delete}", "spec.deletionPolicy", `"Delete"`, `supported values: "Retain", "Restore"`),
	}
}

// accepted are policies that must not be refused.
var accepted = map[string]string{
	"a mode and nothing else":                  "{mode: Observe}",
	"an objective and nothing else":            "{objective: {maxLag: 2s}}",
	"Recommend without bounds":                 "{mode: Recommend}",
	"Enforce with QPS and burst":               "{mode: Enforce, bounds: {" + bothRates + "}}",
	"Enforce with workers alone":               "{mode: Enforce, bounds: {concurrentServiceEndpointSyncs: {min: 1, max: 50}}}",
	"min and max the same":                     "{bounds: {kubeAPIQPS: {min: 100, max: 100}, kubeAPIBurst: {min: 1, max: 1}}}",
	"the widest bounds":                        "{bounds: {kubeAPIQPS: {min: 1, max: 1000}, kubeAPIBurst: {min: 1, max: 2000}, concurrentEndpointSyncs: {min: 1, max: 50}}}",
	"the strictest objective":                  "{objective: {percentile: 99, maxLag: 10ms, window: 24h, minSamples: 1000000}}",
	"the loosest objective":                    "{objective: {percentile: 50, maxLag: 10m, window: 1m, minSamples: 1}}",
	"durations of several terms":               "{objective: {maxLag: 1m30.5s, window: 1h30m}, rollout: {cooldown: 1h1m1s1ms}}",
	"the most careful rollout":                 "{rollout: {cooldown: 168h, healthTimeout: 15m, minReady: 10m, restartBudget: {maxRestarts: 1, period: 168h}}}",
	"the boldest rollout":                      "{rollout: {cooldown: 1m, healthTimeout: 45s, minReady: 1s, restartBudget: {maxRestarts: 16, period: 1m}}}",
	"Services by label":                        "{services: {selector: {matchLabels: {app: web}, matchExpressions: [{key: tier, operator: NotIn, values: [test]}]}, namespaceSelector: {matchExpressions: [{key: team, operator: Exists}]}}}",
	"every Service, said with empty selectors": "{services: {selector: {}, namespaceSelector: {}}}",
	"guardrails":                               "{guardrails: {maxMutatingLatency: 1s, maxRejectedPercent: 1}}",
	"a window in a time zone":                  "{rollout: {maintenanceWindows: [{name: nights, schedule: 0 2 * * 1-5, duration: 2h, timeZone: Europe/Madrid}]}}",
	"relaxing after a quiet time":              "{rollout: {relax: AfterQuiet}}",
	"windows of many forms":                    "{rollout: {maintenanceWindows: [{name: a, schedule: '*/15 22-23,0-4 ? JAN-MAR SUN', duration: 168h}, {name: b, schedule: '5  3 1,15 * *', duration: 1m, timeZone: Etc/GMT+1}, {name: c, schedule: 0 0 * * 6, duration: 48h, timeZone: America/Argentina/Buenos_Aires}]}}",
	"no persistence":                           "{persistence: None}",
	"persistence in kubeadm-config":            "{persistence: KubeadmConfig}",
	"Restore":                                  "{deletionPolicy: Restore}",
}

func TestPolicyValidation(t *testing.T) {
	c := install(t)
	var refusals []refusal
	for _, group := range [][]refusal{
		modeRefusals(), boundRefusals(), objectiveRefusals(), rolloutRefusals(), otherRefusals(),
	} {
		refusals = append(refusals, group...)
	}
	for _, test := range refusals {
		t.Run("refuses "+test.name, func(t *testing.T) {
			err := c.createPolicy(t.Context(), test.spec)
			if err == nil {
				t.Fatalf("%s was accepted", test.spec)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s: the message lacks %q:\n%v", test.spec, want, err)
				}
			}
		})
	}
	stored, err := c.dynamic.Resource(policies).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(stored.Items) != 0 {
		t.Errorf("%d policies are stored (%v), want none", len(stored.Items), err)
	}
	for name, spec := range accepted {
		t.Run("accepts "+name, func(t *testing.T) {
			if err := c.createPolicy(t.Context(), spec); err != nil {
				t.Errorf("%s: %v", spec, err)
			}
		})
	}
	t.Logf("%d invalid policies refused, %d valid ones accepted", len(refusals), len(accepted))
}

// createPolicy sends YAML as it stands, with the strict field validation of kubectl.
func (c *cluster) createPolicy(ctx context.Context, spec string) error {
	policy := "apiVersion: endpointsync.io/v1alpha1\nkind: EndpointSyncPolicy\nmetadata: {generateName: test-}\nspec: " + spec + "\n"
	return c.kube.CoreV1().RESTClient().Post().AbsPath("/apis", policies.Group, policies.Version, policies.Resource).
		Param("fieldValidation", metav1.FieldValidationStrict).SetHeader("Content-Type", "application/yaml").
		Body([]byte(policy)).Do(ctx).Error()
}
