package config_test

import (
	"os"
	"path/filepath"
	"testing"

	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/yaml"
)

const customization = "argocd/resource_customizations/endpointsync.io/EndpointSyncPolicy"

// healthCases is Argo CD's own format for tests of health scripts.
type healthCases struct {
	Tests []struct {
		HealthStatus health `json:"healthStatus"`
		InputPath    string `json:"inputPath"`
	} `json:"tests"`
}

type health struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func TestHealthScriptAndKstatusAgree(t *testing.T) {
	script := readFile(t, "health.lua")
	var cases healthCases
	if err := yaml.UnmarshalStrict(readFile(t, "health_test.yaml"), &cases); err != nil {
		t.Fatal(err)
	}
	if inputs, err := filepath.Glob(filepath.Join(customization, "testdata", "*.yaml")); err != nil || len(inputs) != len(cases.Tests) {
		t.Fatalf("%d inputs and %d tests (%v), want one for one", len(inputs), len(cases.Tests), err)
	}
	for _, test := range cases.Tests {
		t.Run(filepath.Base(test.InputPath), func(t *testing.T) {
			policy := decode(t, readFile(t, test.InputPath))[0]
			if got := assess(t, string(script), policy.Object); got != test.HealthStatus {
				t.Errorf("health.lua = %+v, want %+v", got, test.HealthStatus)
			}
			result, err := status.Compute(&policy)
			if err != nil {
				t.Fatal(err)
			}
			if want := kstatusOf(test.HealthStatus.Status, policy); result.Status != want {
				t.Errorf("kstatus = %s (%s), want %s", result.Status, result.Message, want)
			}
		})
	}
}

// kstatusOf is what kstatus says where Argo CD says health. It knows no suspension, and takes an object without
// conditions for finished: the operator writes them at first sight.
func kstatusOf(health string, policy unstructured.Unstructured) status.Status {
	if _, reported, _ := unstructured.NestedSlice(policy.Object, "status", "conditions"); !reported {
		return status.CurrentStatus
	}
	switch health {
	case "Degraded":
		return status.FailedStatus
	case "Progressing":
		return status.InProgressStatus
	}
	return status.CurrentStatus
}

// assess runs a health script as Argo CD does, with less: only Lua's base and table libraries.
func assess(t *testing.T, script string, object map[string]any) health {
	t.Helper()
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for name, open := range map[string]lua.LGFunction{lua.BaseLibName: lua.OpenBase, lua.TabLibName: lua.OpenTable} {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(open), Protect: true}, lua.LString(name)); err != nil {
			t.Fatal(err)
		}
	}
	state.SetGlobal("obj", luaValue(t, state, object))
	if err := state.DoString(script); err != nil {
		t.Fatal(err)
	}
	result, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		t.Fatalf("the script returned %s, want a table", state.Get(-1))
	}
	return health{result.RawGetString("status").String(), result.RawGetString("message").String()}
}

func luaValue(t *testing.T, state *lua.LState, value any) lua.LValue {
	t.Helper()
	switch value := value.(type) {
	case nil:
		return lua.LNil
	case string:
		return lua.LString(value)
	case bool:
		return lua.LBool(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case []any:
		table := state.NewTable()
		for _, item := range value {
			table.Append(luaValue(t, state, item))
		}
		return table
	case map[string]any:
		table := state.NewTable()
		for key, item := range value {
			table.RawSetString(key, luaValue(t, state, item))
		}
		return table
	}
	t.Fatalf("no Lua value for %T", value)
	return nil
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(customization, path))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestArgoCDGetsTheHealthScript(t *testing.T) {
	script := readFile(t, "health.lua")
	objects := render(t, "argocd")
	if len(objects) != 1 {
		t.Fatalf("%d objects, want the ConfigMap argocd-cm", len(objects))
	}
	got, _, err := unstructured.NestedString(objects[0].Object, "data", "resource.customizations.health.endpointsync.io_EndpointSyncPolicy")
	if err != nil || got != string(script) {
		t.Errorf("argocd-cm has %q (%v), want health.lua", got, err)
	}
}
