{{/*
TLS between the parts. A server mounts its certificate at /run/tls/server; a client gets of the same
Secret the authority's certificate only.
*/}}

{{/* "stack.tlsSecret" (list ROOT KEY): the Secret with the certificate of part KEY; "" without TLS. */}}
{{- define "stack.tlsSecret" -}}
{{- $root := index . 0 -}}
{{- $key := index . 1 -}}
{{- if and $root.Values.tls.enabled (has $key (list "mem0" "metisPostgres" "mem0Postgres")) (include "stack.isMade" .) -}}
{{- $part := index (include "stack.parts" $root | fromYaml) $key -}}
{{- $root.Values.tls.existingSecret | default (printf "%s-tls" (include "stack.name" (list $root $part.component))) -}}
{{- end -}}
{{- end -}}

{{/* "stack.serverCertificateMount", ".serverCertificateVolume" PART: nothing without TLS. */}}
{{- define "stack.serverCertificateMount" -}}
{{- if include "stack.tlsSecret" (list .root .key) }}
- {name: tls, mountPath: /run/tls/server, readOnly: true}
{{- end }}
{{- end -}}

{{- define "stack.serverCertificateVolume" -}}
{{- with include "stack.tlsSecret" (list .root .key) }}
{{ include "stack.secretVolume" (list "tls" . (list "tls.crt" "tls.key")) }}
{{- end }}
{{- end -}}

{{/* "stack.certificate" PART: the Certificate that cert-manager is asked for, if it is. */}}
{{- define "stack.certificate" -}}
{{- $issuer := .root.Values.tls.certManager.issuer -}}
{{- if and $issuer.name (include "stack.tlsSecret" (list .root .key)) }}
{{- $name := include "stack.name" (list .root .component) }}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  {{- include "stack.metadata" (list .root .component) | nindent 2 }}
spec:
  secretName: {{ include "stack.tlsSecret" (list .root .key) }}
  dnsNames:
    - {{ $name }}
    - {{ $name }}.{{ .root.Release.Namespace }}
    - {{ $name }}.{{ .root.Release.Namespace }}.svc
  privateKey: {algorithm: ECDSA, size: 256, rotationPolicy: Always}
  usages: [digital signature, server auth]
  issuerRef: {name: {{ $issuer.name }}, kind: {{ $issuer.kind }}, group: {{ $issuer.group }}}
{{- end }}
{{- end -}}

{{/* "stack.tlsChecks" ROOT: what cannot work of it. */}}
{{- define "stack.tlsChecks" -}}
{{- with .Values.tls -}}
{{- $issuer := .certManager.issuer.name -}}
{{- if and .enabled (not .existingSecret) (not $issuer) -}}
{{- fail "tls.enabled is true but nothing gives the certificates: name your Secret in tls.existingSecret, or an issuer of cert-manager's in tls.certManager.issuer.name" -}}
{{- end -}}
{{- if and .existingSecret $issuer -}}
{{- fail "tls.existingSecret and tls.certManager.issuer.name are both set: empty one of them" -}}
{{- end -}}
{{- if and (not .enabled) (or .existingSecret $issuer) -}}
{{- fail "tls names a certificate but tls.enabled is false: set it to true, or empty the rest" -}}
{{- end -}}
{{- end -}}
{{- end -}}
