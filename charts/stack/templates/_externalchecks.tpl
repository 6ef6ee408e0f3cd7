{{/*
What cannot work of what is brought from outside. Each message says what to write instead.
*/}}
{{- define "stack.externalChecks" -}}
{{- range $key := list "metisPostgres" "mem0Postgres" -}}
{{- include "stack.databaseChecks" (list $ $key) -}}
{{- end -}}
{{- if .Values.mem0.external.url -}}
{{- if not .Values.mem0.existingSecret -}}
{{- fail "mem0.external.url is set but mem0.existingSecret is empty: create a Secret with the entry api-key, a key that the memory server accepts, and name it there" -}}
{{- end -}}
{{- if or .Values.mem0Postgres.external.url .Values.mem0Postgres.cloudNativePG.cluster -}}
{{- fail "mem0.external.url is set, so nothing here uses the database that mem0Postgres names: empty one of them" -}}
{{- end -}}
{{- end -}}
{{- $servers := dict "mem0.external" .Values.mem0.external "ollama.external" .Values.ollama.external "models.openai.chat" .Values.models.openai.chat "models.openai.embedding" .Values.models.openai.embedding -}}
{{- range $path, $server := $servers -}}
{{- $url := urlParse $server.url -}}
{{- if $url.userinfo -}}
{{- fail (printf "%s.url holds a login or key, which would be in plain sight: put the key into a Secret" $path) -}}
{{- end -}}
{{- if and $server.url (or (not $url.hostname) $url.query $url.fragment) -}}
{{- fail (printf "%s.url is %q: write it as http://HOST:PORT, without parameters" $path $server.url) -}}
{{- end -}}
{{- if and (not $server.url) (or $server.caSecret $server.peers $server.keySecret) -}}
{{- fail (printf "%s.url is empty, so what stands beside it is of no use: name the address, or empty the rest" $path) -}}
{{- end -}}
{{- if and $server.caSecret (ne $url.scheme "https") -}}
{{- fail (printf "%s.caSecret is set but %s.url is not https: write https://, or empty caSecret" $path $path) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.ollama.external.url (not (include "stack.ollamaModels" . | fromYamlArray)) -}}
{{- fail "ollama.external.url is set, but models.openai names servers for both models, so no Ollama is used: empty one of them" -}}
{{- end -}}
{{- $places := list -}}
{{- range $key := list "metisPostgres" "mem0Postgres" -}}
{{- $url := include "stack.postgresUrl" (list $ $key) -}}
{{- $address := include "stack.address" $url | fromYaml -}}
{{- $places = append $places (printf "%s:%v%s" $address.host $address.port (urlParse $url).path) -}}
{{- end -}}
{{- if and (not .Values.mem0.external.url) (eq (first $places) (last $places)) -}}
{{- fail (printf "metisPostgres and mem0Postgres are both the database at %s: each needs a database of its own; create a second one in that server and name it in mem0Postgres" (first $places)) -}}
{{- end -}}
{{- end -}}

{{/* "stack.databaseChecks" (list ROOT KEY) */}}
{{- define "stack.databaseChecks" -}}
{{- $key := index . 1 -}}
{{- with index (index . 0).Values $key -}}
{{- $url := urlParse .external.url -}}
{{- if and .external.url .cloudNativePG.cluster -}}
{{- fail (printf "%s.external.url and %s.cloudNativePG.cluster are both set: empty one of them" $key $key) -}}
{{- end -}}
{{- if $url.userinfo -}}
{{- fail (printf "%s.external.url holds a login, which would be in plain sight: write postgresql://%s%s there, and username and password into a Secret that %s.existingSecret names" $key $url.host $url.path $key) -}}
{{- end -}}
{{- if or $url.query $url.fragment -}}
{{- fail (printf "%s.external.url has parameters after the database's name: leave them out; TLS is set in %s.external.tls" $key $key) -}}
{{- end -}}
{{- if and .external.url (not (regexMatch "^/[^/]+$" $url.path)) -}}
{{- fail (printf "%s.external.url names no database: write postgresql://HOST:5432/DATABASE" $key) -}}
{{- end -}}
{{- if and .external.url (not $url.hostname) -}}
{{- fail (printf "%s.external.url names no host: write postgresql://HOST:5432/DATABASE" $key) -}}
{{- end -}}
{{- if and .external.url (not .existingSecret) -}}
{{- fail (printf "%s.external.url is set but %s.existingSecret is empty: create a Secret with the entries username and password of the database's login and name it there" $key $key) -}}
{{- end -}}
{{- if not .external.url -}}
{{- if or .external.tls.mode .external.tls.caSecret .external.peers -}}
{{- fail (printf "%s.external.url is empty, so the rest of %s.external is of no use: name the database's address, or empty the rest" $key $key) -}}
{{- end -}}
{{- end -}}
{{- if and .external.tls.caSecret (has .external.tls.mode (list "disable" "prefer" "require")) -}}
{{- fail (printf "%s.external.tls.mode is %s, which checks no certificate, but caSecret names an authority: set the mode to verify-full or empty caSecret" $key .external.tls.mode) -}}
{{- end -}}
{{- end -}}
{{- end -}}
