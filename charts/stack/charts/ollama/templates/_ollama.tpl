{{/* The model server. Called through "stack.render" with the context of part "ollama". */}}

{{- define "ollama.manifests" -}}
{{- $part := merge (dict "library" "ollama" "portName" "http" "claim" "models") . -}}
{{- with .values.existingClaim -}}
{{- $_ := set $part "claim" "" -}}
{{- end -}}
{{- if .values.gpu.enabled -}}
{{- include "ollama.onGpu" $part -}}
{{- end -}}
{{ include "stack.serviceAccount" $part }}
---
{{ include "stack.service" $part }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "stack.metadata" (list .root .component) | nindent 2 }}
data:
  {{- include "ollama.config" $part | nindent 2 }}
---
{{ include "ollama.modelList" $part }}
---
{{ include "stack.statefulSet" $part }}
---
{{ include "ollama.arrival" $part }}
{{- end -}}

{{/* Requests and limits; a GPU is both, as Kubernetes demands of a device. */}}
{{- define "ollama.resources" -}}
{{- $resources := deepCopy (.values.resources | default dict) -}}
{{- if .values.gpu.enabled -}}
{{- $gpu := dict .values.gpu.resourceName (int .values.gpu.count) -}}
{{- $resources = mergeOverwrite $resources (dict "limits" $gpu "requests" $gpu) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{- define "ollama.initContainers" -}}
{{- with .values.preload.image -}}
- {{ include "stack.container" (dict "part" $ "name" "preload" "image" (include "stack.imageName" (list $.root .))) | nindent 2 | trim }}
  command: [sh, /etc/metis/preload.sh]
  args: [/models, /volume]
  resources:
    requests: {cpu: 50m, memory: 32Mi}
    limits: {cpu: "1", memory: 256Mi}
  volumeMounts:
    - {name: models, mountPath: /volume}
    - {name: scripts, mountPath: /etc/metis, readOnly: true}
    - {name: wanted, mountPath: /etc/metis-models, readOnly: true}
{{- end -}}
{{- end -}}

{{- define "ollama.containers" -}}
{{- $image := include "ollama.image" . -}}
- {{ include "stack.container" (dict "part" . "name" .component "image" $image) | nindent 2 | trim }}
  env:
    - {name: OLLAMA_HOST, value: "{{ include "stack.anyAddress" .root | default "[::]" }}:{{ .port }}"}
    - {name: OLLAMA_MODELS, value: /models}
    {{- include "ollama.tuning" . | nindent 4 }}
    - {name: OLLAMA_NO_CLOUD, value: "1"}
    - {name: OLLAMA_NOPRUNE, value: "1"}
    - {name: HOME, value: /tmp}
    {{- with include "ollama.devices" . }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with .values.pull.proxy }}
    - {name: HTTPS_PROXY, value: {{ . | quote }}}
    {{- end }}
    {{- with .values.pull.noProxy }}
    - {name: NO_PROXY, value: {{ . | quote }}}
    {{- end }}
    {{- with include "stack.extraEnv" . }}
    {{- . | nindent 4 }}
    {{- end }}
  ports:
    - {name: http, containerPort: {{ .port }}}
  {{- include "stack.httpProbes" (dict "alive" "/api/version" "readyCommand" (list "sh" "/etc/metis/ready.sh")) | nindent 2 }}
  resources:
    {{- include "ollama.resources" . | nindent 4 }}
  volumeMounts:
    - {name: models, mountPath: /models}
    - {name: tmp, mountPath: /tmp}
    - {name: scripts, mountPath: /etc/metis, readOnly: true}
    - {name: wanted, mountPath: /etc/metis-models, readOnly: true}
    {{- with include "stack.extraMounts" . }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "ollama.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: 1Gi}}
- name: scripts
  configMap:
    name: {{ include "stack.name" (list .root .component) }}
- name: wanted
  configMap:
    name: {{ include "stack.name" (list .root "ollama-models") }}
{{- with .values.existingClaim }}
- name: models
  persistentVolumeClaim:
    claimName: {{ . }}
{{- end }}
{{- end -}}
