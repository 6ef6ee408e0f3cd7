{{/*
What PostgreSQL is told about its memory and its clients. The shares of memory are those that its
documentation advises for a server with a machine of its own: a quarter for shared buffers; the
container's limit is that machine.
*/}}

{{/* "postgres.parameters" PART: the server's settings by name; the user's own win. */}}
{{- define "postgres.parameters" -}}
{{- $connections := include "postgres.maxConnections" . | int -}}
{{- $parameters := dict "max_connections" (toString $connections) -}}
{{- $limit := get ((.values.resources | default dict).limits | default dict) "memory" -}}
{{- if $limit -}}
{{- $memory := include "stack.mebibytes" $limit | int -}}
{{- $work := max 4 (div $memory (mul 4 $connections)) -}}
{{- $parameters = merge $parameters (dict
  "shared_buffers" (printf "%dMB" (max 16 (div $memory 4)))
  "effective_cache_size" (printf "%dMB" (max 16 (div (mul $memory 5) 8)))
  "maintenance_work_mem" (printf "%dMB" (min 2047 (max 16 (div $memory 16))))
  "work_mem" (printf "%dMB" $work)
) -}}
{{- end -}}
{{- if include "stack.tlsSecret" (list .root .key) -}}
{{- $parameters = merge $parameters (dict
  "ssl" "on"
  "ssl_cert_file" "/run/tls/server/tls.crt"
  "ssl_key_file" "/run/tls/server/tls.key"
) -}}
{{- end -}}
{{- mergeOverwrite $parameters .values.parameters | toYaml -}}
{{- end -}}

{{/*
"postgres.clientConnections" PART: connections that the pods of the part's client may hold at a
time: of each its pool and 6 beside it (listeners, migrations, the index), while a rollout has one
pod more than wanted; and 10 for people and probes.
*/}}
{{- define "postgres.clientConnections" -}}
{{- $client := index .root.Values .client -}}
{{- $settings := dict -}}
{{- range $name, $value := $client.settings -}}
{{- $_ := set $settings (lower $name) $value -}}
{{- end -}}
{{- $pool := get $settings "database_pool_size" | default .pool | int -}}
{{- if .overflow -}}
{{- $pool = add $pool (hasKey $settings "database_max_overflow" | ternary (get $settings "database_max_overflow") .overflow | int) -}}
{{- end -}}
{{- $replicas := $client.autoscaling.enabled | ternary $client.autoscaling.maxReplicas ($client.replicas | default 1) | int -}}
{{- add 10 (mul (add 1 $replicas) (add $pool 6)) -}}
{{- end -}}

{{- define "postgres.maxConnections" -}}
{{- $needed := include "postgres.clientConnections" . | int -}}
{{- if .values.maxConnections -}}
{{- if lt (int .values.maxConnections) $needed -}}
{{- fail (printf "%s.maxConnections is %v but the pods of %s may open %d: raise it to %d, leave it out, or lower %s.replicas or %s.settings.database_pool_size" .key .values.maxConnections .client $needed $needed .client .client) -}}
{{- end -}}
{{- .values.maxConnections -}}
{{- else -}}
{{- mul 200 (div (add $needed 199) 200) -}}
{{- end -}}
{{- end -}}

{{/* "postgres.sharedMemory" PART: size of /dev/shm, a quarter of the limit. It counts towards it. */}}
{{- define "postgres.sharedMemory" -}}
{{- $limit := get ((.values.resources | default dict).limits | default dict) "memory" | default "1Gi" -}}
{{- printf "%dMi" (max 64 (div (include "stack.mebibytes" $limit | int) 4)) -}}
{{- end -}}
