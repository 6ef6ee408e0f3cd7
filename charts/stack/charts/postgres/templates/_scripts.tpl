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
    # The image would keep the superuser's password in the environment of all that it starts, so it
    # gets one that 05-superuser.sh replaces.
    POSTGRES_PASSWORD=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n') docker-ensure-initdb.sh "$@"
  fi
  # The kubelet puts a renewed certificate there; the server reads it when it is told to.
  certificate=/run/tls/server/tls.crt
  if [ -e "$certificate" ]; then
    while seen=$(cksum <"$certificate"); sleep 10; do
      [ "$seen" = "$(cksum <"$certificate")" ] || pg_ctl reload || true
    done >/dev/null 2>&1 &
  fi
  # Where volumes get their group from the kubelet, it may write there too, which PostgreSQL refuses.
  chmod 700 "$PGDATA" || true
  exec "$@"

05-superuser.sh: |
  #!/bin/sh
  # Gives the superuser its password, from its file.
  set -eu
  exec psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 \
    --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
  \set password `cat /run/secrets/db/superuser-password`
  SET log_statement = 'none';
  SET log_min_error_statement = 'panic';
  SET log_min_duration_statement = -1;
  ALTER ROLE :"USER" PASSWORD :'password';
  SQL

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

rotate.sh: |
  # Changes the login roles from outside, in a Job of a rotation. "prepare" lets the login in the
  # files work, beside the present one. "revoke" closes the former one, ends what is left of its
  # sessions, and proves that it opens nothing while the present one does. Both can be run again.
  # EXPECTED is the fingerprint of the login that has to work afterwards: a mounted Secret may be
  # older than the Job.
  set -eu
  folder=/run/secrets/db
  fingerprint=$({ cat "$folder/username"; echo; cat "$folder/password"; } | sha256sum | cut -c1-12)
  if [ "$fingerprint" != "$EXPECTED" ]; then
    echo "rotate: the mounted Secret is not the one to use yet" >&2
    exit 3
  fi
  umask 077
  passfile() {  # NAME FILE: a password file for that user with the password in that file
    printf '*:*:*:*:%s\n' "$(sed 's/[\\:]/\\&/g' "$2")" >"/tmp/$1.pgpass"
  }
  may_log_in() {  # USER PASSFILE
    PGPASSFILE="/tmp/$2.pgpass" psql --no-psqlrc --quiet --no-password --username "$1" \
      --dbname "$POSTGRES_DB" --command 'SELECT 1' >/dev/null
  }
  login=$(cat "$folder/username")
  passfile super "$folder/superuser-password"
  passfile login "$folder/password"
  export PGPASSFILE=/tmp/super.pgpass
  if [ "$1" = prepare ]; then
    sh /etc/metis/10-roles.sh
    may_log_in "$login" login
    echo "rotate: $login may log in"
    exit
  fi
  former=$(cat "$folder/revoked-username")
  passfile former "$folder/revoked-password"
  may_log_in "$login" login
  if [ "$former" != "$login" ]; then
    psql --no-psqlrc --quiet --no-password --set ON_ERROR_STOP=1 --output /dev/null \
      --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set former="$former" <<'SQL'
  SELECT format('ALTER ROLE %I NOLOGIN PASSWORD NULL', :'former')
    WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = :'former') \gexec
  SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = :'former';
  SQL
  fi
  if may_log_in "$former" former 2>/tmp/refusal; then
    echo "rotate: $former may still log in with the former password" >&2
    exit 1
  fi
  may_log_in "$login" login
  echo "rotate: $former is refused, $login may log in"

99-done.sh: |
  #!/bin/sh
  set -eu
  rm -f /var/lib/postgresql/data/initializing
{{- end -}}
