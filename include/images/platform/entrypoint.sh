#!/bin/sh
# Puts passwords from files where the clients look for them, and becomes the command.
#   PGPASSWORD_FILE      into PGPASSFILE, for libpq and asyncpg, also in a shell that joins the container later
#   REDISCLI_AUTH_FILE   into REDISCLI_AUTH
# Everything else reads its own file: Airflow by *_CMD, boto3 by AWS_SHARED_CREDENTIALS_FILE.
set -eu
if [ -n "${PGPASSWORD_FILE:-}" ]; then
  # libpq takes a file that its owner alone may read, which a mounted secret is not.
  (umask 077 && printf '*:*:*:*:%s\n' "$(sed 's/[\\:]/\\&/g' "$PGPASSWORD_FILE")" >"$PGPASSFILE")
fi
if [ -n "${REDISCLI_AUTH_FILE:-}" ]; then
  REDISCLI_AUTH=$(cat "$REDISCLI_AUTH_FILE")
  export REDISCLI_AUTH
fi
# A volume is empty at first.
if [ -n "${MILLRACE_DUCKDB_TEMP:-}" ]; then
  mkdir -p "$MILLRACE_DUCKDB_TEMP"
fi
exec "$@"
