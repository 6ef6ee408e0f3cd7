{{/* The memory server. Called through "stack.render" with the context of part "mem0". */}}

{{- define "mem0.manifests" -}}
{{- $part := merge (dict "library" "mem0" "portName" "http") . -}}
{{ include "stack.serviceAccount" $part }}
---
{{ include "stack.service" $part }}
---
{{ include "stack.deployment" $part }}
{{- include "stack.availability" $part }}
{{- end -}}

{{/* No ConfigMap: the settings are environment variables, whose change brings new pods by itself. */}}
{{- define "mem0.config" -}}{{- end -}}

{{- define "mem0.env" -}}
{{- $values := .root.Values -}}
- {name: HOST, value: {{ include "stack.anyAddress" .root | quote }}}
- {name: PORT, value: {{ .port | quote }}}
- {name: HOME, value: /tmp}
- {name: DATABASE_URL, value: {{ printf "%s/mem0" (include "stack.url" (list .root "mem0Postgres" "postgresql")) | quote }}}
- {name: DATABASE_USER_FILE, value: /run/secrets/db/username}
- {name: DATABASE_PASSWORD_FILE, value: /run/secrets/db/password}
- {name: MEM0_API_KEY_DIR, value: /run/secrets/mem0}
- {name: OLLAMA_BASE_URL, value: {{ include "stack.url" (list .root "ollama" "http") | quote }}}
- {name: LLM_MODEL, value: {{ $values.models.chat | quote }}}
- {name: EMBEDDING_MODEL, value: {{ $values.models.embedding | quote }}}
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
- {name: db, mountPath: /run/secrets/db, readOnly: true}
- {name: mem0-key, mountPath: /run/secrets/mem0, readOnly: true}
{{- end -}}

{{- define "mem0.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: 256Mi}}
- {name: data, emptyDir: {sizeLimit: {{ .values.data.sizeLimit }}}}
{{ include "stack.secretVolume" (list "db" (include "stack.name" (list .root "mem0-db")) (list "username" "password")) }}
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
  {{- include "stack.httpProbes" (dict "alive" "/health" "ready" "/ready") | nindent 2 }}
{{- end -}}
