"""An online store with rows in it, written as a job writes them and read as a server reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from millrace.feast_stores.online_stores.rows import table_of_view
from millrace.online.keys import KeyEncoder
from millrace.online.reader import Reader, open_reader
from support.feast_project import FeastProject

START = datetime(2024, 1, 1, tzinfo=UTC)
START_US = 1_704_067_200_000_000


@dataclass
class Kept:
    """The rows of one feature view, `trips` of `feast_project`."""

    project: FeastProject

    def __post_init__(self) -> None:
        self.store = self.project.open()
        self.config, self.view = self.store.config, self.store.get_feature_view("trips")
        self.rows = self.store.provider.online_store
        self.table: str = table_of_view(self.config, self.view)
        self.address: str = self.config.online_store.path

    @classmethod
    def at(cls, root: Path, online: tuple[str, str] | None) -> Kept:
        """Of a store as the fixture `online` gives it, the view's table made."""
        project = FeastProject.applied(root)
        project.online = online
        kept = cls(project)
        kept.apply()
        return kept

    def apply(self) -> None:
        """Make the view's table."""
        self.rows.update(self.config, [], [self.view], [], [], partial=True)

    def write(self, distances: dict[str, int], after: timedelta = timedelta()) -> None:
        """Write the distance of each vehicle."""
        rows = [
            (_key(vehicle), {"distance": Value(int64_val=n)}, START + after, None) for vehicle, n in distances.items()
        ]
        self.rows.online_write_batch(self.config, self.view, rows, None)

    def fetched(self, *vehicles: str) -> dict[bytes, Any]:
        """The rows as Feast's side reads them."""
        found: dict[bytes, Any] = self.rows.fetch(self.config, self.table, "trips", keys(*vehicles))
        return found

    def read(self, use: Callable[[Reader], Coroutine[Any, Any, Any]], timeout_s: float = 10) -> Any:
        """What a coroutine makes of a reader, on a loop of its own."""
        return reading(self.address, use, timeout_s)


def reading(
    address: str, use: Callable[[Reader], Coroutine[Any, Any, Any]], timeout_s: float = 10, file: str | None = None
) -> Any:
    """What a coroutine makes of the reader of an address, which is closed then."""

    async def run() -> Any:
        reader = open_reader(address, timeout_s=timeout_s, password_file=file)
        try:
            return await use(reader)
        finally:
            await reader.close()

    return asyncio.run(run())


def keys(*vehicles: str) -> list[bytes]:
    """Entity keys of vehicles."""
    encoder = KeyEncoder({"vehicle": ("vehicle", "STRING")})
    return [encoder.encode({"vehicle": vehicle}) for vehicle in vehicles]


def _key(vehicle: str) -> EntityKey:
    return EntityKey(join_keys=["vehicle"], entity_values=[Value(string_val=vehicle)])
