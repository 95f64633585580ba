package scale

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// pod is what the API shows of a Pod: one of a web Deployment, with a proxy beside the server, as the kubelet, the
// scheduler and a network plugin leave it.
func (c *cluster) pod(i int, s podState) *corev1.Pod {
	service := serviceOf(i)
	p := &corev1.Pod{ObjectMeta: c.podMeta(i, s)}
	p.Spec = podSpec(c.namespaceName(service), serviceName(service))
	p.Spec.NodeName = nodeName(c.nodeOf(i, s.life))
	tokens := "kube-api-access-" + suffix(5, c.key, saltPod, uint64(i), uint64(s.life), 2)
	addTokens(&p.Spec, tokens)
	if s.phase == pending {
		p.Status = corev1.PodStatus{
			Phase: corev1.PodPending, QOSClass: corev1.PodQOSBurstable,
			Conditions: []corev1.PodCondition{condition(corev1.PodScheduled, time.Unix(s.changed, 0))},
		}
		return p
	}
	p.Status = c.podStatus(i, s)
	return p
}

func (c *cluster) podMeta(i int, s podState) metav1.ObjectMeta {
	service := serviceOf(i)
	name, started := serviceName(service), c.started(s)
	meta := metav1.ObjectMeta{
		Namespace: c.namespaceName(service), Name: c.podName(i, s.life), GenerateName: c.replicaSetName(service) + "-",
		UID: types.UID(c.podUID(i, s.life)), ResourceVersion: versionText(s.version),
		Generation: 1, CreationTimestamp: metav1.NewTime(started),
		Labels: map[string]string{
			labelName: name, labelInstance: name + production,
			labelComponent: component, labelVersion: appVersion,
			"pod-template-hash": suffix(9, c.key, saltReplicaSet, uint64(service)),
		},
		Annotations: map[string]string{
			"checksum/config":      digest(c.key, saltService, uint64(service)),
			"prometheus.io/scrape": yes, "prometheus.io/port": "9090",
		},
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "apps/v1", Kind: "ReplicaSet", Name: c.replicaSetName(service),
			UID:        types.UID(uuid(c.key, saltReplicaSet, uint64(service))),
			Controller: new(true), BlockOwnerDeletion: new(true),
		}},
	}
	meta.ManagedFields = []metav1.ManagedFieldsEntry{
		managed(kcm, "", coreVersion, started, podFieldsOfOwner),
	}
	if s.phase == pending {
		return meta
	}
	meta.ManagedFields = append(meta.ManagedFields, managed("kubelet", "status", coreVersion, time.Unix(s.changed, 0),
		strings.Replace(podFieldsOfKubelet, "IP", podIP(i, s.life), 1)))
	if s.phase == terminating {
		meta.DeletionTimestamp = &metav1.Time{Time: time.Unix(s.changed+45, 0)}
		meta.DeletionGracePeriodSeconds = new(int64(45))
		meta.Generation = 2
	}
	return meta
}

// started is when a Pod was made.
func (c *cluster) started(s podState) time.Time {
	if s.life == 0 {
		return c.born.Add(-90 * time.Minute)
	}
	return c.born
}

func managed(by, subresource, version string, at time.Time, fields string) metav1.ManagedFieldsEntry {
	return metav1.ManagedFieldsEntry{
		Manager: by, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: version, Subresource: subresource,
		Time: &metav1.Time{Time: at}, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields),
	}
}

func podSpec(namespace, name string) corev1.PodSpec {
	return corev1.PodSpec{
		Volumes: []corev1.Volume{
			{Name: volumeConfig, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: name + "-config"}, DefaultMode: new(int32(420)),
			}}},
			{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		},
		Containers:                    []corev1.Container{server(namespace, name), proxy(name)},
		RestartPolicy:                 corev1.RestartPolicyAlways,
		TerminationGracePeriodSeconds: new(int64(45)),
		DNSPolicy:                     corev1.DNSClusterFirst,
		ServiceAccountName:            name, DeprecatedServiceAccount: name,
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: new(true), FSGroup: new(int64(10001)),
		},
		SchedulerName: "default-scheduler",
		Tolerations: []corev1.Toleration{
			absent("node.kubernetes.io/not-ready"), absent("node.kubernetes.io/unreachable"),
		},
		Priority: new(int32(0)), EnableServiceLinks: new(true), PreemptionPolicy: new(corev1.PreemptLowerPriority),
	}
}

func absent(key string) corev1.Toleration {
	return corev1.Toleration{
		Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: new(int64(300)),
	}
}

// server is the container that does the work.
func server(namespace, name string) corev1.Container {
	host := "." + namespace + ".svc.cluster.local"
	health := func(path string, failures int32) *corev1.Probe {
		return &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
				Path: path, Port: intstr.FromString(portHTTP), Scheme: corev1.URISchemeHTTP,
			}},
			TimeoutSeconds: 2, PeriodSeconds: 5, SuccessThreshold: 1, FailureThreshold: failures,
		}
	}
	return corev1.Container{
		Name: "server", Image: shopImages + name + ":1.42.3",
		Args: []string{"serve", "--config=/etc/" + name + "/config.yaml", "--log-format=json"},
		Ports: []corev1.ContainerPort{
			{Name: portHTTP, ContainerPort: 8080, Protocol: corev1.ProtocolTCP},
			{Name: portMetrics, ContainerPort: 9090, Protocol: corev1.ProtocolTCP},
		},
		Env: []corev1.EnvVar{
			fieldEnv("POD_NAME", "metadata.name"), fieldEnv("POD_NAMESPACE", "metadata.namespace"),
			{Name: "DATABASE_URL", Value: "postgres://" + name + "-db" + host + ":5432/" + name + "?sslmode=verify-full"},
			{Name: "DATABASE_PASSWORD", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: name + "-database"}, Key: "password",
			}}},
			{Name: "REDIS_ADDR", Value: name + "-redis" + host + ":6379"},
		},
		Resources: requirements("250m", "512Mi"),
		VolumeMounts: []corev1.VolumeMount{
			{Name: volumeConfig, ReadOnly: true, MountPath: "/etc/" + name}, {Name: "tmp", MountPath: "/tmp"},
		},
		LivenessProbe: health("/healthz", 6), ReadinessProbe: health("/readyz", 3),
		TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		ImagePullPolicy: corev1.PullIfNotPresent, SecurityContext: restricted(),
	}
}

// proxy is the container beside it.
func proxy(name string) corev1.Container {
	return corev1.Container{
		Name: "proxy", Image: "registry.example.com/platform/envoy:v1.36.2-distroless",
		Args: []string{"--config-path", "/etc/envoy/envoy.yaml", "--service-cluster", name},
		Ports: []corev1.ContainerPort{
			{Name: "mesh", ContainerPort: 15006, Protocol: corev1.ProtocolTCP},
		},
		Resources:    requirements("50m", "128Mi"),
		VolumeMounts: []corev1.VolumeMount{{Name: volumeConfig, ReadOnly: true, MountPath: "/etc/envoy"}},
		ReadinessProbe: &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
				Path: "/ready", Port: intstr.FromInt32(15000), Scheme: corev1.URISchemeHTTP,
			}},
			TimeoutSeconds: 1, PeriodSeconds: 5, SuccessThreshold: 1, FailureThreshold: 3,
		},
		TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		ImagePullPolicy: corev1.PullIfNotPresent, SecurityContext: restricted(),
	}
}

func fieldEnv(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{APIVersion: coreVersion, FieldPath: path},
	}}
}

func requirements(cpu, memory string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{
		Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)},
		Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)},
	}
}

func restricted() *corev1.SecurityContext {
	return &corev1.SecurityContext{
		Capabilities:           &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		ReadOnlyRootFilesystem: new(true),
	}
}

// addTokens adds the projected service account token, as admission does.
func addTokens(spec *corev1.PodSpec, volume string) {
	spec.Volumes = append(spec.Volumes, corev1.Volume{Name: volume, VolumeSource: corev1.VolumeSource{
		Projected: &corev1.ProjectedVolumeSource{DefaultMode: new(int32(420)), Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{ExpirationSeconds: new(int64(3607)), Path: "token"}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
				Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: coreVersion, FieldPath: "metadata.namespace"},
			}}}},
		}},
	}})
	for i := range spec.Containers {
		spec.Containers[i].VolumeMounts = append(spec.Containers[i].VolumeMounts, corev1.VolumeMount{
			Name: volume, ReadOnly: true, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount",
		})
	}
}

func (c *cluster) podStatus(i int, s podState) corev1.PodStatus {
	started, changed := c.started(s), time.Unix(s.changed, 0)
	node, name := c.nodeOf(i, s.life), serviceName(serviceOf(i))
	isReady := condition(corev1.PodReady, changed)
	if s.phase == notReady {
		isReady.Status = corev1.ConditionFalse
		isReady.Reason, isReady.Message = "ContainersNotReady", "containers with unready status: [server]"
	}
	containersReady := isReady
	containersReady.Type = corev1.ContainersReady
	return corev1.PodStatus{
		ObservedGeneration: 1,
		Phase:              corev1.PodRunning,
		Conditions: []corev1.PodCondition{
			condition(corev1.PodReadyToStartContainers, started), condition(corev1.PodInitialized, started),
			isReady, containersReady, condition(corev1.PodScheduled, started),
		},
		HostIP: nodeIP(node), HostIPs: []corev1.HostIP{{IP: nodeIP(node)}},
		PodIP: podIP(i, s.life), PodIPs: []corev1.PodIP{{IP: podIP(i, s.life)}},
		StartTime: &metav1.Time{Time: started},
		ContainerStatuses: []corev1.ContainerStatus{
			containerStatus(corev1.ContainerStatus{
				Name: "proxy", Image: "registry.example.com/platform/envoy:v1.36.2-distroless", Ready: true,
				ImageID:     "registry.example.com/platform/envoy@sha256:" + digest(saltImage),
				ContainerID: "containerd://" + digest(c.key, saltContainer, uint64(i), uint64(s.life), 1),
			}, started),
			containerStatus(corev1.ContainerStatus{
				Name: "server", Image: shopImages + name + ":1.42.3", Ready: s.phase != notReady,
				ImageID:     shopImages + name + "@sha256:" + digest(saltImage, uint64(serviceOf(i))),
				ContainerID: "containerd://" + digest(c.key, saltContainer, uint64(i), uint64(s.life), 2),
			}, started),
		},
		QOSClass: corev1.PodQOSBurstable,
	}
}

// condition is one that is met.
func condition(of corev1.PodConditionType, since time.Time) corev1.PodCondition {
	return corev1.PodCondition{Type: of, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(since), ObservedGeneration: 1}
}

func containerStatus(s corev1.ContainerStatus, started time.Time) corev1.ContainerStatus {
	s.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(started)}
	s.Started = new(true)
	return s
}

// What the API server keeps of who set which field; a third of what it would be for such a Pod, so that the comparison
// errs on the side of those that keep it.
const (
	podFieldsOfOwner = `{"f:metadata":{"f:annotations":{".":{},"f:checksum/config":{},"f:prometheus.io/port":{},` +
		`"f:prometheus.io/scrape":{}},"f:generateName":{},"f:labels":{".":{},"f:app.kubernetes.io/component":{},` +
		`"f:app.kubernetes.io/instance":{},"f:app.kubernetes.io/name":{},"f:app.kubernetes.io/version":{},` +
		`"f:pod-template-hash":{}},"f:ownerReferences":{".":{},"k:{\"uid\":\"7a2f3c1e-5d14-4c3c-9a57-0f6f2f0a1b11\"}":{}}},` +
		`"f:spec":{"f:containers":{"k:{\"name\":\"proxy\"}":{".":{},"f:args":{},"f:image":{},"f:imagePullPolicy":{},` +
		`"f:name":{},"f:ports":{},"f:readinessProbe":{},"f:resources":{},"f:securityContext":{},` +
		`"f:terminationMessagePath":{},"f:volumeMounts":{}},"k:{\"name\":\"server\"}":{".":{},"f:args":{},"f:env":{},` +
		`"f:image":{},"f:imagePullPolicy":{},"f:livenessProbe":{},"f:name":{},"f:ports":{},"f:readinessProbe":{},` +
		`"f:resources":{},"f:securityContext":{},"f:terminationMessagePath":{},"f:volumeMounts":{}}},"f:dnsPolicy":{},` +
		`"f:enableServiceLinks":{},"f:restartPolicy":{},"f:schedulerName":{},"f:securityContext":{},"f:serviceAccount":{},` +
		`"f:serviceAccountName":{},"f:terminationGracePeriodSeconds":{},"f:volumes":{}}}`
	podFieldsOfKubelet = `{"f:status":{"f:conditions":{"k:{\"type\":\"ContainersReady\"}":{".":{},"f:lastTransitionTime":{},"f:status":{},` +
		`"f:type":{}},"k:{\"type\":\"Initialized\"}":{".":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}},` +
		`"k:{\"type\":\"Ready\"}":{".":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}}},"f:containerStatuses":{},` +
		`"f:hostIP":{},"f:phase":{},"f:podIP":{},"f:podIPs":{".":{},"k:{\"ip\":\"IP\"}":{".":{},"f:ip":{}}},` +
		`"f:startTime":{}}}`
)
