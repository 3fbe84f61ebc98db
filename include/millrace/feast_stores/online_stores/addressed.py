"""EntityRowOnlineStore where its address says: one of the union in `millrace.core.online`.

The one to name in feature_store.yaml: a project then moves from a laptop to servers by `MILLRACE_FEAST_ONLINE` alone,
and its definitions, which requests are digested with, stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from feast.repo_config import FeastConfigBaseModel, RepoConfig
from pydantic import StrictStr

from millrace.core.imports import named
from millrace.core.online import store_at
from millrace.feast_stores.online_stores.packing import Packed
from millrace.feast_stores.online_stores.rows import RowStore
from millrace.online.stored import Stored


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
        """Made at its first use: the client library of another is not imported."""
        engine = store_at(config.online_store.path).engine
        if engine not in self._made:
            self._made[engine] = named(engine)()
        return self._made[engine]
