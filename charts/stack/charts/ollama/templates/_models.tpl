{{/* Which models are wanted, and how they come. Named with the part's context. */}}

{{/* "ollama.wanted" PART: the models to have, as a JSON list. */}}
{{- define "ollama.wanted" -}}
{{- concat (include "stack.ollamaModels" .root | fromYamlArray) .values.pull.also | uniq | toJson -}}
{{- end -}}

{{/* "ollama.pulls" PART: "true" where models are pulled, else "". */}}
{{- define "ollama.pulls" -}}
{{- if and .values.pull.enabled (not .values.preload.image) -}}true{{- end -}}
{{- end -}}

{{/* "ollama.nameParts" NAME: host, namespace, model and tag of a model, with Ollama's defaults. */}}
{{- define "ollama.nameParts" -}}
{{- $parts := splitList "/" . -}}
{{- $last := last $parts -}}
{{- $model := splitList ":" $last | first -}}
{{- $tag := contains ":" $last | ternary (trimPrefix (printf "%s:" $model) $last) "latest" -}}
{{- $space := "library" -}}
{{- $host := "registry.ollama.ai" -}}
{{- if gt (len $parts) 1 -}}{{- $space = index $parts (sub (len $parts) 2 | int) -}}{{- end -}}
{{- if gt (len $parts) 2 -}}{{- $host = initial (initial $parts) | join "/" -}}{{- end -}}
{{- dict "host" $host "space" $space "model" $model "tag" $tag | toJson -}}
{{- end -}}

{{/*
The list of wanted models, for those who look whether they are there. Not part of the pods' stamp:
the models of a running server change without a restart. Its file "shown" has the names as `ollama
list` shows them, "manifests" the places of their manifests in the volume.
*/}}
{{- define "ollama.modelList" -}}
{{- $shown := list -}}
{{- $places := list -}}
{{- range include "ollama.wanted" . | fromJsonArray -}}
{{- $name := include "ollama.nameParts" . | fromJson -}}
{{- $places = append $places (printf "%s/%s/%s/%s" $name.host $name.space $name.model $name.tag) -}}
{{- $short := printf "%s:%s" $name.model $name.tag -}}
{{- if ne $name.host "registry.ollama.ai" -}}
{{- $short = printf "%s/%s/%s" $name.host $name.space $short -}}
{{- else if ne $name.space "library" -}}
{{- $short = printf "%s/%s" $name.space $short -}}
{{- end -}}
{{- $shown = append $shown $short -}}
{{- end -}}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "stack.metadata" (list .root "ollama-models") | nindent 2 }}
data:
  models: {{ include "ollama.wanted" . | fromJsonArray | join "\n" | quote }}
  shown: {{ printf "%s\n" (join "\n" $shown) | quote }}
  manifests: {{ printf "%s\n" (join "\n" $places) | quote }}
{{- end -}}

{{/*
"ollama.pods" (list PART COMPONENT ALL): a Service by whose name each pod has an address; of the
ready ones, or of all.
*/}}
{{- define "ollama.pods" -}}
{{- $part := index . 0 -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "stack.metadata" (list $part.root (index . 1)) | nindent 2 }}
spec:
  clusterIP: None
  publishNotReadyAddresses: {{ index . 2 }}
  {{- with $part.root.Values.services.ipFamilyPolicy }}
  ipFamilyPolicy: {{ . }}
  {{- end }}
  {{- with $part.root.Values.services.ipFamilies }}
  ipFamilies: {{ toJson . }}
  {{- end }}
  selector:
    {{- include "stack.selectorLabels" (list $part.root $part.component) | nindent 4 }}
  ports:
    - {name: http, port: {{ $part.port }}, targetPort: http}
{{- end -}}

{{/* "ollama.areSeveral" VALUES: "true" where pods may have different models, else "". */}}
{{- define "ollama.areSeveral" -}}
{{- if and (gt (int .replicas) 1) (not .existingClaim) -}}true{{- end -}}
{{- end -}}

{{/* "ollama.podsEnv" ROOT: where the app finds each pod, to say which model is missing on which. */}}
{{- define "ollama.podsEnv" -}}
{{- $port := (include "stack.parts" . | fromYaml).ollama.port }}
- {name: OLLAMA_PODS, value: "{{ include "stack.name" (list . "ollama-pods") }}:{{ $port }}"}
{{- if include "ollama.areSeveral" .Values.ollama }}
- {name: OLLAMA_READY_PODS, value: "{{ include "stack.name" (list . "ollama-ready") }}:{{ $port }}"}
{{- end }}
{{- end -}}

{{/* The Services by which each pod is found, and the Jobs that pull. */}}
{{- define "ollama.arrival" -}}
{{ include "ollama.pods" (list . "ollama-pods" true) }}
{{- if include "ollama.areSeveral" .values }}
---
{{ include "ollama.pods" (list . "ollama-ready" false) }}
{{- end }}
{{- if include "ollama.pulls" . }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "stack.metadata" (list .root "pull") | nindent 2 }}
automountServiceAccountToken: false
{{- $servers := list "--replicas" (toString .values.replicas) }}
{{- if .values.existingClaim }}
{{- $servers = append $servers "--shared" }}
{{- end }}
{{- $source := list }}
{{- if not .values.existingClaim }}
{{- $source = concat $source (list "--volume" (toString .values.storage.size)) }}
{{- end }}
{{- with .values.pull.registry }}
{{- $source = concat $source (list "--registry" .) }}
{{- end }}
{{- if .values.pull.insecure }}
{{- $source = append $source "--insecure" }}
{{- end }}
{{- range include "ollama.wanted" . | fromJsonArray }}
{{- include "ollama.pullJob" (dict "part" $ "name" "pull" "model" . "args" (concat $servers $source (list .))) }}
{{- end }}
{{- /* While an index is made anew, the one before still answers, with its own model. */ -}}
{{- if and .values.pull.prune (not .root.Values.models.reindex) }}
{{- $wanted := include "ollama.wanted" . | fromJsonArray }}
{{- include "ollama.pullJob" (dict "part" $ "name" "prune" "model" "" "args" (concat (list "--prune") $servers $wanted)) }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
"ollama.pullJob" (dict part name model args): a Job. A Job cannot change, so its name carries a
digest of all that it is: another model, image or number of servers is another Job, and the former
one goes. It stays when it is done, as a Job that is gone would be made and run again. The digest is
the same in every release, so that a rendering of one serves them all.
*/}}
{{- define "ollama.pullJob" -}}
{{- $root := .part.root -}}
{{- $spec := include "ollama.pullJobSpec" . -}}
{{- $any := merge (dict "part" (dict "root" (dict "Release" (dict "Name" "any")))) . -}}
{{- $component := printf "%s-%s" .name (include "ollama.pullJobSpec" $any | sha256sum | trunc 8) }}
---
apiVersion: batch/v1
kind: Job
metadata:
  {{- $notes := empty .model | ternary dict (dict "metisrag.dev/model" .model) }}
  {{- $metadata := include "stack.metadata" (list $root .name $notes) | fromYaml }}
  {{- $_ := set $metadata "name" (include "stack.name" (list $root $component)) }}
  {{- toYaml $metadata | nindent 2 }}
spec:
  suspend: {{ $root.Values.suspend }}
  {{- $spec | nindent 2 }}
{{- end -}}

{{- define "ollama.pullJobSpec" -}}
{{- $root := .part.root -}}
{{- $app := dict "root" $root "values" $root.Values.app -}}
{{- /* It tries again by itself; a pod that is killed or evicted is replaced. */ -}}
backoffLimit: 1000
template:
  metadata:
    labels:
      {{- include "stack.selectorLabels" (list $root "pull") | nindent 6 }}
  spec:
    serviceAccountName: {{ include "stack.name" (list $root "pull") }}
    automountServiceAccountToken: false
    enableServiceLinks: false
    restartPolicy: OnFailure
    terminationGracePeriodSeconds: 10
    securityContext:
      {{- include "stack.podSecurity" (list $root 10001) | nindent 6 }}
    {{- with include "stack.pullSecrets" $root }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with include "stack.nodeSelector" $app }}
    nodeSelector:
      {{- . | nindent 6 }}
    {{- end }}
    {{- with $root.Values.app.tolerations }}
    tolerations:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    containers:
      - {{ include "stack.container" (dict "part" $app "name" "pull" "image" (include "stack.image" (list $root $root.Values.app.image))) | nindent 8 | trim }}
        command: [python, -m, app.pull]
        {{- $servers := printf "%s:%v" (include "stack.name" (list $root "ollama-pods")) .part.port }}
        args: {{ concat (list "--servers" $servers) .args | toJson }}
        env:
          - {name: HOME, value: /tmp}
        ports:
          - {name: http, containerPort: 8080}
        resources:
          requests: {cpu: 10m, memory: 48Mi}
          limits: {cpu: 500m, memory: 128Mi}
        volumeMounts:
          - {name: tmp, mountPath: /tmp}
    volumes:
      - {name: tmp, emptyDir: {sizeLimit: 16Mi}}
{{- end -}}
