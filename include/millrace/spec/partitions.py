"""Partition arithmetic: keys, bounds and ranges of one slice of time in the spec's time zone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from dateutil.relativedelta import relativedelta

from millrace.errors import SpecError
from millrace.spec.durations import Duration

Grain = Literal["hour", "day", "week", "month"]

KEY_FORMAT: dict[str, str] = {"hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "week": "%Y-%m-%d", "month": "%Y-%m"}
"""strftime form of a key. A week is named by its Monday."""
_STEP = {
    "hour": relativedelta(hours=1),
    "day": relativedelta(days=1),
    "week": relativedelta(weeks=1),
    "month": relativedelta(months=1),
}
_YEARS = range(2000, 2038)
CRON = {"hour": "0 * * * *", "day": "0 0 * * *", "week": "0 0 * * 1", "month": "0 0 1 * *"}


@dataclass(frozen=True)
class Partitioning:
    """How time is cut. All keys are local to `timezone`; all bounds are aware datetimes in UTC."""

    grain: Grain
    timezone: str = "UTC"

    @property
    def key_format(self) -> str:
        """strftime form of this grain's keys."""
        return KEY_FORMAT[self.grain]

    @property
    def cron(self) -> str:
        """The cron expression that ticks at each partition's start."""
        return CRON[self.grain]

    def _local(self, key: str) -> datetime:
        moment: datetime | None = None
        try:
            moment = datetime.strptime(key, self.key_format)
        except (ValueError, TypeError):
            pass
        if moment is None or moment.strftime(self.key_format) != key or (self.grain == "week" and moment.weekday()):
            raise SpecError(
                f"'{key}' is not a {self.grain} partition",
                allowed=f"keys such as {self.key_of(datetime(2013, 1, 7, tzinfo=UTC))}"
                + (" (a week is named by its Monday)" if self.grain == "week" else ""),
            )
        return moment

    def _utc(self, local: datetime) -> datetime:
        return local.replace(tzinfo=ZoneInfo(self.timezone)).astimezone(UTC)

    def _before(self, local: datetime, duration: Duration) -> datetime:
        """The calendar's part is taken in local time (a month before 1 May is 1 April), the clock's in true hours."""
        return self._utc(local - duration.calendar) - duration.clock

    def check(self, key: str) -> str:
        """Return the key if it names a partition of this grain. Raises SpecError otherwise."""
        self._local(key)
        return key

    def start(self, key: str) -> datetime:
        """First moment of the partition, UTC."""
        return self._utc(self._local(key))

    def end(self, key: str) -> datetime:
        """First moment after the partition, UTC."""
        return self._utc(self._local(key) + _STEP[self.grain])

    def key_of(self, moment: datetime) -> str:
        """Key of the partition that holds an aware moment."""
        local = moment.astimezone(ZoneInfo(self.timezone))
        if self.grain == "week":
            local -= timedelta(days=local.weekday())
        return local.strftime(self.key_format)

    def next(self, key: str) -> str:
        """Key of the following partition."""
        return (self._local(key) + _STEP[self.grain]).strftime(self.key_format)

    def previous(self, key: str) -> str:
        """Key of the partition before."""
        return (self._local(key) - _STEP[self.grain]).strftime(self.key_format)

    def range(self, first: str, last: str) -> Iterator[str]:
        """Keys from first to last, both included; empty when last lies before first."""
        moment, stop = self._local(first), self._local(last)
        while moment <= stop:
            yield moment.strftime(self.key_format)
            moment += _STEP[self.grain]

    def lookback(self, key: str, duration: Duration, not_before: str | None = None) -> list[str]:
        """Keys of the earlier partitions that a reader needs to look `duration` back from the partition's start."""
        if not duration:
            return []
        first = self.key_of(self._before(self._local(key), duration))
        if not_before and self._local(first) < self._local(not_before):
            first = not_before
        return [k for k in self.range(first, key) if k != key]

    def window(self, last: str, duration: Duration) -> list[str]:
        """Keys of the partitions that make up the `duration` that ends with partition `last`, last included."""
        first = self.key_of(self._before(self._local(last) + _STEP[self.grain], duration))
        return list(self.range(first, last))


def is_timezone(name: str) -> bool:
    """Whether a name is one of the IANA's time zones."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return False
    return True


def keeps_its_clocks(timezone: str) -> bool:
    """Whether a zone has no change of clocks: where there is one, an hour of the year has no name and one has two."""
    zone = ZoneInfo(timezone)
    return len({zone.utcoffset(datetime(year, month, 1)) for year in _YEARS for month in range(1, 13)}) == 1
