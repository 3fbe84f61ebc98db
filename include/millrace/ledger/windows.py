"""Windows by partition: what is in the online store, and what monitoring saw."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from millrace.ledger import chain
from millrace.ledger.events import MaterializedWindow, MonitoredWindow


def windows(connection: Connection, pipeline: str, view: str) -> list[MaterializedWindow]:
    """All windows of a view in partition order."""
    return sorted(chain.states(connection, MaterializedWindow, pipeline, f"{view}/"), key=lambda w: w.partition)


def stale(connection: Connection, pipeline: str, view: str, current: Mapping[str, str]) -> list[str]:
    """Partitions of `current` (partition -> Snapshot digest) that are not online, or online in an older Snapshot."""
    online = {w.partition: w.snapshot for w in windows(connection, pipeline, view)}
    return sorted(key for key, snapshot in current.items() if online.get(key) != snapshot)


def monitoring(connection: Connection, pipeline: str, champion_version: int | None = None) -> list[MonitoredWindow]:
    """The newest record of each partition, under one champion or under any, in partition order."""
    prefix = f"v{champion_version}/" if champion_version is not None else ""
    # Oldest first: under any champion the newest one's word stands.
    newest = {w.partition: w for w in chain.states(connection, MonitoredWindow, pipeline, prefix)}
    return [newest[key] for key in sorted(newest)]
