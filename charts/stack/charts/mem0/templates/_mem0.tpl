{{/* The memory server. Called through "stack.render" with the context of part "mem0". */}}

{{- define "mem0.manifests" -}}
{{- $part := merge (dict "library" "mem0" "portName" "http") . -}}
{{ include "stack.serviceAccount" $part }}
---
{{ include "stack.service" $part }}
---
{{ include "stack.deployment" $part }}
{{- include "stack.availability" $part }}
{{- include "stack.certificate" $part }}
{{- end -}}

{{/* No ConfigMap: the settings are environment variables, whose change brings new pods by itself. */}}
{{- define "mem0.config" -}}{{- end -}}

{{- define "mem0.env" -}}
{{- $values := .root.Values -}}
- {name: HOST, value: {{ include "stack.anyAddress" .root | quote }}}
- {name: PORT, value: {{ .port | quote }}}
- {name: HOME, value: /tmp}
- {name: DATABASE_URL, value: {{ include "stack.postgresUrl" (list .root "mem0Postgres") | quote }}}
{{ include "stack.databaseEnv" (list .root "mem0Postgres") }}
{{- if include "stack.tlsSecret" (list .root .key) }}
- {name: TLS_CERT_FILE, value: /run/tls/server/tls.crt}
- {name: TLS_KEY_FILE, value: /run/tls/server/tls.key}
{{- end }}
- {name: MEM0_API_KEY_DIR, value: /run/secrets/mem0}
- {name: LLM_PROVIDER_TYPE, value: {{ empty $values.models.openai.chat.url | ternary "ollama" "openai" }}}
{{- if include "stack.ollamaModels" .root | fromYamlArray }}
- {name: OLLAMA_BASE_URL, value: {{ include "stack.ollamaUrl" .root | quote }}}
{{- end }}
{{- include "stack.modelEnv" .root }}
{{- include "stack.trustEnv" (list .root (list "chat" "embedding" "ollama")) }}
- {name: LLM_MODEL, value: {{ $values.models.chat | quote }}}
- {name: EMBEDDING_MODEL, value: {{ $values.models.embedding | quote }}}
- {name: REINDEX, value: {{ $values.models.reindex | quote }}}
- {name: MEM0_TELEMETRY, value: "false"}
- {name: MEM0_DIR, value: /tmp/mem0}
{{- range $name, $value := .values.settings }}
- {name: {{ upper $name }}, value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}}
{{- end }}
{{- with include "stack.extraEnv" . }}
{{ . }}
{{- end }}
{{- end -}}

{{- define "mem0.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: data, mountPath: /app/data}
{{ include "stack.databaseMounts" (list .root "mem0Postgres") }}
{{- include "stack.serverCertificateMount" . }}
{{- include "stack.modelMounts" .root }}
{{- include "stack.trustMounts" (list .root (list "chat" "embedding" "ollama")) }}
- {name: mem0-key, mountPath: /run/secrets/mem0, readOnly: true}
{{- end -}}

{{- define "mem0.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: 256Mi}}
- {name: data, emptyDir: {sizeLimit: {{ .values.data.sizeLimit }}}}
{{ include "stack.databaseVolumes" (list .root "mem0Postgres") }}
{{- include "stack.serverCertificateVolume" . }}
{{- include "stack.modelVolumes" .root }}
{{- include "stack.trustVolumes" (list .root (list "chat" "embedding" "ollama")) }}
{{ include "stack.secretVolume" (list "mem0-key" (include "stack.name" (list .root "mem0-key")) list) }}
{{- end -}}

{{/* Waits for the database and migrates it. */}}
{{- define "mem0.initContainers" -}}
{{- include "stack.pythonContainer" (merge (dict "name" "prepare" "command" (list "python" "-m" "mem0_server.prepare")) .) -}}
{{- end -}}

{{- define "mem0.containers" -}}
{{ include "stack.pythonContainer" (merge (dict "name" .component) .) }}
  ports:
    - {name: http, containerPort: {{ .port }}}
  {{- include "stack.httpProbes" (dict "alive" "/health" "ready" "/ready" "tls" (include "stack.tlsSecret" (list .root .key))) | nindent 2 }}
{{- end -}}
