package manifest

import (
	"path"
	"slices"
	"strings"
)

// switches are the flags of kube-controller-manager that take no separate value (its --help, v1.37.2). Any other flag
// without "=" takes the next argument as its value.
var switches = []string{
	"allocate-node-cidrs", "authentication-skip-lookup", "authentication-tolerate-lookup-failure", "configure-cloud-routes",
	"contention-profiling", "disable-attach-detach-reconcile-sync", "disable-force-detach-on-timeout",
	"disable-http2-serving", "enable-dynamic-provisioning", "enable-garbage-collector", "enable-hostpath-provisioner",
	"enable-leader-migration", "help", "leader-elect", "log-json-split-stream", "log-text-split-stream",
	"permit-address-sharing", "permit-port-sharing", "profiling", "use-service-account-credentials", "version",
}

// programIndex returns where kube-controller-manager stands in an argument vector, -1 if another program runs. The one
// wrapper that is understood is go-runner of the Kubernetes base images (kOps), which hands its arguments on as they are.
func programIndex(argv []string) int {
	i := 0
	if len(argv) > 0 && path.Base(argv[0]) == "go-runner" {
		for i = 1; i < len(argv) && isRunnerFlag(argv[i]); i++ {
		}
	}
	if i < len(argv) && path.Base(argv[i]) == kcm {
		return i
	}
	return -1
}

// isRunnerFlag says whether the argument is one of go-runner's own that takes no separate value.
func isRunnerFlag(arg string) bool {
	name, _, valued := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
	if !strings.HasPrefix(arg, "-") {
		return false
	}
	return name == "also-stdout" || name == "redirect-stderr" || name == "log-file" && valued
}

// readFlags finds the allow-listed flags as kube-controller-manager's parser (pflag, "_" read as "-") would. It refuses
// whatever makes it unsure.
func (t *target) readFlags() error {
	texts := make([]string, len(t.argv))
	for i, a := range t.argv {
		texts[i] = a.text
	}
	t.flags = map[string]int{}
	for i := programIndex(texts) + 1; i < len(t.argv); i++ {
		if err := t.readFlag(i); err != nil {
			return err
		}
	}
	return nil
}

// readFlag takes one argument, knowing from openEnd whether the one before it may want it as its value.
func (t *target) readFlag(i int) error {
	text, at := t.argv[i].text, t.argv[i].node.Line
	name, valued := flagName(text)
	_, twice := t.flags[name]
	ours := strings.HasPrefix(text, "--") && maximum(name) != 0
	switch {
	case text == "--":
		return unsupported("line %d: \"--\" ends the flags", at)
	case isValue(text) && !t.openEnd:
		return unsupported("line %d: %q is neither a flag nor the value of one", at, text)
	case isValue(text):
		t.openEnd = false
		return nil
	case strings.Contains(name, "$("):
		return unsupported("line %d: %q may become any flag", at, text)
	case ours && t.openEnd:
		return unsupported("line %d: %q may be the value of the argument before it", at, text)
	case ours && !valued:
		return unsupported("line %d: write %s and its value as one argument, --%s=value", at, text, name)
	case ours && twice:
		return unsupported("line %d: --%s is given twice: remove one", at, name)
	case ours:
		t.flags[name] = i
	}
	t.openEnd = !valued && !slices.Contains(switches, name) && !isShorthandWithValue(text)
	return nil
}

// flagName returns the name of a flag in canonical form, and whether a value follows in the same argument.
func flagName(arg string) (name string, valued bool) {
	name, _, valued = strings.Cut(strings.TrimPrefix(arg, "--"), "=")
	return strings.ReplaceAll(name, "_", "-"), valued
}

// isValue says whether an argument does not look like a flag.
func isValue(arg string) bool { return !strings.HasPrefix(arg, "-") || arg == "-" }

// isShorthandWithValue recognises -h and forms like -v2.
func isShorthandWithValue(arg string) bool {
	return !strings.HasPrefix(arg, "--") && (arg == "-h" || len(arg) > 2)
}

// setting returns the flag as it stands in the manifest.
func (t *target) setting(name string) Setting {
	i, ok := t.flags[name]
	if !ok {
		return Setting{Name: name, Absent: true}
	}
	_, value, _ := strings.Cut(t.argv[i].text, "=")
	return Setting{Name: name, Value: value}
}

// settings returns all four flags in canonical order.
func (t *target) settings() []Setting {
	var all []Setting
	for _, name := range names() {
		all = append(all, t.setting(name))
	}
	return all
}
