"""Materialised windows: which Snapshot of which partition is in the online store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from millrace.ledger import chain
from millrace.ledger.schema import WINDOWS


@dataclass(frozen=True)
class MaterializedWindow:
    """One partition of a view as it was last written online."""

    pipeline: str
    view: str
    partition: str
    snapshot: str
    rows: int


def record(connection: Connection, window: MaterializedWindow) -> None:
    """Keep what was written last; the chain keeps every write."""
    same = (
        WINDOWS.c.pipeline == window.pipeline, WINDOWS.c.view == window.view,
        WINDOWS.c.partition == window.partition,
    )  # fmt: skip
    connection.execute(delete(WINDOWS).where(*same))
    connection.execute(insert(WINDOWS).values(**window.__dict__))
    chain.append(connection, window.pipeline, "materialized", f"{window.view}/{window.partition}",
                 {"snapshot": window.snapshot, "rows": window.rows})


def windows(connection: Connection, pipeline: str, view: str) -> list[MaterializedWindow]:
    """All windows of a view in partition order."""
    query = select(WINDOWS).where(WINDOWS.c.pipeline == pipeline, WINDOWS.c.view == view)
    rows = connection.execute(query.order_by(WINDOWS.c.partition)).mappings()
    return [MaterializedWindow(**row) for row in rows]


def stale(connection: Connection, pipeline: str, view: str, current: Mapping[str, str]) -> list[str]:
    """Partitions of `current` (partition -> Snapshot digest) that are not online, or online in an older Snapshot."""
    online = {w.partition: w.snapshot for w in windows(connection, pipeline, view)}
    return sorted(key for key, snapshot in current.items() if online.get(key) != snapshot)
