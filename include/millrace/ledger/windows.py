"""Windows by partition: what is in the online store, and what monitoring saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from millrace.ledger import chain

MATERIALIZED, MONITORING = "materialized", "monitoring"


@dataclass(frozen=True)
class MaterializedWindow:
    """One partition of a feature view as it was last written online."""

    pipeline: str
    view: str
    partition: str
    snapshot: str
    rows: int


@dataclass(frozen=True)
class MonitoredWindow:
    """What monitoring saw of one partition under one champion, and decided."""

    pipeline: str
    partition: str
    champion_version: int
    body: dict[str, Any]


def record(connection: Connection, window: MaterializedWindow) -> None:
    """Keep what was written; writing the same Snapshot again changes nothing."""
    _append_new(connection, window.pipeline, MATERIALIZED, f"{window.view}/{window.partition}",
                {"snapshot": window.snapshot, "rows": window.rows})  # fmt: skip


def windows(connection: Connection, pipeline: str, view: str) -> list[MaterializedWindow]:
    """All windows of a view in partition order."""
    found = chain.latest(connection, pipeline, MATERIALIZED, f"{view}/")
    return [
        MaterializedWindow(pipeline, view, subject.removeprefix(f"{view}/"), **entry.body)
        for subject, entry in sorted(found.items())
    ]


def stale(connection: Connection, pipeline: str, view: str, current: Mapping[str, str]) -> list[str]:
    """Partitions of `current` (partition -> Snapshot digest) that are not online, or online in an older Snapshot."""
    online = {w.partition: w.snapshot for w in windows(connection, pipeline, view)}
    return sorted(key for key, snapshot in current.items() if online.get(key) != snapshot)


def record_monitoring(connection: Connection, window: MonitoredWindow) -> None:
    """Keep what was seen; a replay that sees the same changes nothing."""
    _append_new(connection, window.pipeline, MONITORING, f"v{window.champion_version}/{window.partition}", window.body)


def monitoring(connection: Connection, pipeline: str, champion_version: int | None = None) -> list[MonitoredWindow]:
    """The newest record of each partition, under one champion or under any, in partition order."""
    prefix = f"v{champion_version}/" if champion_version is not None else ""
    newest: dict[str, MonitoredWindow] = {}
    for subject, entry in chain.latest(connection, pipeline, MONITORING, prefix).items():  # oldest first
        version, _, partition = subject.partition("/")
        newest[partition] = MonitoredWindow(pipeline, partition, int(version.removeprefix("v")), entry.body)
    return [newest[key] for key in sorted(newest)]


def _append_new(connection: Connection, pipeline: str, kind: str, subject: str, body: dict[str, Any]) -> None:
    found = chain.entries(connection, pipeline, kind, subject, limit=1)
    if not found or found[0].body != body:
        chain.append(connection, pipeline, kind, subject, body)
