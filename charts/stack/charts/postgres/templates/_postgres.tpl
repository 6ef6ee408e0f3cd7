{{/*
A PostgreSQL with pgvector, by the contract of the official image. Called through "stack.render"
with the context of part "metisPostgres" or "mem0Postgres".
*/}}

{{- define "postgres.manifests" -}}
{{- $part := merge (dict "library" "postgres" "portName" "postgres" "claim" "data") . -}}
{{ include "stack.serviceAccount" $part }}
---
{{ include "stack.service" $part }}
---
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "stack.metadata" (list .root .component) | nindent 2 }}
data:
  {{- include "postgres.config" $part | nindent 2 }}
---
{{ include "stack.statefulSet" $part }}
{{- include "stack.certificate" $part }}
{{- end -}}

{{- define "postgres.initContainers" -}}{{- end -}}

{{- define "postgres.containers" -}}
- {{ include "stack.container" (dict "part" . "name" .component "image" (include "stack.image" (list .root .values.image))) | nindent 2 | trim }}
  command: [sh, /etc/metis/start.sh]
  args:
    - postgres
    {{- range $name, $value := include "postgres.parameters" . | fromYaml }}
    - -c
    - {{ printf "%s=%s" $name $value | quote }}
    {{- end }}
  env:
    - {name: POSTGRES_USER, value: postgres}
    - {name: POSTGRES_DB, value: {{ .database }}}
    - {name: POSTGRES_INITDB_ARGS, value: "--data-checksums --auth-host=scram-sha-256"}
    - {name: PGDATA, value: /var/lib/postgresql/data/pgdata}
    {{- with include "stack.extraEnv" . }}
    {{- . | nindent 4 }}
    {{- end }}
  ports:
    - {name: postgres, containerPort: {{ .port }}}
  {{- /* A fast shutdown, whatever signal the image stops with: the sessions end, the data is written. */}}
  lifecycle:
    preStop:
      exec: {command: [pg_ctl, stop, -m, fast, -W]}
  {{- /* Over TCP: while the database is being made, its temporary server has only the socket. Crash
         recovery may take long and must not be cut short, so the start has half an hour. A look is a
         process in the container, which costs more than an idle database does: hence its 5 s. */}}
  startupProbe:
    exec: {command: [pg_isready, -q, -h, 127.0.0.1, -U, postgres, -d, {{ .database }}]}
    periodSeconds: 1
    timeoutSeconds: 5
    failureThreshold: 1800
  livenessProbe:
    exec: {command: [pg_isready, -q, -h, 127.0.0.1, -U, postgres, -d, {{ .database }}]}
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 5
  readinessProbe:
    exec: {command: [pg_isready, -q, -h, 127.0.0.1, -U, postgres, -d, {{ .database }}]}
    periodSeconds: 5
    timeoutSeconds: 5
    failureThreshold: 2
  resources:
    {{- toYaml .values.resources | nindent 4 }}
  volumeMounts:
    - {name: data, mountPath: /var/lib/postgresql/data}
    - {name: tmp, mountPath: /tmp}
    - {name: sockets, mountPath: /var/run/postgresql}
    - {name: shm, mountPath: /dev/shm}
    - {name: start, mountPath: /etc/metis, readOnly: true}
    - {name: initdb, mountPath: /docker-entrypoint-initdb.d, readOnly: true}
    - {name: db, mountPath: /run/secrets/db, readOnly: true}
    {{- include "stack.serverCertificateMount" . | indent 4 }}
    {{- with include "stack.extraMounts" . }}
    {{- . | nindent 4 }}
    {{- end }}
{{- end -}}

{{- define "postgres.volumes" -}}
- {name: tmp, emptyDir: {sizeLimit: 256Mi}}
- {name: sockets, emptyDir: {sizeLimit: 1Mi}}
{{- /* Parallel queries and index builds share memory here; the runtime's own 64 MiB are too few. */}}
- {name: shm, emptyDir: {medium: Memory, sizeLimit: {{ include "postgres.sharedMemory" . }}}}
- name: start
  configMap:
    name: {{ include "stack.name" (list .root .component) }}
    items: [{key: start.sh, path: start.sh}]
- name: initdb
  configMap:
    name: {{ include "stack.name" (list .root .component) }}
    defaultMode: 365  # 0555: the image runs what is executable
    items:
      - {key: 05-superuser.sh, path: 05-superuser.sh}
      - {key: 10-roles.sh, path: 10-roles.sh}
      - {key: 99-done.sh, path: 99-done.sh}
{{ include "stack.secretVolume" (list "db" (include "stack.name" (list .root (printf "%s-db" .database))) (list "username" "password" "superuser-password")) }}
{{- include "stack.serverCertificateVolume" . }}
{{- end -}}
