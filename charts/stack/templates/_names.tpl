{{/*
Names and labels. Every template here takes a part's context, the dict that "stack.part" makes:
  root       the chart's root context
  key        key of the part's values (metisPostgres)
  component  name of the part in labels and object names (metis-postgres)
  values     .Values of the part
  port       the port that the container listens on
  uid        user and group id that the pod runs as
*/}}

{{/* The table of the topology: the parts by the key of their values, with what is fixed for each. */}}
{{- define "stack.parts" -}}
app: {component: app, port: 8000, uid: 10001, graceSeconds: 90}
mem0: {component: mem0, port: 8050, uid: 10001, graceSeconds: 45}
ollama: {component: ollama, port: 11434, uid: 10001, graceSeconds: 30}
metisPostgres: {component: metis-postgres, port: 5432, uid: 999, graceSeconds: 60, database: metis, client: app, pool: 5, overflow: 10}
mem0Postgres: {component: mem0-postgres, port: 5432, uid: 999, graceSeconds: 60, database: mem0, client: mem0, pool: 10, overflow: 0}
{{- end -}}

{{/* "stack.name" (list ROOT COMPONENT): the name of every object of that component. */}}
{{- define "stack.name" -}}
{{- printf "%s-%s" (index . 0).Release.Name (index . 1) -}}
{{- end -}}

{{/* "stack.selectorLabels" (list ROOT COMPONENT): what selects a component's pods; never changes. */}}
{{- define "stack.selectorLabels" -}}
app.kubernetes.io/name: metis-rag
app.kubernetes.io/instance: {{ (index . 0).Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* "stack.labels" (list ROOT COMPONENT): the labels of an object; not of pods. */}}
{{- define "stack.labels" -}}
{{- $root := index . 0 -}}
{{- $own := dict
  "app.kubernetes.io/part-of" "metis-rag"
  "app.kubernetes.io/managed-by" $root.Release.Service
  "app.kubernetes.io/version" $root.Chart.AppVersion
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version)
-}}
{{- merge (include "stack.selectorLabels" . | fromYaml) $own $root.Values.commonLabels | toYaml -}}
{{- end -}}

{{/*
"stack.metadata" (list ROOT COMPONENT [ANNOTATIONS]): metadata of an object of that component.
*/}}
{{- define "stack.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "stack.name" . }}
namespace: {{ $root.Release.Namespace | quote }}
labels:
  {{- include "stack.labels" . | nindent 2 }}
{{- $own := gt (len .) 2 | ternary (last .) dict }}
{{- with merge (dict) $own $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* "stack.imageName" (list ROOT NAME): NAME with its registry replaced by image.registry. */}}
{{- define "stack.imageName" -}}
{{- $registry := (index . 0).Values.image.registry -}}
{{- $name := index . 1 -}}
{{- if $registry -}}
{{- $host := splitList "/" $name | first -}}
{{- if and (contains "/" $name) (or (contains "." $host) (contains ":" $host) (eq $host "localhost")) -}}
{{- $name = trimPrefix (printf "%s/" $host) $name -}}
{{- end -}}
{{- printf "%s/%s" $registry $name -}}
{{- else -}}
{{- $name -}}
{{- end -}}
{{- end -}}

{{/* "stack.image" (list ROOT IMAGE): reference of an image given as repository, tag and digest. */}}
{{- define "stack.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $name := include "stack.imageName" (list $root $image.repository) -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name ($image.tag | default $root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* "stack.url" (list ROOT KEY SCHEME): where another part reaches the Service of part KEY. */}}
{{- define "stack.url" -}}
{{- $root := index . 0 -}}
{{- $key := index . 1 -}}
{{- $part := index (include "stack.parts" $root | fromYaml) $key -}}
{{- printf "%s://%s:%v" (index . 2) (include "stack.name" (list $root $part.component)) (index $root.Values $key).service.port -}}
{{- end -}}

{{/* "stack.mebibytes" QUANTITY: a quantity of memory in whole MiB. */}}
{{- define "stack.mebibytes" -}}
{{- $text := kindIs "string" . | ternary (toString .) (printf "%d" (int64 .)) -}}
{{- $number := regexFind "^[0-9.]+" $text | float64 -}}
{{- $suffix := trimPrefix (regexFind "^[0-9.]+" $text) $text -}}
{{- $units := dict "" 1 "k" 1e3 "Ki" 1024 "M" 1e6 "Mi" 1048576 "G" 1e9 "Gi" 1073741824 "T" 1e12 "Ti" 1099511627776 -}}
{{- if not (hasKey $units $suffix) -}}
{{- fail (printf "%q is no usual amount of memory: write it in Mi or Gi, such as 1Gi" $text) -}}
{{- end -}}
{{- divf (mulf $number (get $units $suffix)) 1048576 | floor | int -}}
{{- end -}}

{{/*
"stack.anyAddress" ROOT: what a server listens on: all IPv4 addresses, or (empty) those of both
families where Services may have either.
*/}}
{{- define "stack.anyAddress" -}}
{{- with .Values.services -}}
{{- if not (or (has "IPv6" .ipFamilies) (contains "DualStack" .ipFamilyPolicy)) -}}
0.0.0.0
{{- end -}}
{{- end -}}
{{- end -}}

{{/* "stack.serviceAccountName" PART: the ServiceAccount that the part's pods run as. */}}
{{- define "stack.serviceAccountName" -}}
{{- .values.serviceAccount.name | default (include "stack.name" (list .root .component)) -}}
{{- end -}}

{{/* "stack.authSecret" ROOT: the Secret with the users' keys. */}}
{{- define "stack.authSecret" -}}
{{- .Values.auth.existingSecret | default (include "stack.name" (list . "auth")) -}}
{{- end -}}

{{/*
"stack.broughtSecrets" ROOT: the Secrets to follow, by what they hold. (That of a database brought
from outside is mounted as it is.)
*/}}
{{- define "stack.broughtSecrets" -}}
{{- $root := . -}}
{{- range $purpose, $key := dict "mem0-key" "mem0" "metis-db" "metisPostgres" "mem0-db" "mem0Postgres" }}
{{- $name := (index $root.Values $key).existingSecret }}
{{- if and $name (or (eq $key "mem0") (include "stack.isMade" (list $root $key))) }}
{{ $purpose }}: {{ $name }}
{{- end }}
{{- end }}
{{- end -}}
