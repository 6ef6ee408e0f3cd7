{{/*
The scripts around the first start.

A first start that is killed half-way leaves a data folder that looks whole and is not: no roles,
perhaps no database. So start.sh leaves a marker before it, 99-done.sh takes it away after it, and a
start that finds the marker beside a data folder makes that folder anew. Nothing is lost: PostgreSQL
accepts no connection from outside before the marker is gone. start.sh is the container's command,
not an init container, because a container that restarts inside its pod does not run those again.
*/}}
{{- define "postgres.config" -}}
start.sh: |
  set -eu
  volume=/var/lib/postgresql/data
  marker=$volume/initializing
  if [ -e "$marker" ] && [ -e "$PGDATA" ]; then
    echo "start: the first start was interrupted; its half-made data is put aside in" \
      "$PGDATA.interrupted and the database is made anew" >&2
    rm -rf "$PGDATA.interrupted"
    mv "$PGDATA" "$PGDATA.interrupted"
  fi
  server=$(postgres --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
  if [ -s "$PGDATA/PG_VERSION" ] && [ "$(cat "$PGDATA/PG_VERSION")" != "$server" ]; then
    echo "start: the volume holds data of PostgreSQL $(cat "$PGDATA/PG_VERSION") and this image is" \
      "PostgreSQL $server, which cannot read it. Nothing was changed. Set the image's tag back, dump" \
      "the database there (pg_dump), and restore it into a new volume" >&2
    exit 1
  fi
  if [ ! -s "$PGDATA/PG_VERSION" ]; then
    : >"$marker"
    sync "$marker" "$volume"
  fi
  exec docker-entrypoint.sh "$@"

10-roles.sh: |
  #!/bin/sh
  # Makes the owner of the database, which cannot log in, and the login role, a member of it that
  # acts as the owner: so the login can be exchanged for another without touching what it made.
  # Can be run again at any time. Passwords reach psql from files, never as arguments, and the
  # server logs no statement of this session, not even one that fails.
  set -eu
  exec psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 \
    --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set owner="${POSTGRES_DB}_owner" <<'SQL'
  \set login `cat /run/secrets/db/username`
  \set password `cat /run/secrets/db/password`
  SET client_min_messages = 'warning';
  SET log_statement = 'none';
  SET log_min_error_statement = 'panic';
  SET log_min_duration_statement = -1;
  SELECT format('CREATE ROLE %I NOLOGIN', :'owner')
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'owner') \gexec
  SELECT format('CREATE ROLE %I', :'login')
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'login') \gexec
  ALTER ROLE :"login" LOGIN INHERIT PASSWORD :'password';
  GRANT :"owner" TO :"login";
  ALTER ROLE :"login" SET role = :'owner';
  ALTER DATABASE :"DBNAME" OWNER TO :"owner";
  REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC;
  ALTER SCHEMA public OWNER TO :"owner";
  CREATE EXTENSION IF NOT EXISTS vector;
  SQL

99-done.sh: |
  #!/bin/sh
  set -eu
  rm -f /var/lib/postgresql/data/initializing
{{- end -}}
