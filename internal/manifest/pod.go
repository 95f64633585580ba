package manifest

import (
	"bytes"
	"maps"
	"path"
	"slices"
	"strings"

	sigsyaml "sigs.k8s.io/yaml"

	"github.com/endpointsync/endpoint-sync-operator/internal/yamltext"
)

// kcm is the name of the program, of its image and of its static Pod.
const kcm = "kube-controller-manager"

// kubeletMaxBytes is the size of the largest file that the kubelet reads (pkg/kubelet/config/file.go, maxConfigLength).
const kubeletMaxBytes = 10 << 20

// DefinesKCM says whether the (possibly broken) document, as the kubelet would read it, defines the
// kube-controller-manager static Pod: used to find foreign duplicates in the manifests directory. The kubelet reads the
// first YAML document, forgives duplicate keys and ignores files that it cannot decode; of a Pod, its name, its images
// and the words of its commands are looked at. In doubt about a Pod the answer is yes: every manifest that Edit accepts
// is recognised, and so is one with a shell around the program.
func DefinesKCM(document []byte) bool {
	if len(document) > kubeletMaxBytes || !mayNameKCM(document) {
		return false
	}
	text, err := sigsyaml.YAMLToJSON(document)
	if err != nil {
		return false
	}
	decoded, err := yamltext.DecodeJSON(text)
	if err != nil || !isPod(decoded) {
		return false
	}
	if yamltext.Field(decoded, "metadata", "name") == kcm {
		return true
	}
	for _, list := range []string{"initContainers", "containers"} {
		containers, _ := yamltext.Field(decoded, "spec", list).([]any)
		for _, container := range containers {
			image, _ := yamltext.Field(container, "image").(string)
			if mentionsKCM(container) || imageName(image) == kcm {
				return true
			}
		}
	}
	return false
}

// mayNameKCM keeps large foreign files from being decoded: without an escape, a tag or another encoding, a document
// that names the program holds its name as it is.
func mayNameKCM(document []byte) bool {
	return bytes.Contains(document, []byte(kcm)) || bytes.ContainsAny(document, "\\!") ||
		bytes.HasPrefix(document, []byte("\xFF\xFE")) || bytes.HasPrefix(document, []byte("\xFE\xFF"))
}

// SamePod says whether two manifests decode to the same Pod, i.e. the kubelet would not restart anything. It says no
// when either cannot be decoded, and when they differ in something that the kubelet would fill in or drop.
func SamePod(a, b []byte) bool {
	left, err := sigsyaml.YAMLToJSON(a)
	if err != nil {
		return false
	}
	right, err := sigsyaml.YAMLToJSON(b)
	if err != nil {
		return false
	}
	decoded, err := yamltext.DecodeJSON(left)
	return err == nil && isPod(decoded) && bytes.Equal(left, right)
}

// isPod says whether the kubelet would take the object for a Pod.
func isPod(decoded any) bool {
	name, _ := yamltext.Field(decoded, "metadata", "name").(string)
	return yamltext.Field(decoded, "apiVersion") == "v1" && yamltext.Field(decoded, "kind") == "Pod" && name != ""
}

// findContainer returns the index of the one container that provably runs kube-controller-manager.
func findContainer(decoded any) (int, error) {
	if !isPod(decoded) {
		return 0, unsupported("the manifest is not a v1 Pod with a name")
	}
	initial, _ := yamltext.Field(decoded, "spec", "initContainers").([]any)
	if slices.ContainsFunc(initial, mentionsKCM) {
		return 0, unsupported("an init container runs %s", kcm)
	}
	containers, _ := yamltext.Field(decoded, "spec", "containers").([]any)
	found := -1
	for i, container := range containers {
		if !mentionsKCM(container) {
			continue
		}
		if found >= 0 {
			return 0, unsupported("more than one container runs %s", kcm)
		}
		found = i
	}
	if found < 0 {
		return 0, unsupported("no container runs %s by its command", kcm)
	}
	command, fine := stringList(yamltext.Field(containers[found], fieldCommand))
	args, alsoFine := stringList(yamltext.Field(containers[found], fieldArgs))
	switch {
	case !fine || !alsoFine:
		return 0, unsupported("the command and args of the container must be lists of strings")
	case len(command) == 0:
		return 0, unsupported("the container has no command: which program its args go to is up to the image")
	case programIndex(append(slices.Clip(command), args...)) < 0:
		return 0, unsupported("the container does not run %s itself: a shell or another program stands in front", kcm)
	case renderer(decoded, containers[found]) != "":
		return 0, unsupported("%s", renderer(decoded, containers[found]))
	}
	return found, nil
}

// mentionsKCM says whether the program's name is a word in a container's command or args.
func mentionsKCM(container any) bool {
	for _, name := range []string{fieldCommand, fieldArgs} {
		list, _ := yamltext.Field(container, name).([]any)
		for _, arg := range list {
			text, _ := arg.(string)
			for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(" \t\r\n;&|()'\"`", r) }) {
				if path.Base(word) == kcm && !strings.HasPrefix(word, "-") {
					return true
				}
			}
		}
	}
	return false
}

// imageName returns the last path element of an image reference, without tag and digest.
func imageName(image string) string {
	image, _, _ = strings.Cut(image, "@")
	name, _, _ := strings.Cut(path.Base(image), ":")
	return name
}

// index returns an element of a list; nil if there is none.
func index(list any, i int) any {
	if l, ok := list.([]any); ok && i < len(l) {
		return l[i]
	}
	return nil
}

// stringList returns a list of strings; no list at all is an empty one.
func stringList(value any) ([]string, bool) {
	if value == nil {
		return nil, true
	}
	list, ok := value.([]any)
	if !ok {
		return nil, false
	}
	texts := make([]string, 0, len(list))
	for _, element := range list {
		text, isString := element.(string)
		if !isString {
			return nil, false
		}
		texts = append(texts, text)
	}
	return texts, true
}

// clone copies one level of an object.
func clone(object any) map[string]any {
	m, _ := object.(map[string]any)
	return maps.Clone(m)
}
