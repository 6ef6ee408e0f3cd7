{{/* "metis-rag.instance" ROOT: name of the MetisRAG that this release makes. */}}
{{- define "metis-rag.instance" -}}
{{- .Values.instance.name | default .Release.Name -}}
{{- end -}}

{{/*
"metis-rag.spec" ROOT: what holds for the instance that this release makes: the spec of its MetisRAG
over the operator's defaults, or without an operator the values of the stack.
*/}}
{{- define "metis-rag.spec" -}}
{{- if .Values.stack.enabled -}}
{{- toYaml .Values.stack -}}
{{- else -}}
{{- mergeOverwrite (deepCopy (.Values.operator.defaults | default dict)) .Values.instance.spec | toYaml -}}
{{- end -}}
{{- end -}}

{{/* What the schema cannot see; each message says what to write instead. */}}
{{- define "metis-rag.checks" -}}
{{- $name := include "metis-rag.instance" . -}}
{{- if .Values.instance.create -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]{0,35}[a-z0-9])?$" $name) -}}
{{- fail (printf "%q cannot name an instance: at most 37 characters of a-z, 0-9 and '-', beginning with a letter. Give another release name or instance.name" $name) -}}
{{- end -}}
{{- if and .Values.stack.enabled (eq $name .Release.Name) -}}
{{- fail (printf "stack.enabled=true and instance.create=true would both make an instance named %q: for the stack without an operator add operator.enabled=false,instance.create=false" $name) -}}
{{- end -}}
{{- else if not (or .Values.operator.enabled .Values.stack.enabled) -}}
{{- fail "nothing to install: operator.enabled, instance.create and stack.enabled are all false" -}}
{{- end -}}
{{- if and .Values.stack.enabled (eq (dig "ollama" "gpu" "fallback" "none" .Values.stack) "cpu") -}}
{{- fail "stack.ollama.gpu.fallback is cpu, which only an operator can carry out: install the instance by the operator (instance.spec), or leave fallback out and set stack.ollama.gpu.enabled=false where no node has a GPU" -}}
{{- end -}}
{{- end -}}
