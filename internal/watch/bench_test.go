package watch

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// typicalPod is a Pod as clusters have them: some 4 KB encoded, of which a decoder needs a tenth.
func typicalPod(i int) *corev1.Pod {
	p := pod("web-7d4b9c6f5-"+strconv.Itoa(i), true)
	p.Labels = map[string]string{"app": "web-" + strconv.Itoa(i%1000), "pod-template-hash": "7d4b9c6f5", "tier": "front"}
	p.Annotations = map[string]string{"checksum/config": strings.Repeat("0123456789abcdef", 4)}
	p.ManagedFields = []metav1.ManagedFieldsEntry{{
		Manager: "kubelet", FieldsV1: metav1.NewFieldsV1(strings.Repeat(`{"f:status":{}}`, 100)),
	}}
	for c := range 2 {
		container := corev1.Container{Name: "c" + strconv.Itoa(c), Image: "registry.example/web:1.2.3"}
		for v := range 10 {
			container.Env = append(container.Env, corev1.EnvVar{Name: fmt.Sprint("VARIABLE_", v), Value: "value"})
		}
		container.Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP}}
		p.Spec.Containers = append(p.Spec.Containers, container)
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: container.Name, Image: container.Image, ImageID: strings.Repeat("sha256:", 10), Ready: true,
		})
	}
	return p
}

func BenchmarkDecodePodEvent(b *testing.B) {
	frames := make([][]byte, 1000)
	for i := range frames {
		frames[i] = frame(b, "MODIFIED", typicalPod(i))
	}
	d := newDecoder()
	b.SetBytes(int64(len(frames[0])))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		e, err := readEvent(frames[i%len(frames)])
		if err == nil {
			_, err = d.pod(e.object)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnmarshalPodEvent(b *testing.B) {
	frames := make([][]byte, 1000)
	for i := range frames {
		frames[i] = frame(b, "MODIFIED", typicalPod(i))
	}
	b.SetBytes(int64(len(frames[0])))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		e, err := readEvent(frames[i%len(frames)])
		if err != nil {
			b.Fatal(err)
		}
		var p corev1.Pod
		if err = p.Unmarshal(e.object); err != nil {
			b.Fatal(err)
		}
		podOf(&p)
	}
}
