package platform

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/endpointsync/endpoint-sync-operator/api/v1alpha1"
	"github.com/endpointsync/endpoint-sync-operator/internal/manifest"
)

// OriginalsAnnotation is where the ConfigMap remembers what the operator found in it.
const OriginalsAnnotation = "endpointsync.io/original-extra-args"

// KubeadmConfig is what the operator may change of ConfigMap kube-system/kubeadm-config, which `kubeadm upgrade` writes
// manifests from.
type KubeadmConfig struct {
	// ClusterConfiguration as kubeadm stores it, under the key of that name.
	ClusterConfiguration string

	// Originals is the value of OriginalsAnnotation: as JSON, what each flag that the operator has written there was before
	// its first write, null where it was not given. Empty: the operator has written none.
	Originals string
}

// With returns the configuration with the flags given to kube-controller-manager, and with what those were that the
// operator had not written before. Absent flags stay as they are. What is so already comes back unchanged, byte by byte.
func (c KubeadmConfig) With(flags v1alpha1.Flags) (KubeadmConfig, error) {
	before, err := decodeOriginals(c.Originals)
	if err != nil {
		return KubeadmConfig{}, err
	}
	given, err := ReadExtraArgs([]byte(c.ClusterConfiguration))
	if err != nil {
		return KubeadmConfig{}, err
	}
	now := map[string]manifest.Setting{}
	for _, s := range given {
		now[s.Name] = s
	}
	set := manifest.Settings(flags)
	for _, s := range set {
		if _, known := before[s.Name]; known || now[s.Name] == s {
			continue
		}
		before[s.Name] = nil
		if !now[s.Name].Absent {
			before[s.Name] = new(now[s.Name].Value)
		}
	}
	return c.edited(set, before)
}

// Restored returns the configuration with every flag that the operator has written put back to what it was before, and
// nothing remembered. A configuration that the operator has not written to comes back unchanged.
func (c KubeadmConfig) Restored() (KubeadmConfig, error) {
	before, err := decodeOriginals(c.Originals)
	if err != nil {
		return KubeadmConfig{}, err
	}
	if len(before) == 0 {
		return c, nil
	}
	return c.edited(before.settings(), nil)
}

func (c KubeadmConfig) edited(set []manifest.Setting, before originals) (KubeadmConfig, error) {
	text, err := EditExtraArgs([]byte(c.ClusterConfiguration), set)
	if err != nil {
		return KubeadmConfig{}, err
	}
	remembered, err := before.encode()
	if err != nil {
		return KubeadmConfig{}, err
	}
	return KubeadmConfig{ClusterConfiguration: string(text), Originals: remembered}, nil
}

// originals are values of allow-listed flags by name, nil where the flag was not given.
type originals map[string]*string

// decodeOriginals refuses what the operator would not have written.
func decodeOriginals(text string) (originals, error) {
	before := originals{}
	if text == "" {
		return before, nil
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	if err := decoder.Decode(&before); err != nil || decoder.More() {
		return nil, fmt.Errorf("annotation %s is not what the operator wrote there, %.200q: restore it, or remove it to have "+
			"what stands in the ClusterConfiguration now taken for the original", OriginalsAnnotation, text)
	}
	for _, s := range before.settings() {
		if err := s.Check(); err != nil {
			return nil, fmt.Errorf("annotation %s: %w", OriginalsAnnotation, err)
		}
	}
	return before, nil
}

func (o originals) settings() []manifest.Setting {
	var set []manifest.Setting
	for name, value := range o {
		s := manifest.Setting{Name: name, Absent: value == nil}
		if value != nil {
			s.Value = *value
		}
		set = append(set, s)
	}
	return set
}

// encode returns the empty string for nothing.
func (o originals) encode() (string, error) {
	if len(o) == 0 {
		return "", nil
	}
	var text bytes.Buffer
	if err := json.NewEncoder(&text).Encode(o); err != nil {
		return "", fmt.Errorf("remember the original arguments: %w", err)
	}
	return strings.TrimSpace(text.String()), nil
}
