"""Rows in Redis: one hash per feature view, a value being 24 bytes of rank and then the features."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, RedisError, TimeoutError

from millrace.core.errors import SpecError
from millrace.online.reader import CALLS, BatchedReader, Found
from millrace.online.stored import Stored, without_secrets

_RANK = struct.Struct(">QQQ")
_SIGN = 2**63


class RedisReader(BatchedReader):
    """Reads by HMGET, those of several views in one pipeline."""

    _client: redis.asyncio.Redis | None = None

    @property
    def place(self) -> str:
        """Scheme, host, port and database."""
        return without_secrets(self.address)

    async def ask(self, keys: Mapping[str, Sequence[bytes]]) -> dict[str, Found]:
        """The stored rows of keys (hash -> keys)."""
        try:
            client = self._connect()
            if len(keys) == 1:
                ((table, some),) = keys.items()
                values: list[Any] = [await client.hmget(table, list(some))]
            else:
                async with client.pipeline(transaction=False) as pipeline:
                    for table, some in keys.items():
                        pipeline.hmget(table, list(some))
                    values = await pipeline.execute()
        except TimeoutError:
            raise self.late() from None
        except RedisError as err:
            raise self.failed(err) from err
        return {table: rows_of(some, row) for (table, some), row in zip(keys.items(), values, strict=True)}

    async def close(self) -> None:
        """End the calls and close the connections."""
        await super().close()
        if self._client is not None:
            await self._client.aclose()
        self._client = None

    def _connect(self) -> redis.asyncio.Redis:
        if self._client is None:
            try:
                self._client = redis.asyncio.Redis.from_url(
                    self.address,
                    socket_timeout=self.timeout_s,
                    socket_connect_timeout=self.timeout_s,
                    max_connections=CALLS,
                    # a connection that a restart of the server has closed is found only when it is used
                    retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionError,)),
                    **password_of(self.password_file),
                )
            except ValueError as err:
                raise not_redis(self.address) from err
        return self._client


def not_redis(address: str) -> SpecError:
    """The error of an address that the client cannot read."""
    return SpecError("not an address of Redis", given=without_secrets(address), allowed="redis://host:port/database")


def password_of(file: str | None) -> dict[str, Any]:
    """The client's argument: from a file, else from where Redis' own tools look, so that no address has to hold it."""
    password = Path(file).read_text().strip() if file else None
    password = password or os.environ.get("REDISCLI_AUTH") or None
    return {} if password is None else {"password": password}


def value_of(rank: Iterable[int], features: bytes) -> bytes:
    """A row as a value: its rank moved above zero, so that the big-endian bytes have the order of the numbers."""
    return _RANK.pack(*(number + _SIGN for number in rank)) + features


def rows_of(keys: Sequence[bytes], values: Sequence[bytes | None]) -> dict[bytes, Stored]:
    """The rows of these keys, from the values that Redis has for them."""
    return {
        key: (_RANK.unpack_from(value)[0] - _SIGN, value[_RANK.size :])
        for key, value in zip(keys, values, strict=True)
        if value is not None
    }
