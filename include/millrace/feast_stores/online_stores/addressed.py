"""EntityRowOnlineStore where its address says: a file, PostgreSQL or Redis.

The one to name in feature_store.yaml: a project then moves from a laptop to servers by `MILLRACE_FEAST_ONLINE` alone,
and its definitions, which requests are digested with, stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from feast.repo_config import FeastConfigBaseModel, RepoConfig
from pydantic import StrictStr

from millrace.core.errors import SpecError
from millrace.feast_stores.online_stores.packing import Packed
from millrace.feast_stores.online_stores.rows import RowStore, Stored

_KINDS = {"": "sqlite", "postgres": "postgres", "postgresql": "postgres", "redis": "redis", "rediss": "redis"}
"""Scheme of the address -> kind of store."""


class EntityRowOnlineStoreConfig(FeastConfigBaseModel):
    """`online_store` in feature_store.yaml."""

    type: Literal["millrace.feast_stores.online_stores.addressed.EntityRowOnlineStore"] = (
        "millrace.feast_stores.online_stores.addressed.EntityRowOnlineStore"
    )
    path: StrictStr
    """ File of a SQLite database, postgresql://.. or redis://..; see the stores of these names. """
    password_file: StrictStr | None = None
    """ File with Redis' password, where there is one. """


class EntityRowOnlineStore(RowStore):
    """Hands everything to the store of the address. Raises SpecError for an address of another kind."""

    def __init__(self) -> None:
        self._made: dict[str, RowStore] = {}

    def upsert(self, config: RepoConfig, table: str, rows: Sequence[Packed]) -> None:
        """Write rows, as the store of the address does."""
        self._store(config).upsert(config, table, rows)

    def fetch(self, config: RepoConfig, table: str, view: str, keys: Sequence[bytes]) -> dict[bytes, Stored]:
        """The stored rows of these keys."""
        return self._store(config).fetch(config, table, view, keys)

    def change(self, config: RepoConfig, create: Sequence[str], drop: Sequence[str]) -> None:
        """Make and remove what the views keep their rows in."""
        self._store(config).change(config, create, drop)

    def _store(self, config: RepoConfig) -> RowStore:
        path: str = config.online_store.path
        scheme = path.partition("://")[0] if "://" in path else ""
        if scheme not in _KINDS:
            raise SpecError(
                "no online store has such an address",
                given=f"{scheme}://..",
                allowed=["a file", "postgresql://host/database", "redis://host:port/database"],
            )
        if scheme not in self._made:
            self._made[scheme] = _made(_KINDS[scheme])
        return self._made[scheme]


def _made(kind: str) -> RowStore:
    """A store of a kind; the client library of another is not imported."""
    if kind == "postgres":
        from millrace.feast_stores.online_stores import postgres

        return postgres.EntityRowOnlineStore()
    if kind == "redis":
        from millrace.feast_stores.online_stores import redis

        return redis.EntityRowOnlineStore()
    from millrace.feast_stores.online_stores import sqlite

    return sqlite.EntityRowOnlineStore()
