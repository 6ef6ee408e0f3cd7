#!/usr/bin/env bash
# Makes the database on the first start, then becomes the server. Called docker-ensure-initdb.sh it
# ends there.
#
#   POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE   of the superuser; required on the first start
#   POSTGRES_USER (postgres), POSTGRES_DB (= user), POSTGRES_INITDB_ARGS
#   POSTGRES_HOST_AUTH_METHOD (the server's password_encryption; "trust" needs no password)
#   /docker-entrypoint-initdb.d/*.sh, *.sql, *.sql.gz run once, in order of name, while the server
#   listens on its Unix socket only.
set -Eeo pipefail

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# from_file NAME [DEFAULT]: NAME gets the value of NAME, else the contents of the file NAME_FILE.
from_file() {
	local name=$1 file="${1}_FILE"
	if [ -n "${!name:-}" ] && [ -n "${!file:-}" ]; then die "$name and $file are both set; set one"; fi
	if [ -n "${!file:-}" ]; then
		[ -r "${!file}" ] || die "$file names ${!file}, which cannot be read"
		printf -v "$name" '%s' "$(<"${!file}")"
	elif [ -z "${!name:-}" ]; then
		printf -v "$name" '%s' "${2:-}"
	fi
	export "${name?}"
	unset "$file"
}

# Sourced init scripts may use this: psql as the superuser, stopping at the first error.
docker_process_sql() {
	local database=()
	[ -z "$POSTGRES_DB" ] || database=(--dbname "$POSTGRES_DB")
	PGHOST= PGHOSTADDR= psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --no-password \
		--no-psqlrc "${database[@]}" "$@"
}

# initdb wants to know what its user is called; one that a cluster hands out has no name.
with_a_name() {
	local library name
	library=$(find /usr/lib -name libnss_wrapper.so -print -quit)
	if getent passwd "$(id -u)" >/dev/null || [ -z "$library" ]; then
		"$@"
		return
	fi
	name=$(mktemp -d)
	echo "postgres:x:$(id -u):$(id -g):PostgreSQL:$PGDATA:/bin/false" >"$name/passwd"
	echo "postgres:x:$(id -g):" >"$name/group"
	LD_PRELOAD=$library NSS_WRAPPER_PASSWD=$name/passwd NSS_WRAPPER_GROUP=$name/group "$@"
	rm -r "$name"
}

make_database() {
	[ -n "$POSTGRES_PASSWORD" ] || [ "$POSTGRES_HOST_AUTH_METHOD" = trust ] ||
		die "the database is not made yet and the superuser has no password: set POSTGRES_PASSWORD_FILE"
	local password=''
	[ -z "$POSTGRES_PASSWORD" ] || password='--pwfile=<(printf "%s\n" "$POSTGRES_PASSWORD")'
	# POSTGRES_INITDB_ARGS holds several arguments, split as a shell would.
	with_a_name eval "initdb --username=\"\$POSTGRES_USER\" $password $POSTGRES_INITDB_ARGS"
	local method=$POSTGRES_HOST_AUTH_METHOD
	[ -n "$method" ] || method=$(postgres -C password_encryption)
	printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
}

run_init_scripts() {
	local file
	for file in /docker-entrypoint-initdb.d/*; do
		case $file in
		*.sh)
			say "running $file"
			# shellcheck disable=SC1090
			if [ -x "$file" ]; then "$file"; else . "$file"; fi
			;;
		*.sql) say "running $file" && docker_process_sql -f "$file" ;;
		*.sql.gz) say "running $file" && gunzip -c "$file" | docker_process_sql ;;
		'/docker-entrypoint-initdb.d/*') ;;
		*) say "ignoring $file: neither .sh, .sql nor .sql.gz" ;;
		esac
	done
}

first_start() {
	from_file POSTGRES_PASSWORD
	from_file POSTGRES_USER postgres
	from_file POSTGRES_DB "$POSTGRES_USER"
	from_file POSTGRES_INITDB_ARGS
	: "${POSTGRES_HOST_AUTH_METHOD:=}"
	make_database
	# The temporary server: on the Unix socket alone, so that nobody takes it for the real one.
	export PGPASSWORD=$POSTGRES_PASSWORD
	pg_ctl -D "$PGDATA" -w -o "-c listen_addresses='' -p 5432" start
	if [ "$POSTGRES_DB" != postgres ]; then
		POSTGRES_DB='' docker_process_sql --dbname postgres --set db="$POSTGRES_DB" <<-'SQL'
			SELECT format('CREATE DATABASE %I', :'db')
			WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'db') \gexec
		SQL
	fi
	run_init_scripts
	pg_ctl -D "$PGDATA" -m fast -w stop
	unset PGPASSWORD
	say "the database is made; starting the server"
}

[ "${1:0:1}" != - ] || set -- postgres "$@"
if [ "$1" = postgres ]; then
	for argument; do
		case $argument in -\? | --help | --describe-config | -V | --version) exec "$@" ;; esac
	done
	mkdir -p "$PGDATA"
	if [ "$(id -u)" = 0 ]; then
		chown -R postgres:postgres "$PGDATA" /var/run/postgresql
		exec setpriv --reuid=postgres --regid=postgres --init-groups "$BASH_SOURCE" "$@"
	fi
	chmod 00700 "$PGDATA" || true
	[ -s "$PGDATA/PG_VERSION" ] || first_start
	[ "$(basename "$0")" != docker-ensure-initdb.sh ] || exit 0
fi
exec "$@"
