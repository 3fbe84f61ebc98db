#!/bin/sh
# Puts passwords from files where the clients look for them, and becomes the command.
#   PGPASSWORD_FILE      PostgreSQL (libpq, asyncpg)
#   REDISCLI_AUTH_FILE   Redis
# Everything else reads its own file: Airflow by *_CMD, boto3 by AWS_SHARED_CREDENTIALS_FILE.
set -eu
if [ -n "${PGPASSWORD_FILE:-}" ]; then
  PGPASSWORD=$(cat "$PGPASSWORD_FILE")
  export PGPASSWORD
fi
if [ -n "${REDISCLI_AUTH_FILE:-}" ]; then
  REDISCLI_AUTH=$(cat "$REDISCLI_AUTH_FILE")
  export REDISCLI_AUTH
fi
exec "$@"
