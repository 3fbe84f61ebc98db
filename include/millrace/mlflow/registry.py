"""The MLflow registry as register and promote use it, and MLflow's database before anybody uses it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace.core.errors import Unavailable
from millrace.mlflow.runs import ENVIRONMENT, shown

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from sqlalchemy import Engine

CHALLENGER, CHAMPION = "challenger", "champion"
_LOCK = int.from_bytes(b"mlflow")


def find_versions(client: MlflowClient, name: str, tags: Mapping[str, str]) -> list[ModelVersion]:
    """Versions of a registered model that carry all these tags, lowest number first."""
    wanted = [f"name = '{name}'", *(f"tags.`{key}` = '{value}'" for key, value in tags.items())]
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(" and ".join(wanted), max_results=200, page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda v: int(v.version))


def ensure_version(
    client: MlflowClient, name: str, same: Mapping[str, str], *, about: str, **version: Any
) -> ModelVersion:
    """The one version of a registered model that carries the tags `same`, made if there is none.

    `about` describes the registered model where that is new; `version` goes to `create_model_version`, and its tags
    must hold those of `same`, so that a version is found from the moment it exists. MLflow has no create-if-absent:
    of two that create at once the one with the higher number takes its own back. Everybody takes the lowest number,
    so a version left by a kill in between is never used.
    """
    if found := find_versions(client, name, same):
        return found[0]
    _ensure_model(client, name, about)
    mine = client.create_model_version(name, await_creation_for=0, **version)
    first = find_versions(client, name, same)[0]
    if first.version != mine.version:
        client.delete_model_version(name, mine.version)
    return first


def alias_versions(client: MlflowClient, name: str) -> dict[str, int]:
    """Alias -> version of a registered model."""
    return {alias: int(version) for alias, version in client.get_registered_model(name).aliases.items()}


def ensure_database(uri: str) -> None:
    """Make or migrate the tables of an MLflow SQL store; does nothing for a server's address.

    MLflow does so itself at first use, and fails where several processes come first: call this before any of them
    starts. Callers of this wait for one another. Raises Unavailable.
    """
    if not uri.startswith(("sqlite:", "postgresql")):
        return
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.exceptions import MlflowException
    from mlflow.store.db import utils
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = utils.create_sqlalchemy_engine_with_retry(uri)
        try:
            with _alone(engine):
                if utils._get_schema_version(engine) != utils._get_latest_schema_revision():
                    utils._initialize_tables(engine)
        finally:
            engine.dispose()
    except (MlflowException, SQLAlchemyError, OSError) as err:
        raise Unavailable(f"MLflow's database cannot be made ({type(err).__name__})", where=shown(uri)) from err


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """Hold off other processes that would migrate the same database."""
    from sqlalchemy import text

    if engine.url.get_backend_name() == "sqlite":
        with Path(f"{engine.url.database}.migration").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)  # released when the process ends, however it ends
            yield
        return
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        yield
        connection.invalidate()  # closing the connection releases the lock


def _ensure_model(client: MlflowClient, name: str, description: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description=description)
    except MlflowException as err:
        if err.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
