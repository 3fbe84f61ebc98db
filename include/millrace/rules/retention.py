"""Which versions and served predictions have been kept as long as somebody said, and may go. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from millrace.spec.durations import Duration
from millrace.spec.environment import Retention
from millrace.spec.partitions import Partitioning

_CALENDAR = timedelta(days=7)
"""More than a month after and a month before can lie apart."""
FORMER = 2
"""Champions that are always kept: the present one, and the one before it, to which a rollback goes."""


@dataclass(frozen=True)
class Kept:
    """A registered version, and since when it is kept for what. `until`: when it last was champion; None: it never was,
    or it is now. `retired`: since when it is."""

    version: int
    state: Literal["candidate", "challenger", "champion", "retired", "quarantined"]
    ended: bool
    registered: datetime
    until: datetime | None = None
    retired: datetime | None = None


def due(retention: Retention, versions: Sequence[Kept], champions: Sequence[int], now: datetime) -> dict[int, str]:
    """Version -> why it may be retired. `champions` are all there were, the newest last.

    Never the champion nor the one before it, never one that a release asks for, nor one that was not turned down and
    is newer than the champion, and so still may be asked for; never one in quarantine, whose reason somebody has.
    """
    kept = {*list(dict.fromkeys(reversed(champions)))[:FORMER]}
    newest = champions[-1] if champions else 0
    found = {}
    for each in versions:
        waits = each.version > newest and not each.ended
        if each.state != "candidate" or each.version in kept or waits:
            continue
        since, period, what = each.registered, retention.candidates, "was never champion"
        if each.version in champions:
            since, period, what = each.until or now, retention.champions, "is champion no more"
        if period and period.after(since) <= now:
            found[each.version] = f"it {what} and was kept {period} since {since:%Y-%m-%d}"
    return found


def forgotten(retention: Retention, versions: Sequence[Kept], now: datetime) -> list[int]:
    """Retired versions whose run and registered version need not stay in MLflow any longer."""
    period = retention.runs
    return [v.version for v in versions if period and v.state == "retired" and v.retired and
            period.after(v.retired) <= now]  # fmt: skip


def guarded(versions: Sequence[Kept], gone: Collection[int]) -> list[int]:
    """Versions whose runs must stay in MLflow."""
    return [v.version for v in versions if v.version not in gone]


def is_kept(keep: Duration, end: datetime, now: datetime) -> bool:
    """Whether what was served before `end`, a partition's, is kept still: the whole partition is as old as its end."""
    return keep.after(end) > now


def first_kept(keep: Duration, partitioning: Partitioning, now: datetime) -> str:
    """The first partition of which what was served is kept still."""
    key = partitioning.key_of(keep.before(now) - _CALENDAR)
    while not is_kept(keep, partitioning.end(key), now):
        key = partitioning.next(key)
    return key
