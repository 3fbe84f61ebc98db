"""EntityRowOnlineStore on Redis: one hash per feature view, compared and set by a script inside the server."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import redis
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from pydantic import StrictStr

from millrace.core.errors import Unavailable
from millrace.feast_stores.online_stores.packing import Packed
from millrace.feast_stores.online_stores.rows import RowStore
from millrace.online.redis import not_redis, password_of, rows_of, value_of
from millrace.online.stored import Stored, without_secrets

CONNECT_S = 10
_SOME = 2_000
"""Rows per call of the script: it holds up the server for a few milliseconds."""

UPSERT = """
-- KEYS[1]: hash of a feature view; ARGV: entity key, value, entity key, value ..
-- A value is 24 bytes of rank, big-endian, then the features. Bytes are compared one by one: Lua's own < follows the
-- server's locale.
local function greater(new, old)
  for at = 1, 21, 4 do
    local a, b = struct.unpack('>I4', new, at), struct.unpack('>I4', old, at)
    if a ~= b then return a > b end
  end
  for at = 25, math.min(#new, #old) do
    local a, b = string.byte(new, at), string.byte(old, at)
    if a ~= b then return a > b end
  end
  return #new > #old
end
local written = 0
for n = 1, #ARGV, 2 do
  local old = redis.call('HGET', KEYS[1], ARGV[n])
  if not old or greater(ARGV[n + 1], old) then
    redis.call('HSET', KEYS[1], ARGV[n], ARGV[n + 1])
    written = written + 1
  end
end
return written
"""


class EntityRowOnlineStoreConfig(FeastConfigBaseModel):
    """`online_store` in feature_store.yaml."""

    type: Literal["millrace.feast_stores.online_stores.redis.EntityRowOnlineStore"] = (
        "millrace.feast_stores.online_stores.redis.EntityRowOnlineStore"
    )
    path: StrictStr
    """ Address, such as redis://cache:6379/0, or rediss:// for TLS. """
    password_file: StrictStr | None = None
    """ File with the password, where there is one. """


class EntityRowOnlineStore(RowStore):
    """Online rows in Redis. A view's rows are one hash, so that a cluster keeps them on one node."""

    def __init__(self) -> None:
        self._local = threading.local()

    def upsert(self, config: RepoConfig, table: str, rows: Sequence[Packed]) -> None:
        """Write rows; the script is atomic for each call, and a repeated call changes nothing."""
        with self._client(config) as client:
            script = client.register_script(UPSERT)
            for start in range(0, len(rows), _SOME):
                arguments: list[bytes] = []
                for key, *rank, features in rows[start : start + _SOME]:
                    arguments += (key, value_of(rank, features))
                script(keys=[table], args=arguments)

    def fetch(self, config: RepoConfig, table: str, view: str, keys: Sequence[bytes]) -> dict[bytes, Stored]:
        """The stored rows of these keys; Redis does not tell an empty view from one that was never applied."""
        if not keys:
            return {}
        with self._client(config) as client:
            values: Any = client.hmget(table, list(keys))
        return rows_of(keys, values)

    def change(self, config: RepoConfig, create: Sequence[str], drop: Sequence[str]) -> None:
        """Remove the rows of views that are gone; a hash is made by its first row."""
        with self._client(config) as client:
            client.ping()
            if drop:
                client.unlink(*drop)

    @contextmanager
    def _client(self, config: RepoConfig) -> Iterator[redis.Redis]:
        try:
            yield self._connect(config)
        except redis.RedisError as err:
            where = without_secrets(config.online_store.path)
            raise Unavailable(f"the online store failed ({type(err).__name__})", where=where) from err
        except ValueError as err:
            raise not_redis(config.online_store.path) from err

    def _connect(self, config: RepoConfig) -> redis.Redis:
        """One client per process and thread; it opens its connection again when the server closed it."""
        given = config.online_store
        owner = (os.getpid(), given.path)
        if getattr(self._local, "owner", None) != owner:
            self._local.client = redis.Redis.from_url(
                given.path,
                socket_connect_timeout=CONNECT_S,
                socket_timeout=CONNECT_S,
                **password_of(given.password_file),
            )
            self._local.owner = owner
        client: redis.Redis = self._local.client
        return client
