"""Bring databases, buckets, registry, pool and user to where this version needs them; runs before every start.

Running it again changes nothing. What it works on are the variables of the other containers: it makes the databases and
buckets that they name. Ends with 1 and one line on stderr where something is refused or does not answer in time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from millrace.core.errors import MillraceError, Unavailable
from millrace.core.settings import Settings
from millrace.local.stack import POOL, THREADS_PER_TASK

LIMIT_S = 120


def main() -> None:
    """Step by step, each said on stderr."""
    project = Path(os.environ["MILLRACE_PROJECT"])
    settings = Settings.load(project)
    tracking = os.environ.get("MLFLOW_BACKEND_STORE_URI", "")
    for url in (os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"], settings.ledger, settings.feast_registry, tracking):
        if url.startswith("postgresql"):
            within(LIMIT_S, lambda url=url: database(url))
    for place in (settings.store, os.environ.get("MLFLOW_ARTIFACTS_DESTINATION", "")):
        if place.startswith("s3://"):
            within(LIMIT_S, lambda place=place: bucket(urlsplit(place).netloc))
    if pipeline := os.environ.get("CODE_PIPELINE"):
        within(LIMIT_S, lambda: policy(settings.store, pipeline))
    run("airflow", "db", "migrate")
    mlflow(tracking)
    ledger(settings)
    if (project / "feature_repo" / "feature_store.yaml").is_file():
        run(sys.executable, "-m", "millrace.cli.app", "apply", cwd=project)
    pool(max(1, (os.cpu_count() or 1) // THREADS_PER_TASK))
    if password := os.environ.get("MILLRACE_ADMIN_PASSWORD_FILE"):
        user(Path(password).read_text().strip())
    say("ready")


def database(url: str) -> None:
    """Make the database of an address where it is missing."""
    import psycopg2
    from sqlalchemy.engine import make_url

    given = make_url(url)
    name = given.database or ""
    words = {"host": given.host, "port": given.port or 5432, "user": given.username, "password": given.password}
    try:
        connection = psycopg2.connect(dbname="postgres", connect_timeout=5, **words)
    except psycopg2.OperationalError as err:
        raise Unavailable(f"PostgreSQL does not answer: {str(err).strip()}", where=f"{given.host}") from err
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                say(f"making database {name}")
                cursor.execute('CREATE DATABASE "{}"'.format(name.replace('"', '""')))
    except psycopg2.errors.DuplicateDatabase:
        pass  # somebody else was faster
    finally:
        connection.close()


def bucket(name: str) -> None:
    """Make a bucket where it is missing."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client = boto3.session.Session().client("s3")
        try:
            client.head_bucket(Bucket=name)
            return
        except ClientError as err:
            if err.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
        say(f"making bucket {name}")
        client.create_bucket(Bucket=name)
    except (BotoCoreError, ClientError) as err:
        raise Unavailable(f"the S3 server failed: {err}", where=os.environ.get("AWS_ENDPOINT_URL", "AWS")) from err


def policy(store: str, pipeline: str) -> None:
    """Let the user named as a pipeline do in the store's bucket what the pipeline's server must."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    from millrace.store.policy import serving_policy

    say(f"writing the policy of {pipeline}'s server")
    text = json.dumps(serving_policy(store, pipeline, pipeline))
    try:
        boto3.session.Session().client("s3").put_bucket_policy(Bucket=urlsplit(store).netloc, Policy=text)
    except (BotoCoreError, ClientError) as err:
        raise Unavailable(f"the S3 server took no policy: {err}", where=os.environ.get("AWS_ENDPOINT_URL")) from err


def mlflow(url: str) -> None:
    """Make or migrate the tables of the MLflow server."""
    if url:
        from millrace.mlflow.registry import ensure_database

        say("migrating MLflow's database")
        ensure_database(url)


def ledger(settings: Settings) -> None:
    """Make the ledger's tables."""
    from millrace.ledger import Ledger

    Ledger.open(settings.ledger)


def pool(slots: int) -> None:
    """Give the pool of heavy tasks its slots."""
    from airflow.models.pool import Pool

    Pool.create_or_update_pool(POOL, slots, "cores / threads of a job", include_deferred=False)


def user(password: str) -> None:
    """Make the user `admin` where there is none; one that is there keeps its password."""
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    with get_application_builder() as builder:
        manager: Any = builder.sm
        if manager.find_user(username="admin"):
            return
        say("making user admin")
        role = manager.find_role("Admin")
        if not manager.add_user("admin", "Admin", "Admin", "admin@localhost", role, password):
            raise MillraceError("Airflow did not make the user admin", next_step="Read the lines above")


def within(seconds: float, step: Callable[[], None]) -> None:
    """Repeat a step until it answers or the time is over."""
    limit = time.monotonic() + seconds
    while True:
        try:
            return step()
        except Unavailable:
            if time.monotonic() > limit:
                raise
            time.sleep(2)


def run(*command: str, cwd: Path | None = None) -> None:
    """Run a command that says itself what is wrong."""
    say(" ".join(command[:3]))
    if code := subprocess.run(command, cwd=cwd).returncode:
        raise MillraceError(f"'{' '.join(command)}' ended with {code}", next_step="Read the lines above")


def say(text: str) -> None:
    """One line for the container's log."""
    sys.stderr.write(f"prepare: {text}\n")


if __name__ == "__main__":
    try:
        main()
    except MillraceError as err:
        sys.exit(f"prepare: {err}")
