{{/*
What all pods and Services have in common. The templates take a part's context (see "stack.render").
*/}}

{{/*
"stack.render" (list ROOT KEY TEMPLATE): renders TEMPLATE with the context of part KEY:
root, key, values and the part's row of "stack.parts" (component, port, uid, graceSeconds, database).
Nothing where the part is brought from outside.
*/}}
{{- define "stack.render" -}}
{{- $root := index . 0 -}}
{{- $key := index . 1 -}}
{{- $row := index (include "stack.parts" $root | fromYaml) $key -}}
{{- if include "stack.isMade" (list $root $key) -}}
{{- include (index . 2) (merge (dict "root" $root "key" $key "values" (index $root.Values $key)) $row) -}}
{{- end -}}
{{- end -}}

{{- define "stack.service" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "stack.metadata" (list .root .component .values.service.annotations) | nindent 2 }}
spec:
  type: {{ .values.service.type }}
  {{- with .root.Values.services.ipFamilyPolicy }}
  ipFamilyPolicy: {{ . }}
  {{- end }}
  {{- with .root.Values.services.ipFamilies }}
  ipFamilies: {{ toJson . }}
  {{- end }}
  selector:
    {{- include "stack.selectorLabels" (list .root .component) | nindent 4 }}
  ports:
    - name: {{ .portName }}
      port: {{ .values.service.port }}
      targetPort: {{ .portName }}
      {{- with .values.service.nodePort }}
      nodePort: {{ . }}
      {{- end }}
{{- end -}}

{{/* "stack.serviceAccount" PART: its ServiceAccount; none where the user names one. */}}
{{- define "stack.serviceAccount" -}}
{{- if not .values.serviceAccount.name -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "stack.metadata" (list .root .component .values.serviceAccount.annotations) | nindent 2 }}
automountServiceAccountToken: false
{{- end -}}
{{- end -}}

{{/*
"stack.replicas" PART: the replicas line of a Deployment, absent when left to the cluster or to the
autoscaler.
*/}}
{{- define "stack.replicas" -}}
{{- if .root.Values.suspend -}}
replicas: 0
{{- else if not (kindIs "invalid" .values.replicas) -}}
replicas: {{ .values.replicas }}
{{- end -}}
{{- end -}}

{{/* "stack.availability" PART: the autoscaler and the disruption budget of a Deployment. */}}
{{- define "stack.availability" -}}
{{- with .values.autoscaling -}}
{{- if .enabled }}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  {{- include "stack.metadata" (list $.root $.component) | nindent 2 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "stack.name" (list $.root $.component) }}
  minReplicas: {{ .minReplicas }}
  maxReplicas: {{ .maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target: {type: AverageValue, averageValue: {{ .cpu | quote }}}
{{- end }}
{{- end }}
{{- with .values.podDisruptionBudget }}
{{- if .enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "stack.metadata" (list $.root $.component) | nindent 2 }}
spec:
  maxUnavailable: {{ .maxUnavailable }}
  selector:
    matchLabels:
      {{- include "stack.selectorLabels" (list $.root $.component) | nindent 6 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Security context of every container. */}}
{{- define "stack.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/*
"stack.container" (dict part name image): the head of a container, main, side or init.
The last log lines become the termination message, so that whoever reads the pod's status reads why.
*/}}
{{- define "stack.container" -}}
name: {{ .name }}
image: {{ .image | quote }}
imagePullPolicy: {{ .part.root.Values.image.pullPolicy }}
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  {{- include "stack.containerSecurity" . | nindent 2 }}
{{- end -}}

{{/* "stack.podSecurity" (list ROOT UID) */}}
{{- define "stack.podSecurity" -}}
runAsNonRoot: true
{{- if (index . 0).Values.pods.fixedIds }}
runAsUser: {{ index . 1 }}
runAsGroup: {{ index . 1 }}
fsGroup: {{ index . 1 }}
fsGroupChangePolicy: OnRootMismatch
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "stack.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end -}}
{{- end -}}

{{/*
The pod template of a part. Its library says what is its own, in named templates called with the
part's context: LIBRARY.containers, .initContainers, .volumes, and .config, the ConfigMap's data
whose change must bring new pods ("" where there is none).
*/}}
{{- define "stack.podTemplate" -}}
{{- $config := include (printf "%s.config" .library) . -}}
metadata:
  labels:
    {{- merge (include "stack.selectorLabels" (list .root .component) | fromYaml) .values.podLabels | toYaml | nindent 4 }}
  annotations:
    kubectl.kubernetes.io/default-container: {{ .component }}
    {{- with $config }}
    checksum/config: {{ sha256sum . }}
    {{- end }}
    {{- with .values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "stack.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .graceSeconds }}
  securityContext:
    {{- include "stack.podSecurity" (list .root (int .uid)) | nindent 4 }}
    {{- with .supplementalGroups }}
    supplementalGroups: {{ toJson . }}
    {{- end }}
  {{- with include "stack.pullSecrets" .root }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with .runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with .values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- $init := include (printf "%s.initContainers" .library) . }}
  {{- if or $init .values.extraInitContainers }}
  initContainers:
    {{- with .values.extraInitContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- with $init }}
    {{- . | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    {{- include (printf "%s.containers" .library) . | nindent 4 }}
  volumes:
    {{- include (printf "%s.volumes" .library) . | nindent 4 }}
    {{- with .values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with include "stack.nodeSelector" . }}
  nodeSelector:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with .values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    {{- $own := dict "matchLabels" (include "stack.selectorLabels" (list $.root $.component) | fromYaml) }}
    - {{ hasKey . "labelSelector" | ternary . (merge (dict "labelSelector" $own) .) | toYaml | nindent 6 | trim }}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* "stack.nodeSelector" PART: the part's own and the architecture of all. */}}
{{- define "stack.nodeSelector" -}}
{{- $selector := deepCopy .values.nodeSelector -}}
{{- with .root.Values.image.architecture -}}
{{- $selector = merge $selector (dict "kubernetes.io/arch" .) -}}
{{- end -}}
{{- with $selector -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{/* "stack.volumeClaim" (list PART NAME): a StatefulSet's claim, sized by the part's storage. */}}
{{- define "stack.volumeClaim" -}}
{{- $part := index . 0 -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ index . 1 }}
spec:
  accessModes: [ReadWriteOnce]
  {{- with $part.values.storage.className }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests:
      storage: {{ $part.values.storage.size }}
{{- end -}}

{{/*
"stack.statefulSet": the part's StatefulSet, of .values.replicas pods (1 where it has no such value),
each with a claim named .claim; without one its pods mount a volume of their own choice.
*/}}
{{- define "stack.statefulSet" -}}
apiVersion: apps/v1
kind: StatefulSet
metadata:
  {{- /* Jobs that change its logins read here where its Service listens. */}}
  {{- $own := hasKey . "database" | ternary (dict "metisrag.dev/service-port" (toString .values.service.port)) dict }}
  {{- include "stack.metadata" (list .root .component $own) | nindent 2 }}
spec:
  replicas: {{ ternary 0 (get .values "replicas" | default (hasKey .values "replicas" | ternary 0 1)) .root.Values.suspend }}
  serviceName: {{ include "stack.name" (list .root .component) }}
  podManagementPolicy: Parallel
  updateStrategy: {type: RollingUpdate}
  persistentVolumeClaimRetentionPolicy:
    whenDeleted: {{ .root.Values.deletionPolicy }}
    whenScaled: Retain
  selector:
    matchLabels:
      {{- include "stack.selectorLabels" (list .root .component) | nindent 6 }}
  template:
    {{- include "stack.podTemplate" . | nindent 4 }}
  {{- with .claim }}
  volumeClaimTemplates:
    - {{ include "stack.volumeClaim" (list $ .) | nindent 6 | trim }}
  {{- end }}
{{- end -}}

{{/* "stack.deployment": the part's Deployment. A new pod is ready before an old one goes. */}}
{{- define "stack.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "stack.metadata" (list .root .component) | nindent 2 }}
spec:
  {{- with include "stack.replicas" . }}
  {{- . | nindent 2 }}
  {{- end }}
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  selector:
    matchLabels:
      {{- include "stack.selectorLabels" (list .root .component) | nindent 6 }}
  template:
    {{- include "stack.podTemplate" . | nindent 4 }}
{{- end -}}

{{/*
"stack.httpProbes" (dict alive ready readyCommand [tls]): probes over HTTP, or HTTPS, on port "http",
readiness where wished by a command. A start may take as long as 5 minutes before the container
counts as failed.
*/}}
{{- define "stack.httpProbes" -}}
{{- $scheme := empty .tls | ternary "" ", scheme: HTTPS" -}}
startupProbe:
  httpGet: {path: {{ .alive }}, port: http{{ $scheme }}}
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 300
livenessProbe:
  httpGet: {path: {{ .alive }}, port: http{{ $scheme }}}
  periodSeconds: 30
  timeoutSeconds: 10
  failureThreshold: 3
readinessProbe:
  {{- if .readyCommand }}
  exec:
    command: {{ toJson .readyCommand }}
  periodSeconds: 5
  {{- else }}
  httpGet: {path: {{ .ready }}, port: http{{ $scheme }}}
  periodSeconds: 3
  {{- end }}
  timeoutSeconds: 5
  failureThreshold: 2
{{- end -}}

{{/* "stack.extraEnv" PART: the user's own environment variables. */}}
{{- define "stack.extraEnv" -}}
{{- with .values.extraEnv -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{/* "stack.extraMounts" PART: the user's own mounts. */}}
{{- define "stack.extraMounts" -}}
{{- with .values.extraVolumeMounts -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{/* "stack.secretVolume" (list NAME SECRET KEYS): a Secret's entries as files; all of them without KEYS. */}}
{{- define "stack.secretVolume" -}}
- name: {{ index . 0 }}
  secret:
    secretName: {{ index . 1 }}
    defaultMode: 288  # 0440: the pod's group reads
    {{- with index . 2 }}
    items:
      {{- range . }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
    {{- end }}
{{- end -}}

{{/*
"stack.pythonContainer": a container of the part's own image with the part's environment and mounts
(LIBRARY.env, LIBRARY.mounts), named .name, running .command or else the image's default.
*/}}
{{- define "stack.pythonContainer" -}}
- {{ include "stack.container" (dict "part" . "name" .name "image" (include "stack.image" (list .root .values.image))) | nindent 2 | trim }}
  {{- with .command }}
  command: {{ toJson . }}
  {{- end }}
  env:
    {{- include (printf "%s.env" .library) . | nindent 4 }}
  resources:
    {{- toYaml .values.resources | nindent 4 }}
  volumeMounts:
    {{- include (printf "%s.mounts" .library) . | nindent 4 }}
    {{- with include "stack.extraMounts" . }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/*
"stack.toolPod" (list ROOT COMPONENT ARGS [SECRET]): the pod spec of a Job that runs the operator's
command line. It speaks to the API server as the account of its component; with SECRET it does not,
but has the entry test-key of that Secret, if there is one, under /run/secrets/auth.
*/}}
{{- define "stack.toolPod" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $secret := gt (len .) 3 | ternary (last .) "" -}}
{{- if gt (len .) 3 }}
automountServiceAccountToken: false
{{- else }}
serviceAccountName: {{ include "stack.name" (list $root $component) }}
automountServiceAccountToken: true
{{- end }}
enableServiceLinks: false
restartPolicy: Never
securityContext:
  {{- include "stack.podSecurity" (list $root 10001) | nindent 2 }}
{{- with include "stack.pullSecrets" $root }}
{{ . }}
{{- end }}
{{- with $root.Values.image.architecture }}
nodeSelector: {kubernetes.io/arch: {{ . }}}
{{- end }}
containers:
  - {{ include "stack.container" (dict "part" (dict "root" $root) "name" $component "image" (include "stack.image" (list $root $root.Values.credentials.image))) | nindent 4 | trim }}
    command: [python, -m, metis_operator]
    args: {{ index . 2 | toJson }}
    env:
      - {name: HOME, value: /tmp}
    resources:
      requests: {cpu: 50m, memory: 64Mi}
      limits: {cpu: "1", memory: 256Mi}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      {{- if $secret }}
      - {name: auth, mountPath: /run/secrets/auth, readOnly: true}
      {{- end }}
volumes:
  - {name: tmp, emptyDir: {sizeLimit: 64Mi}}
  {{- if $secret }}
  - name: auth
    secret:
      secretName: {{ $secret }}
      optional: true
      defaultMode: 288  # 0440: the pod's group reads
      items: [{key: test-key, path: test-key}]
  {{- end }}
{{- end -}}
