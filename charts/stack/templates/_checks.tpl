{{/*
What the values' schema cannot see: combinations that make no working instance. Each message says
what to write instead.
*/}}
{{- define "stack.checks" -}}
{{- $name := .Release.Name -}}
{{- /* A StatefulSet's pods carry its name and an 11-character revision in a label of at most 63. */ -}}
{{- if gt (len $name) 37 -}}
{{- fail (printf "the instance name %q has %d characters: choose one of at most 37, because Kubernetes allows 63 in the labels made from it" $name (len $name)) -}}
{{- end -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "the instance name %q cannot name a Service: begin with a lower-case letter and use only a-z, 0-9 and '-'" $name) -}}
{{- end -}}
{{- if and (eq .Values.auth.mode "none") .Values.auth.existingSecret -}}
{{- fail "auth.existingSecret is set but auth.mode is none, which asks for no key: set auth.mode=keys or empty auth.existingSecret" -}}
{{- end -}}
{{- range $key, $part := pick .Values "app" "mem0" "ollama" "metisPostgres" "mem0Postgres" -}}
{{- if and $part.service.nodePort (eq $part.service.type "ClusterIP") -}}
{{- fail (printf "%s.service.nodePort is %v but %s.service.type is ClusterIP: set the type to NodePort or leave nodePort out" $key $part.service.nodePort $key) -}}
{{- end -}}
{{- end -}}
{{- include "stack.externalChecks" . -}}
{{- include "stack.tlsChecks" . -}}
{{- range $key := list "app" "mem0" -}}
{{- with (index $.Values $key) -}}
{{- if and .autoscaling.enabled (not (kindIs "invalid" .replicas)) -}}
{{- fail (printf "%s.replicas is %v but %s.autoscaling is enabled and would fight for it: leave %s.replicas out" $key .replicas $key $key) -}}
{{- end -}}
{{- if gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas) -}}
{{- fail (printf "%s.autoscaling.minReplicas is %v, more than maxReplicas (%v): raise maxReplicas" $key .autoscaling.minReplicas .autoscaling.maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.app -}}
{{- if and .ingress.enabled (not .ingress.host) -}}
{{- fail "app.ingress.enabled is true but app.ingress.host is empty: name the host that the Ingress answers for" -}}
{{- end -}}
{{- if and .httpRoute.enabled (not .httpRoute.parentRefs) -}}
{{- fail "app.httpRoute.enabled is true but app.httpRoute.parentRefs is empty: name the Gateway to attach to, as [{name: GATEWAY, namespace: NAMESPACE}]" -}}
{{- end -}}
{{- end -}}
{{- with .Values.ollama.gpu -}}
{{- if and .enabled (hasSuffix ".shared" .resourceName) (gt (int .count) 1) -}}
{{- fail (printf "ollama.gpu.count is %v, but each %s may be a share of the same GPU, and more of them bring no more memory: set ollama.gpu.count=1" .count .resourceName) -}}
{{- end -}}
{{- end -}}
{{- $gpu := .Values.ollama.gpu.resourceName -}}
{{- range $kind := list "requests" "limits" -}}
{{- if hasKey (dig $kind dict $.Values.ollama.resources | default dict) $gpu -}}
{{- fail (printf "ollama.resources.%s names %s: set ollama.gpu.enabled=true and ollama.gpu.count instead" $kind $gpu) -}}
{{- end -}}
{{- end -}}
{{- range $key := list "app" "mem0" -}}
{{- range $setting, $_ := (index $.Values $key).settings -}}
{{- if regexMatch "(?i)(password|secret|api_key|token$)" $setting -}}
{{- fail (printf "%s.settings.%s looks like a secret: settings are stored in plain sight; credentials are generated, or given in a Secret (auth.existingSecret)" $key $setting) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
