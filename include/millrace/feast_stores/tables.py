"""Which files a `millrace://<pipeline>/<dataset>` path means: the Snapshots a Table points at, or pinned ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from feast.repo_config import FeastConfigBaseModel
from pydantic import StrictStr

from millrace.core.errors import NotFound, SpecError
from millrace.store import SnapshotStore, Tables, open_store

SCHEME = "millrace://"
_SLACK = timedelta(days=1)
"""Partition keys are local time; no zone is further from UTC than this."""
_LENGTH = {7: ("%Y-%m", 31 * 24), 10: ("%Y-%m-%d", 7 * 24), 13: ("%Y-%m-%dT%H", 1)}
"""Length of a key -> its format, and the most hours that a partition of that grain lasts (a day may be a week)."""

Window = tuple[datetime | None, datetime | None]
"""First and last moment of interest, aware; None where it is open."""


class Pin(FeastConfigBaseModel):
    """One Snapshot to read: its partition, its identity, and the key prefix under which it lies."""

    partition: StrictStr
    snapshot: StrictStr
    uri: StrictStr


def table_of(path: str) -> str | None:
    """Return `<pipeline>/<dataset>` of a `millrace://` path, None for any other. Raises SpecError for a bad one."""
    if not path.startswith(SCHEME):
        return None
    name = path.removeprefix(SCHEME).strip("/")
    if name.count("/") != 1:
        raise SpecError("not a Table", given=path, allowed=f"{SCHEME}<pipeline>/<dataset>")
    return name


def table_files(
    store: str, table: str, pinned: Mapping[str, Sequence[Pin]] | None = None, window: Window = (None, None)
) -> list[Path]:
    """Verified local files of a Table, in partition order; at least one, so that the columns are known.

    Without pins, partitions that lie wholly outside `window` are left out; superseded Snapshots never appear.
    Raises NotFound when the Table is empty, SpecError when pins are given and the Table is not among them.
    """
    objects = open_store(store)
    snapshots, tables = SnapshotStore(objects), Tables(objects)
    if pinned is not None:
        if table not in pinned:
            raise SpecError(
                "a feature view reads a Table that is not among the request's inputs",
                given=table,
                allowed=sorted(pinned),
                next_step="Let the FeatureService take features of its own pipeline only",
            )
        return [snapshots.path(pin.uri, pin.snapshot) for pin in pinned[table]]
    listed = tables.partitions(table)
    if not listed:
        raise NotFound(
            "the Table has no partitions",
            given=table,
            next_step="Run the pipeline's features DAG for a partition first",
        )
    wanted = [key for key in listed if overlaps(key, window)] or listed[:1]
    current = [tables.resolve(table, key) for key in wanted]
    return [snapshots.path(moved.uri, moved.snapshot) for moved in current]


def overlaps(partition: str, window: Window) -> bool:
    """Whether a partition may hold rows in the window; yes where its key cannot be read."""
    begin, end = window
    if len(partition) not in _LENGTH:
        return True
    form, hours = _LENGTH[len(partition)]
    try:
        start = datetime.strptime(partition, form).replace(tzinfo=UTC)
    except ValueError:
        return True
    if end is not None and start - _SLACK > end:
        return False
    return begin is None or start + timedelta(hours=hours) + _SLACK > begin
