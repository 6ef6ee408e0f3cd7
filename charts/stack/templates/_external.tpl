{{/*
What is brought from outside, in place of a part made here. A part that is not made here leaves
nothing behind: no workload, Service, claim or policy, no credentials, no rotation.
*/}}

{{/* "stack.isMade" (list ROOT KEY): "true" when part KEY is made here, else "". */}}
{{- define "stack.isMade" -}}
{{- $root := index . 0 -}}
{{- $key := index . 1 -}}
{{- $values := index $root.Values $key -}}
{{- if eq $key "metisPostgres" -}}
{{- if not (or $values.external.url $values.cloudNativePG.cluster) -}}true{{- end -}}
{{- else if eq $key "mem0Postgres" -}}
{{- if not (or $root.Values.mem0.external.url $values.external.url $values.cloudNativePG.cluster) -}}true{{- end -}}
{{- else if eq $key "mem0" -}}
{{- if not $values.external.url -}}true{{- end -}}
{{- else if eq $key "ollama" -}}
{{- if and (not $values.external.url) (include "stack.ollamaModels" $root | fromYamlArray) -}}true{{- end -}}
{{- else -}}
true
{{- end -}}
{{- end -}}

{{/* "stack.ollamaModels" ROOT: the models that are an Ollama's to serve, as a YAML list. */}}
{{- define "stack.ollamaModels" -}}
{{- $models := list -}}
{{- range $use := list "chat" "embedding" -}}
{{- if not (index $.Values.models.openai $use).url -}}
{{- $models = append $models (index $.Values.models $use) -}}
{{- end -}}
{{- end -}}
{{- uniq $models | toJson -}}
{{- end -}}

{{/* "stack.ollamaUrl", "stack.mem0Url" ROOT: where they are. */}}
{{- define "stack.ollamaUrl" -}}
{{- .Values.ollama.external.url | default (include "stack.url" (list . "ollama" "http")) | trimSuffix "/" -}}
{{- end -}}

{{- define "stack.mem0Url" -}}
{{- $scheme := include "stack.tlsSecret" (list . "mem0") | empty | ternary "http" "https" -}}
{{- .Values.mem0.external.url | default (include "stack.url" (list . "mem0" $scheme)) | trimSuffix "/" -}}
{{- end -}}

{{/*
"stack.modelEnv", ".modelMounts", ".modelVolumes" ROOT: what a client of the models is told beside
the Ollama's address: other servers and their keys.
*/}}
{{- define "stack.modelEnv" -}}
{{- $chat := .Values.models.openai.chat -}}
{{- $embedding := .Values.models.openai.embedding -}}
{{- if ne (empty $chat.url) (empty $embedding.url) }}
- {name: EMBEDDING_PROVIDER_TYPE, value: {{ empty $embedding.url | ternary "ollama" "openai" }}}
{{- end }}
{{- with $chat.url }}
- {name: OPENAI_BASE_URL, value: {{ trimSuffix "/" . | quote }}}
{{- end }}
{{- if and $chat.url $chat.keySecret }}
- {name: OPENAI_API_KEY_FILE, value: /run/secrets/chat/api-key}
{{- end }}
{{- with $embedding.url }}
- {name: OPENAI_EMBEDDING_BASE_URL, value: {{ trimSuffix "/" . | quote }}}
{{- end }}
{{- if and $embedding.url $embedding.keySecret }}
- {name: OPENAI_EMBEDDING_API_KEY_FILE, value: /run/secrets/embedding/api-key}
{{- end }}
{{- end -}}

{{- define "stack.modelMounts" -}}
{{- range $use, $server := .Values.models.openai -}}
{{- if and $server.url $server.keySecret }}
- {name: {{ $use }}-key, mountPath: /run/secrets/{{ $use }}, readOnly: true}
{{- end }}
{{- end -}}
{{- end -}}

{{- define "stack.modelVolumes" -}}
{{- range $use, $server := .Values.models.openai -}}
{{- if and $server.url $server.keySecret }}
{{ include "stack.secretVolume" (list (printf "%s-key" $use) $server.keySecret (list "api-key")) }}
{{- end }}
{{- end -}}
{{- end -}}

{{/*
"stack.trustEnv", ".trustMounts", ".trustVolumes" (list ROOT KEYS): the authorities that a client
trusts besides those of its image, for what of KEYS (chat, embedding, ollama, mem0) it speaks to.
*/}}
{{- define "stack.authorities" -}}
{{- $values := (index . 0).Values -}}
{{- $secrets := dict
  "chat" $values.models.openai.chat.caSecret
  "embedding" $values.models.openai.embedding.caSecret
  "ollama" $values.ollama.external.caSecret
  "mem0" ($values.mem0.external.caSecret | default (include "stack.tlsSecret" (list (index . 0) "mem0")))
-}}
{{- range $use := index . 1 -}}
{{- with get $secrets $use }}
{{ $use }}: {{ . }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "stack.trustEnv" -}}
{{- if include "stack.authorities" . | fromYaml }}
- {name: TLS_CA_DIR, value: /run/tls/ca}
{{- end }}
{{- end -}}

{{- define "stack.trustMounts" -}}
{{- if include "stack.authorities" . | fromYaml }}
- {name: ca, mountPath: /run/tls/ca, readOnly: true}
{{- end }}
{{- end -}}

{{- define "stack.trustVolumes" -}}
{{- with include "stack.authorities" . | fromYaml }}
- name: ca
  projected:
    defaultMode: 288  # 0440: the pod's group reads
    sources:
      {{- range $key, $secret := . }}
      - secret: {name: {{ $secret }}, items: [{key: ca.crt, path: {{ $key }}.crt}]}
      {{- end }}
{{- end }}
{{- end -}}

{{/*
"stack.address" URL: host and port of a URL, as YAML. Without a port, that of its scheme.
*/}}
{{- define "stack.address" -}}
{{- $url := urlParse . -}}
{{- $ports := dict "http" 80 "https" 443 "postgresql" 5432 "postgres" 5432 -}}
host: {{ $url.hostname | quote }}
port: {{ regexFind ":[0-9]+$" $url.host | trimPrefix ":" | default (get $ports $url.scheme) }}
{{- end -}}

{{/* "stack.postgresUrl" (list ROOT KEY): address of the database KEY, without a login. */}}
{{- define "stack.postgresUrl" -}}
{{- $root := index . 0 -}}
{{- $key := index . 1 -}}
{{- $values := index $root.Values $key -}}
{{- if $values.external.url -}}
{{- $values.external.url -}}
{{- else if $values.cloudNativePG.cluster -}}
{{- printf "postgresql://%s-rw:5432/%s" $values.cloudNativePG.cluster $values.cloudNativePG.database -}}
{{- else -}}
{{- $part := index (include "stack.parts" $root | fromYaml) $key -}}
{{- printf "%s/%s" (include "stack.url" (list $root $key "postgresql")) $part.database -}}
{{- end -}}
{{- end -}}

{{/* "stack.postgresSecret" (list ROOT KEY): the Secret with username and password of its login. */}}
{{- define "stack.postgresSecret" -}}
{{- $root := index . 0 -}}
{{- $key := index . 1 -}}
{{- $values := index $root.Values $key -}}
{{- if include "stack.isMade" . -}}
{{- $part := index (include "stack.parts" $root | fromYaml) $key -}}
{{- include "stack.name" (list $root (printf "%s-db" $part.database)) -}}
{{- else -}}
{{- $values.existingSecret | default (printf "%s-app" $values.cloudNativePG.cluster) -}}
{{- end -}}
{{- end -}}

{{/*
"stack.postgresTls" (list ROOT KEY): how the connection to it is secured, as YAML: mode, and the
Secret with the authority that its certificate is checked against ("": those of the image).
*/}}
{{- define "stack.postgresTls" -}}
{{- $values := index (index . 0).Values (index . 1) -}}
{{- if $values.external.url -}}
mode: {{ $values.external.tls.mode | default "verify-full" }}
caSecret: {{ $values.external.tls.caSecret | quote }}
{{- else if $values.cloudNativePG.cluster -}}
mode: verify-full
caSecret: {{ printf "%s-ca" $values.cloudNativePG.cluster }}
{{- else -}}
{{- $secret := include "stack.tlsSecret" . -}}
mode: {{ empty $secret | ternary "" "verify-full" | quote }}
caSecret: {{ $secret | quote }}
{{- end -}}
{{- end -}}

{{/*
"stack.databaseEnv", ".databaseMounts", ".databaseVolumes" (list ROOT KEY): what a client of
database KEY is told. Its login may change while it runs; the authority is read when it starts.
*/}}
{{- define "stack.databaseEnv" -}}
{{- $tls := include "stack.postgresTls" . | fromYaml -}}
- {name: DATABASE_USER_FILE, value: /run/secrets/db/username}
- {name: DATABASE_PASSWORD_FILE, value: /run/secrets/db/password}
{{- with $tls.mode }}
- {name: DATABASE_TLS_MODE, value: {{ . }}}
{{- end }}
{{- if $tls.caSecret }}
- {name: DATABASE_CA_FILE, value: /run/tls/db/ca.crt}
{{- end }}
{{- end -}}

{{- define "stack.databaseMounts" -}}
{{- $tls := include "stack.postgresTls" . | fromYaml -}}
- {name: db, mountPath: /run/secrets/db, readOnly: true}
{{- if $tls.caSecret }}
- {name: db-ca, mountPath: /run/tls/db, readOnly: true}
{{- end }}
{{- end -}}

{{- define "stack.databaseVolumes" -}}
{{- $tls := include "stack.postgresTls" . | fromYaml -}}
{{ include "stack.secretVolume" (list "db" (include "stack.postgresSecret" .) (list "username" "password")) }}
{{- if $tls.caSecret }}
{{ include "stack.secretVolume" (list "db-ca" $tls.caSecret (list "ca.crt")) }}
{{- end }}
{{- end -}}

{{/*
"stack.mem0KeyVolume" ROOT: the keys of the memory server, for a client of it. Of one brought from
outside it is the user's key as it is.
*/}}
{{- define "stack.mem0KeyVolume" -}}
{{- if include "stack.isMade" (list . "mem0") -}}
{{- include "stack.secretVolume" (list "mem0-key" (include "stack.name" (list . "mem0-key")) list) -}}
{{- else -}}
- name: mem0-key
  secret:
    secretName: {{ .Values.mem0.existingSecret }}
    defaultMode: 288  # 0440: the pod's group reads
    items: [{key: api-key, path: current}]
{{- end -}}
{{- end -}}

{{/*
"stack.generated" ROOT: what is generated for this instance, one a line: each is a Secret that its
pods mount.
*/}}
{{- define "stack.generated" -}}
{{- if include "stack.isMade" (list . "metisPostgres") }}
- metis-db
{{- end }}
{{- if include "stack.isMade" (list . "mem0Postgres") }}
- mem0-db
{{- end }}
{{- if include "stack.isMade" (list . "mem0") }}
- mem0-key
{{- end }}
{{- if and (eq .Values.auth.mode "keys") (not .Values.auth.existingSecret) }}
- auth
{{- end }}
{{- end -}}

{{/*
"stack.rotated" ROOT: which of them are rotated, by purpose: the key of its rules, and for a
database its StatefulSet.
*/}}
{{- define "stack.rotated" -}}
{{- $rows := dict
  "mem0-key" (dict "rule" "mem0Key")
  "metis-db" (dict "rule" "metisDb" "database" "metis-postgres")
  "mem0-db" (dict "rule" "mem0Db" "database" "mem0-postgres")
-}}
{{- range include "stack.generated" . | fromYamlArray -}}
{{- if hasKey $rows . }}
{{ . }}: {{ get $rows . | toJson }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
"stack.egress" (list ROOT KEY): the rule that lets a pod reach part KEY, made here or elsewhere, or
with KEY chat or embedding a server of such a model. Nothing where none is used.
*/}}
{{- define "stack.egress" -}}
{{- $root := index . 0 -}}
{{- $key := index . 1 -}}
{{- if has $key (list "chat" "embedding") -}}
{{- with index $root.Values.models.openai $key -}}
{{- if .url -}}
{{- include "stack.egressTo" (list .url .peers) -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- include "stack.egressToPart" . -}}
{{- end -}}
{{- end -}}

{{- define "stack.egressToPart" -}}
{{- $root := index . 0 -}}
{{- $key := index . 1 -}}
{{- $values := index $root.Values $key -}}
{{- $part := index (include "stack.parts" $root | fromYaml) $key -}}
{{- if include "stack.isMade" . -}}
- ports:
    - {port: {{ $part.port }}, protocol: TCP}
  to:
    - {{ include "stack.peer" (list $root $part.component) | nindent 6 | trim }}
{{- else if dig "cloudNativePG" "cluster" "" $values -}}
- ports:
    - {port: 5432, protocol: TCP}
  to:
    - podSelector:
        matchLabels: {cnpg.io/cluster: {{ $values.cloudNativePG.cluster }}}
{{- else if and $values.external.url (or (ne $key "ollama") (include "stack.ollamaModels" $root | fromYamlArray)) -}}
{{ include "stack.egressTo" (list $values.external.url $values.external.peers) }}
{{- end -}}
{{- end -}}

{{/* "stack.egressTo" (list URL PEERS): the rule that lets a pod reach URL, at PEERS if any. */}}
{{- define "stack.egressTo" -}}
- ports:
    - {port: {{ (include "stack.address" (index . 0) | fromYaml).port }}, protocol: TCP}
  {{- with index . 1 }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
