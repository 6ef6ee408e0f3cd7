{{/* The RAG service. Called through "stack.render" with the context of part "app". */}}

{{- define "app.manifests" -}}
{{- $part := merge (dict "library" "app" "portName" "http") . -}}
{{ include "stack.serviceAccount" $part }}
---
{{ include "stack.service" $part }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "stack.metadata" (list .root .component) | nindent 2 }}
data:
  config.json: |
    {{- merge (deepCopy .values.settings) (include "app.liveSettings" $part | fromJson) | toPrettyJson | nindent 4 }}
---
{{ include "stack.deployment" $part }}
{{- include "stack.availability" $part }}
{{- include "app.ingress" $part }}
{{- include "app.httpRoute" $part }}
{{- end -}}

{{- define "app.ingress" -}}
{{- with .values.ingress }}
{{- if .enabled }}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  {{- include "stack.metadata" (list $.root $.component .annotations) | nindent 2 }}
spec:
  {{- with .className }}
  ingressClassName: {{ . }}
  {{- end }}
  {{- with .tlsSecret }}
  tls:
    - hosts: [{{ $.values.ingress.host | quote }}]
      secretName: {{ . }}
  {{- end }}
  rules:
    - host: {{ .host | quote }}
      http:
        paths:
          - path: /
            pathType: Prefix
            backend:
              service:
                name: {{ include "stack.name" (list $.root $.component) }}
                port: {name: http}
{{- end }}
{{- end }}
{{- end -}}

{{- define "app.httpRoute" -}}
{{- with .values.httpRoute }}
{{- if .enabled }}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  {{- include "stack.metadata" (list $.root $.component .annotations) | nindent 2 }}
spec:
  {{- /* With what the API's schema would add, so that nobody sees a difference. */}}
  parentRefs:
    {{- range .parentRefs }}
    - {{ merge (dict) . (dict "group" "gateway.networking.k8s.io" "kind" "Gateway") | toYaml | nindent 6 | trim }}
    {{- end }}
  {{- with .hostnames }}
  hostnames: {{ toJson . }}
  {{- end }}
  rules:
    - matches:
        - path: {type: PathPrefix, value: /}
      backendRefs:
        - group: ""
          kind: Service
          name: {{ include "stack.name" (list $.root $.component) }}
          port: {{ $.values.service.port }}
          weight: 1
      {{- /* An answer may stream for minutes. */}}
      timeouts: {request: 0s}
{{- end }}
{{- end }}
{{- end -}}

{{/* The settings whose change must bring new pods: those that a running pod does not take up. */}}
{{- define "app.config" -}}
{{- $settings := deepCopy .values.settings -}}
{{- range keys (include "app.liveSettings" . | fromJson) -}}
{{- $_ := unset $settings . -}}
{{- end -}}
{{- toPrettyJson $settings -}}
{{- end -}}

{{/* The settings that a running pod takes up when its configuration file changes. */}}
{{- define "app.liveSettings" -}}
{{- $live := dict "mem0_not_found_ttl" .values.memory.notFoundTtlSeconds -}}
{{- range $name, $cache := .values.memory.cache -}}
{{- $_ := set $live (printf "mem0_%s_cache_size" $name) $cache.size -}}
{{- $_ := set $live (printf "mem0_%s_cache_ttl" $name) $cache.ttlSeconds -}}
{{- end -}}
{{- toJson $live -}}
{{- end -}}

{{- define "app.env" -}}
{{- $values := .root.Values -}}
- {name: HOST, value: {{ include "stack.anyAddress" .root | quote }}}
- {name: PORT, value: {{ .port | quote }}}
- {name: HOME, value: /tmp}
- {name: METIS_CONFIG_FILE, value: /app/config/config.json}
- {name: METIS_DB_TYPE, value: postgresql}
- {name: METIS_POSTGRES_DSN, value: {{ include "stack.postgresUrl" (list .root "metisPostgres") | quote }}}
{{ include "stack.databaseEnv" (list .root "metisPostgres") }}
- {name: METIS_LLM_PROVIDER_TYPE, value: {{ empty $values.models.openai.chat.url | ternary "ollama" "openai" }}}
{{- if include "stack.ollamaModels" .root | fromYamlArray }}
- {name: METIS_OLLAMA_BASE_URL, value: {{ include "stack.ollamaUrl" .root | quote }}}
{{- end }}
{{- if include "stack.isMade" (list .root "ollama") }}
{{- include "ollama.podsEnv" .root }}
{{- end }}
{{- include "stack.modelEnv" .root }}
{{- include "stack.trustEnv" (list .root (list "chat" "embedding" "ollama" "mem0")) }}
- {name: DEFAULT_MODEL, value: {{ $values.models.chat | quote }}}
- {name: DEFAULT_EMBEDDING_MODEL, value: {{ $values.models.embedding | quote }}}
- {name: REINDEX, value: {{ $values.models.reindex | quote }}}
- {name: USE_MEM0, value: {{ .values.useMem0 | quote }}}
- {name: MEM0_ENDPOINT, value: {{ include "stack.mem0Url" .root | quote }}}
- {name: MEM0_API_KEY_DIR, value: /run/secrets/mem0}
- {name: AUTH_MODE, value: {{ $values.auth.mode }}}
{{- if eq $values.auth.mode "keys" }}
- {name: AUTH_KEYS_FILE, value: /run/secrets/auth/keys.json}
{{- end }}
{{- with include "stack.extraEnv" . }}
{{ . }}
{{- end }}
{{- end -}}

{{- define "app.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: data, mountPath: /app/data}
- {name: config, mountPath: /app/config, readOnly: true}
{{ include "stack.databaseMounts" (list .root "metisPostgres") }}
{{- include "stack.modelMounts" .root }}
{{- include "stack.trustMounts" (list .root (list "chat" "embedding" "ollama" "mem0")) }}
- {name: mem0-key, mountPath: /run/secrets/mem0, readOnly: true}
{{- if eq .root.Values.auth.mode "keys" }}
- {name: auth, mountPath: /run/secrets/auth, readOnly: true}
{{- end }}
{{- end -}}

{{- define "app.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: 512Mi}}
- {name: data, emptyDir: {sizeLimit: {{ .values.data.sizeLimit }}}}
- name: config
  configMap:
    name: {{ include "stack.name" (list .root .component) }}
{{ include "stack.databaseVolumes" (list .root "metisPostgres") }}
{{- include "stack.modelVolumes" .root }}
{{- include "stack.trustVolumes" (list .root (list "chat" "embedding" "ollama" "mem0")) }}
{{ include "stack.mem0KeyVolume" .root }}
{{- if eq .root.Values.auth.mode "keys" }}
{{ include "stack.secretVolume" (list "auth" (include "stack.authSecret" .root) (list "keys.json")) }}
{{- end }}
{{- end -}}

{{/* Waits for the database and migrates it, then (at most 60 s) for Mem0. */}}
{{- define "app.initContainers" -}}
{{- include "stack.pythonContainer" (merge (dict "name" "prepare" "command" (list "python" "-m" "app.prepare")) .) -}}
{{- end -}}

{{- define "app.containers" -}}
{{ include "stack.pythonContainer" (merge (dict "name" .component) .) }}
  ports:
    - {name: http, containerPort: {{ .port }}}
  {{- include "stack.httpProbes" (dict "alive" "/api/health" "ready" "/api/ready") | nindent 2 }}
{{- end -}}
