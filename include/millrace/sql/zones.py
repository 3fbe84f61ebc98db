"""Whether an engine's list of time zones says what this machine's says, by which partitions are cut.

Governments change clocks at short notice, and each of Python, DuckDB and Java brings a list of its own: with an older
one an hour or a date would be wrong without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from millrace.core.errors import SpecError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STEP = timedelta(hours=1)


def agree(
    engine: str, zone: str, start: datetime, end: datetime, clocks: Callable[[Sequence[int]], Sequence[int]]
) -> None:
    """Compare clocks hour by hour from as long before a partition as it lasts until its end.

    `clocks` gives the engine's: for microseconds since 1970 what the zone's clock shows then, as microseconds of a
    clock in UTC. Raises SpecError where one differs.
    """
    first = start - (end - start)
    moments = [first + n * _STEP for n in range((end - first) // _STEP + 1)]
    answers = clocks([_micros(moment) for moment in moments])
    for moment, clock in zip(moments, answers, strict=True):
        local = moment.astimezone(ZoneInfo(zone))
        if clock != _micros(local.replace(tzinfo=UTC)):
            raise SpecError(
                f"{engine} knows other clocks of this zone than this machine, first at {moment:%Y-%m-%d %H:%M} UTC: "
                f"{_EPOCH + timedelta(microseconds=clock):%H:%M} and not {local:%H:%M}",
                where="partition.timezone", given=zone,
                next_step="Bring the older of the two up to date; or name a fixed offset, such as Etc/GMT+7 for UTC-7",
            )  # fmt: skip


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
