package manifest

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
)

const (
	first = "    - kube-controller-manager\n"
	last  = "    - --use-service-account-credentials=true\n"
)

// swap returns a change that replaces the first occurrence.
func swap(old, by string) func(string) string {
	return func(text string) string {
		if !strings.Contains(text, old) {
			panic("not in the manifest: " + old)
		}
		return strings.Replace(text, old, by, 1)
	}
}

// args returns a change that appends arguments as lines.
func args(lines ...string) func(string) string {
	return swap(last, last+"    - "+strings.Join(lines, "\n    - ")+"\n")
}

// upTo returns a change that cuts the manifest before the first occurrence.
func upTo(part string) func(string) string {
	return func(text string) string {
		head, _, _ := strings.Cut(text, part)
		return head
	}
}

func to(text string) func(string) string { return func(string) string { return text } }

func utf16le(text string) string {
	out := []byte{0xFF, 0xFE}
	for _, unit := range utf16.Encode([]rune(text)) {
		out = binary.LittleEndian.AppendUint16(out, unit)
	}
	return string(out)
}

// TestUnsupportedManifests changes one thing in kubeadm's manifest and expects Edit and Read to refuse it.
func TestUnsupportedManifests(t *testing.T) {
	tests := map[string]struct {
		change func(string) string
		want   string // part of the message
	}{
		"empty":                              {to(""), "empty"},
		"only white space":                   {to(" \n\t\r\n"), "empty"},
		"only a comment":                     {to("# nothing\n"), ""},
		"only document markers":              {to("---\n---\n"), "one YAML document"},
		"too large":                          {func(s string) string { return s + strings.Repeat("#\n", MaxBytes/2) }, "bytes"},
		"binary":                             {to("\x7fELF\x02\x01\x01\x00\x00"), "UTF-8"},
		"a NUL in a comment":                 {func(s string) string { return s + "# \x00\n" }, "UTF-8"},
		"not UTF-8":                          {func(s string) string { return s + "# \xff\n" }, "UTF-8"},
		"UTF-16":                             {utf16le, "UTF-8"},
		"a byte order mark inside":           {swap("kind:", "\uFEFFkind:"), "byte order mark"},
		"a next-line character":              {swap("status", "# \u0085\nstatus"), "line break"},
		"a line separator":                   {swap("status", "# \u2028\nstatus"), "line break"},
		"carriage returns alone":             {func(s string) string { return strings.ReplaceAll(s, "\n", "\r") }, "carriage return"},
		"a carriage return within a line":    {swap("=true\n", "=true\r # x\n"), "carriage return"},
		"tabs for indentation":               {func(s string) string { return strings.ReplaceAll(s, "    -", "\t-") }, "YAML"},
		"truncated in a scalar":              {upTo("kube-controller-manager\n    - --all"), ""},
		"truncated before the command":       {upTo("  - command"), "no container"},
		"a dash and a tab":                   {swap(last, last+"    -\t--v=2\n"), "YAML"},
		"an unclosed quote":                  {args(`"--v=2`), "YAML"},
		"two documents":                      {func(s string) string { return s + "---\n" + s }, "one YAML document"},
		"a document marker at the end":       {func(s string) string { return s + "---\n" }, "one YAML document"},
		"a broken second document":           {func(s string) string { return s + "---\n\t{" }, "one YAML document"},
		"a duplicate key":                    {swap("kind: Pod\n", "kind: Pod\nkind: Pod\n"), ""},
		"a duplicate key, quoted":            {swap("kind: Pod\n", "kind: Pod\n\"kind\": Pod\n"), ""},
		"a second command":                   {swap("    image:", "    command:\n    - kube-controller-manager\n    image:"), ""},
		"not a Pod":                          {swap("kind: Pod", "kind: Deployment"), "not a v1 Pod"},
		"a list of Pods":                     {swap("kind: Pod", "kind: PodList"), "not a v1 Pod"},
		"another API version":                {swap("apiVersion: v1", "apiVersion: v2"), "not a v1 Pod"},
		"no name":                            {swap("  name: kube-controller-manager\n  namespace", "  namespace"), "not a v1 Pod"},
		"a scalar":                           {to("kube-controller-manager\n"), "not a v1 Pod"},
		"another component":                  {swap(first, "    - kube-scheduler\n"), "no container"},
		"no command":                         {swap("  - command:\n"+first, "  - args:\n"), "no container"},
		"the program only in args":           {swap("command:", "args:"), "has no command"},
		"the program as a prefix":            {swap(first, "    - kube-controller-manager-old\n"), "no container"},
		"two containers with the program":    {swap("  hostNetwork", "  - name: b\n    command: [kube-controller-manager]\n  hostNetwork"), "more than one"},
		"an init container with it":          {swap("  containers:", "  initContainers:\n  - command: [kube-controller-manager]\n    name: a\n  containers:"), "init container"},
		"a shell wrapper":                    {swap(first, "    - sh\n    - -c\n    - exec kube-controller-manager --v=2\n"), "itself"},
		"a shell with a block scalar":        {swap(first, "    - /bin/sh\n    - -ec\n    - |\n      exec /usr/bin/kube-controller-manager \\\n        --v=2\n"), "itself"},
		"another wrapper":                    {swap(first, "    - /usr/bin/env\n    - kube-controller-manager\n"), "itself"},
		"hyperkube":                          {swap(first, "    - /hyperkube\n    - kube-controller-manager\n"), "itself"},
		"go-runner with a foreign flag":      {swap(first, "    - /go-runner\n    - --log-file\n    - /a\n    - kube-controller-manager\n"), "itself"},
		"the command as a string":            {swap("  - command:\n"+first, "  - command: kube-controller-manager\n    args:\n"), ""},
		"a number as an argument":            {args("5"), "lists of strings"},
		"a YAML 1.1 boolean":                 {args("yes"), "lists of strings"},
		"a list as an argument":              {args("[--v=2]"), "lists of strings"},
		"a flag as a mapping":                {args("--v: 2"), "lists of strings"},
		"an empty argument":                  {args(`""`), "neither a flag"},
		"a flag twice":                       {args("--kube-api-qps=20", "--kube-api-qps=30"), "twice"},
		"a flag twice with the same value":   {args("--kube-api-qps=20", "--kube-api-qps=20"), "twice"},
		"a flag twice, once underscored":     {args("--kube-api-qps=20", "--kube_api-qps=20"), "twice"},
		"a flag twice over command, args":    {swap(last, last+"    - --v=2\n    - --kube-api-burst=5\n    args: [--kube-api-burst=6]\n"), "twice"},
		"the split form":                     {args("--kube-api-qps", `"5"`), "one argument"},
		"the split form, underscored":        {args("--kube_api_qps", `"5"`), "one argument"},
		"a flag without a value":             {args("--concurrent-endpoint-syncs"), "one argument"},
		"flags after --":                     {args("--", "--kube-api-qps=5"), "ends the flags"},
		"-- at the end":                      {args("--"), "ends the flags"},
		"a bare word":                        {args("kube-api-qps=5"), "neither a flag"},
		"a single dash":                      {args(`"-"`), "neither a flag"},
		"a leading space":                    {args(`" --kube-api-qps=5"`), "neither a flag"},
		"a flag that may be another's value": {args("--cluster-name", "--kube-api-qps=5"), "may be the value"},
		"a variable that may be a flag":      {args("$(EXTRA)"), "neither a flag"},
		"a variable in a flag's name":        {args("--$(NAME)=5"), "may become any flag"},
		"an anchor on an argument":           {args("&a --v=2"), "anchors"},
		"an anchor on the command":           {swap("command:\n", "command: &cmd\n"), "anchors"},
		"an anchor elsewhere":                {swap("status: {}", "status: &s {}"), "anchors"},
		"an alias":                           {func(s string) string { return swap("status: {}", "status: *c")(swap("command:\n", "command: &c\n")(s)) }, "anchors"},
		"a merge key":                        {swap("status: {}", "status: {<<: {a: b}}"), "merge keys"},
		"a merge key in the container":       {swap("  - command:\n", "  - <<: {stdin: true}\n    command:\n"), "merge keys"},
	}
	base := string(readTestdata(t, "kubeadm.in.yaml"))
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			manifest := []byte(tt.change(base))
			_, readErr := Read(manifest)
			out, err := Edit(manifest, []Setting{qps("50")})
			if out != nil || reason(err) != v1alpha1.ReasonUnsupportedManifest || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Edit = %d bytes, %v; want %s with %q", len(out), err, v1alpha1.ReasonUnsupportedManifest, tt.want)
			}
			if reason(readErr) != v1alpha1.ReasonUnsupportedManifest {
				t.Errorf("Read: %v", readErr)
			}
		})
	}
}

// TestUnsupportedEdits are manifests that can be read, and settings that cannot be made in them with proof.
func TestUnsupportedEdits(t *testing.T) {
	flow := "    command: [kube-controller-manager, --kube-api-qps=20]\n"
	block := "    command:\n    - kube-controller-manager\n    - --kube-api-qps=20\n"
	pod := func(command string) func(string) string {
		return to("apiVersion: v1\nkind: Pod\nmetadata: {name: kcm}\nspec:\n  containers:\n  - name: kcm\n" + command)
	}
	tests := map[string]struct {
		change func(string) string
		set    Setting
		want   string
	}{
		"insert into a flow list":             {pod(flow), burst("30"), v1alpha1.ReasonUnsupportedManifest},
		"remove from a flow list":             {pod(flow), noFlags[0], v1alpha1.ReasonUnsupportedManifest},
		"remove the only argument in args":    {pod("    command: [kube-controller-manager]\n    args:\n    - --kube-api-qps=20\n"), noFlags[0], v1alpha1.ReasonUnsupportedManifest},
		"remove a line with a comment":        {pod(block[:len(block)-1] + " # ours\n"), noFlags[0], v1alpha1.ReasonUnsupportedManifest},
		"insert after a folded argument":      {args("--controllers=*,\n      tokencleaner"), qps("50"), v1alpha1.ReasonUnsupportedManifest},
		"insert after a block scalar":         {args("|-\n      --v=2"), qps("50"), v1alpha1.ReasonUnsupportedManifest},
		"insert after an escaped argument":    {args(`"--cluster-name=\u0061"`), qps("50"), v1alpha1.ReasonUnsupportedManifest},
		"insert after a tagged argument":      {args("!!str --v=2"), qps("50"), v1alpha1.ReasonUnsupportedManifest},
		"insert after a dash on its own line": {args("\n      --v=2"), qps("50"), v1alpha1.ReasonUnsupportedManifest},
		"insert after a flag without value":   {args("--cluster-name"), qps("50"), v1alpha1.ReasonUnsupportedManifest},
		"insert after a shorthand":            {args("-v"), qps("50"), v1alpha1.ReasonUnsupportedManifest},
		"replace in an escaped argument":      {args(`"--kube\x2dapi-qps=20"`), qps("50"), v1alpha1.ReasonUnsupportedManifest},
		"replace in a folded argument":        {args("--kube-api-qps=\n      20"), qps("50"), v1alpha1.ReasonOutOfBounds},
		"replace in a block scalar":           {args("|-\n      --kube-api-qps=20"), qps("50"), v1alpha1.ReasonUnsupportedManifest},
		"replace in a tagged argument":        {args("!!str --kube-api-qps=20"), qps("50"), v1alpha1.ReasonUnsupportedManifest},
		"replace a value with quotes in it":   {args(`--kube-api-qps="20"`), qps("50"), v1alpha1.ReasonOutOfBounds},
		"replace an empty value":              {args("--kube-api-qps="), qps("50"), v1alpha1.ReasonOutOfBounds},
		"replace a variable":                  {args("--kube-api-qps=$(QPS)"), qps("50"), v1alpha1.ReasonOutOfBounds},
		"replace a value above the limits":    {args("--kube-api-qps=5000"), qps("50"), v1alpha1.ReasonOutOfBounds},
		"replace a negative value":            {args("--kube-api-qps=-1"), qps("50"), v1alpha1.ReasonOutOfBounds},
		"replace an exponent":                 {args("--kube-api-qps=2e1"), qps("50"), v1alpha1.ReasonOutOfBounds},
		"replace an octal":                    {args("--kube-api-burst=030"), burst("50"), v1alpha1.ReasonOutOfBounds},
		"replace a zero":                      {args("--concurrent-endpoint-syncs=0"), endpointWorkers("5"), v1alpha1.ReasonOutOfBounds},
		"remove a value above the limits":     {args("--kube-api-qps=5000"), noFlags[0], v1alpha1.ReasonOutOfBounds},
		"grow beyond the largest size":        {func(s string) string { return s + strings.Repeat("#", MaxBytes-len(s)) }, qps("50"), v1alpha1.ReasonUnsupportedManifest},
	}
	base := string(readTestdata(t, "kubeadm.in.yaml"))
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			manifest := []byte(tt.change(base))
			mustRead(t, manifest)
			if out, err := Edit(manifest, []Setting{tt.set}); out != nil || reason(err) != tt.want {
				t.Errorf("Edit(%v) = %d bytes, %v; want %s", tt.set, len(out), err, tt.want)
			}
			if same := mustEdit(t, manifest, nil); string(same) != string(manifest) {
				t.Error("no setting changed the manifest")
			}
		})
	}
}

func TestRefusedSettings(t *testing.T) {
	tests := map[string]struct {
		set  []Setting
		want string
	}{
		"an unknown flag":               {[]Setting{{Name: "v", Value: "9"}}, `"v"`},
		"an unknown flag, absent":       {[]Setting{without("leader-elect")}, "kube-api-qps, kube-api-burst"},
		"a flag with its dashes":        {[]Setting{{Name: "--kube-api-qps", Value: "9"}}, "--kube-api-qps"},
		"an underscored flag":           {[]Setting{{Name: "kube_api_qps", Value: "9"}}, "kube_api_qps"},
		"no name":                       {[]Setting{{Value: "9"}}, `""`},
		"a flag twice":                  {[]Setting{qps("50"), qps("60")}, "twice"},
		"set and absent":                {[]Setting{qps("50"), noFlags[0]}, "twice"},
		"empty":                         {[]Setting{qps("")}, "from 1 to 1000"},
		"zero":                          {[]Setting{qps("0")}, "from 1 to 1000"},
		"less than one":                 {[]Setting{qps("0.5")}, "from 1 to 1000"},
		"negative":                      {[]Setting{burst("-1")}, "from 1 to 2000"},
		"a sign":                        {[]Setting{burst("+1")}, "from 1 to 2000"},
		"above the limit":               {[]Setting{qps("1001")}, "from 1 to 1000"},
		"a fraction above the limit":    {[]Setting{qps("1000.001")}, "from 1 to 1000"},
		"burst above the limit":         {[]Setting{burst("2001")}, "from 1 to 2000"},
		"workers above the limit":       {[]Setting{endpointWorkers("51")}, "from 1 to 50"},
		"slice workers above the limit": {[]Setting{sliceWorkers("51")}, "from 1 to 50"},
		"a number that overflows":       {[]Setting{burst("18446744073709551617")}, "from 1 to 2000"},
		"a fraction of a burst":         {[]Setting{burst("30.0")}, "whole number"},
		"a fraction of a worker":        {[]Setting{sliceWorkers("5.5")}, "whole number"},
		"octal":                         {[]Setting{burst("010")}, "whole number"},
		"hexadecimal":                   {[]Setting{burst("0x10")}, "whole number"},
		"an exponent":                   {[]Setting{qps("1e2")}, "decimal number"},
		"not a number":                  {[]Setting{qps("NaN")}, "decimal number"},
		"infinity":                      {[]Setting{qps("Inf")}, "decimal number"},
		"a word":                        {[]Setting{qps("many")}, "decimal number"},
		"no integer part":               {[]Setting{qps(".5")}, "decimal number"},
		"no fraction after the point":   {[]Setting{qps("5.")}, "decimal number"},
		"too many digits":               {[]Setting{qps("20.12345")}, "decimal number"},
		"a space":                       {[]Setting{qps("50 ")}, "decimal number"},
		"a line break":                  {[]Setting{qps("50\n    - --profiling")}, "decimal number"},
		"a final line break":            {[]Setting{qps("50\n")}, "decimal number"},
		"a comment":                     {[]Setting{qps("50 #")}, "decimal number"},
		"other digits":                  {[]Setting{qps("٥٠")}, "decimal number"},
		"an underscore":                 {[]Setting{burst("1_000")}, "whole number"},
		"one good, one bad":             {[]Setting{qps("50"), burst("0")}, "--kube-api-burst"},
	}
	good := readTestdata(t, "kubeadm.in.yaml")
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, manifest := range [][]byte{good, nil} {
				out, err := Edit(manifest, tt.set)
				if out != nil || reason(err) != v1alpha1.ReasonOutOfBounds || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("Edit(%v) = %d bytes, %v; want %s with %q", tt.set, len(out), err, v1alpha1.ReasonOutOfBounds, tt.want)
				}
			}
		})
	}
}

// TestLimitsAreInclusive pairs each flag with its smallest and largest value.
func TestLimitsAreInclusive(t *testing.T) {
	in := readTestdata(t, "kubeadm.in.yaml")
	for _, flag := range (v1alpha1.Flags{}).List() {
		for _, value := range []string{"1", strconv.Itoa(int(flag.Max))} {
			set := []Setting{{Name: flag.Name, Value: value}}
			checkInvariants(t, in, mustEdit(t, in, set), set)
		}
	}
}

func TestHostileDocumentsStaySmall(t *testing.T) {
	var bomb strings.Builder
	fmt.Fprintf(&bomb, "a: &a [%s]\n", strings.Repeat("x, ", 10))
	for level := 'b'; level < 'k'; level++ {
		fmt.Fprintf(&bomb, "%c: &%c [%s]\n", level, level, strings.Repeat(fmt.Sprintf("*%c, ", level-1), 10))
	}
	tests := map[string]string{
		"aliases of aliases":   bomb.String(),
		"deep flow lists":      strings.Repeat("[", MaxBytes-1),
		"deep block lists":     strings.Repeat("- ", MaxBytes/2-1),
		"deep flow mappings":   strings.Repeat("{a: ", MaxBytes/4-1),
		"many keys":            strings.Repeat("? \n", MaxBytes/3-1),
		"many documents":       strings.Repeat("---\n", MaxBytes/4-1),
		"a long scalar":        strings.Repeat("a", MaxBytes-1),
		"many short arguments": "command:\n" + strings.Repeat("- a\n", MaxBytes/4-10),
		"far too large":        strings.Repeat("- a\n", 11<<20/4),
	}
	const limit = 128 << 20 // allocated in all, most of it garbage: what lives at one time is far less
	for name, document := range tests {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Edit([]byte(document), []Setting{qps("50")})
			runtime.ReadMemStats(&after)
			t.Logf("allocated %d MiB: %.120v", (after.TotalAlloc-before.TotalAlloc)>>20, err)
			if reason(err) != v1alpha1.ReasonUnsupportedManifest {
				t.Errorf("Edit: %v", err)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > limit {
				t.Errorf("Edit allocated %.0f MiB, want at most %d", math.Ceil(float64(used)/(1<<20)), limit>>20)
			}
			if DefinesKCM([]byte(document)) {
				t.Error("DefinesKCM = true")
			}
		})
	}
}

func TestDefinesKCM(t *testing.T) {
	tests := map[string]struct {
		change func(string) string
		want   bool
	}{
		"kubeadm's":                          {to("-"), true},
		"with duplicate keys":                {swap("kind: Pod\n", "kind: Pod\nkind: Pod\n"), true},
		"with a second document":             {func(s string) string { return s + "---\nkind: Service\n" }, true},
		"with an escaped name":               {to(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"kube\u002dcontroller-manager"}}`), true},
		"in UTF-16":                          {utf16le, true},
		"with an alias":                      {swap("status: {}", "status: {a: &a b, c: *a}"), true},
		"in another namespace":               {swap("kube-system", "default"), true},
		"under another name":                 {swap("name: kube-controller-manager\n  namespace", "name: other\n  namespace"), true},
		"with a shell around the program":    {to(podRunning(`["sh", "-c", "exec /usr/bin/kube-controller-manager --v=2 2>&1 | tee /log"]`)), true},
		"with the image's own entry point":   {to(podRunning("[]", "registry.example/k8s/kube-controller-manager:v1.37.2")), true},
		"with an image by digest":            {to(podRunning("[]", "localhost:5000/kube-controller-manager@sha256:00")), true},
		"as JSON":                            {to(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"kube-controller-manager"}}`), true},
		"another component":                  {to(podRunning("[kube-scheduler, --kubeconfig=/etc/kubernetes/kube-controller-manager]")), false},
		"a program that is named after it":   {to(podRunning("[kube-controller-manager-exporter]", "x/kube-controller-manager-exporter:v1")), false},
		"only in the second document":        {func(s string) string { return "kind: Service\n---\n" + s }, false},
		"not a Pod":                          {swap("kind: Pod", "kind: Deployment"), false},
		"empty":                              {to(""), false},
		"truncated where it is no YAML":      {upTo("d: Pod"), false},
		"truncated where it is still a Pod":  {upTo("    image:"), true},
		"binary":                             {to("\x7fELF\x00\x00"), false},
		"larger than what the kubelet reads": {func(s string) string { return s + strings.Repeat("#", kubeletMaxBytes) }, false},
		"larger than what Edit takes":        {func(s string) string { return s + strings.Repeat("#", MaxBytes) }, true},
	}
	base := string(readTestdata(t, "kubeadm.in.yaml"))
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			document := tt.change(base)
			if document == "-" {
				document = base
			}
			if got := DefinesKCM([]byte(document)); got != tt.want {
				t.Errorf("DefinesKCM = %v, want %v for\n%.300s", got, tt.want, document)
			}
		})
	}
}

// podRunning returns the manifest of a Pod with a command and, if given, an image.
func podRunning(command string, image ...string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: c\n    command: " + command +
		"\n    image: " + strings.Join(append(image, "busybox")[:1], "") + "\n"
}

func TestSamePod(t *testing.T) {
	base := string(readTestdata(t, "kubeadm.in.yaml"))
	tests := map[string]struct {
		change func(string) string
		want   bool
	}{
		"the same bytes":    {swap("kind", "kind"), true},
		"another comment":   {func(s string) string { return "# changed\n" + s }, true},
		"Windows line ends": {func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }, true},
		"other quotes":      {swap("kind: Pod", `kind: "Pod"`), true},
		"no kind":           {swap("kind: Pod\nmetadata:", "metadata:"), false},
		"another argument":  {args("--v=2"), false},
		"another image":     {swap("v1.37.2", "v1.37.3"), false},
		"not a Pod":         {swap("kind: Pod", "kind: Node"), false},
		"broken":            {func(s string) string { return s + "\t{" }, false},
		"empty":             {to(""), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			changed := tt.change(base)
			for _, pair := range [][2]string{{base, changed}, {changed, base}} {
				if got := SamePod([]byte(pair[0]), []byte(pair[1])); got != tt.want {
					t.Errorf("SamePod = %v, want %v", got, tt.want)
				}
			}
		})
	}
	moved := swap("kind: Pod\n", "")(base) + "kind: Pod\n"
	if !SamePod([]byte(base), []byte(moved)) {
		t.Error("SamePod = false for another order of keys")
	}
	if SamePod(nil, nil) {
		t.Error("SamePod = true for two manifests without a Pod")
	}
}
