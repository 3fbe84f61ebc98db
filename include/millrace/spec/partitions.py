"""Partition arithmetic: keys, bounds and ranges of one slice of time in the spec's time zone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from dateutil.relativedelta import relativedelta

from millrace.core.errors import SpecError
from millrace.spec.durations import Duration

Grain = Literal["hour", "day", "week", "month"]

KEY_FORMAT: dict[str, str] = {"hour": "%Y-%m-%dT%H", "day": "%Y-%m-%d", "week": "%Y-%m-%d", "month": "%Y-%m"}
"""strftime form of a key. A week is named by its Monday."""
_STEP: dict[str, timedelta | relativedelta] = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": relativedelta(months=1),
}
_YEARS = range(2000, 2038)
_SECOND = timedelta(seconds=1)
CRON = {"hour": "0 * * * *", "day": "0 0 * * *", "week": "0 0 * * 1", "month": "0 0 1 * *"}


@dataclass(frozen=True)
class Partitioning:
    """How time is cut. All keys are local to `timezone`; all bounds are aware datetimes in UTC.

    A partition starts at the first moment at which the zone's clocks show its start or a later time, and ends where the
    following one starts. So each moment lies in one partition, also where a midnight is left out or comes twice, and a
    day that the clocks left out whole is no partition.
    """

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

    def _named(self, key: str) -> datetime:
        """Local clock time at which the key says that its partition starts. Raises SpecError where it says nothing."""
        moment: datetime | None = None
        try:
            moment = datetime.strptime(key, self.key_format)
        except (ValueError, TypeError):
            pass
        if (
            moment is None
            or moment.strftime(self.key_format) != key
            or (self.grain == "week" and moment.weekday())
            or moment.year == MAXYEAR  # the end would lie beyond what a datetime holds
        ):
            raise SpecError(
                f"'{key}' is not a {self.grain} partition",
                allowed=f"keys such as {self.key_of(datetime(2013, 1, 7, tzinfo=UTC))}"
                + (" (a week is named by its Monday)" if self.grain == "week" else ""),
            )
        return moment

    def _local(self, key: str) -> datetime:
        """As `_named`, of a partition that was. Raises SpecError."""
        moment = self._named(key)
        if not self._was(moment):
            raise SpecError(
                f"'{key}' is no partition: the clocks of {self.timezone} left out that {self.grain}",
                allowed=f"{self.previous(key)} before it, {self.next(key)} after it",
            )
        return moment

    def _was(self, local: datetime) -> bool:
        return self.first_moment(local) < self.first_moment(local + _STEP[self.grain])

    def _walk(self, local: datetime, step: timedelta | relativedelta) -> datetime:
        """The next local start, in the step's direction, of a partition that was."""
        local += step
        while not self._was(local):
            local += step
        return local

    def first_moment(self, local: datetime) -> datetime:
        """First moment, UTC, at which the zone's clocks show a naive local time or a later one.

        The first of two where clocks go back; where they jump over it, the moment of the jump.
        """
        zone = ZoneInfo(self.timezone)
        moment = local.replace(tzinfo=zone).astimezone(UTC)
        if moment.astimezone(zone).replace(tzinfo=None) == local:
            return moment
        # In a gap, fold 1 is a moment before the jump and fold 0 one not before it: halve to the jump's second.
        before, after = local.replace(tzinfo=zone, fold=1).astimezone(UTC), moment
        while after - before > _SECOND:
            middle = before + timedelta(seconds=(after - before) // _SECOND // 2)
            if middle.astimezone(zone).replace(tzinfo=None) < local:
                before = middle
            else:
                after = middle
        return after

    def _before(self, local: datetime, duration: Duration) -> datetime:
        """The calendar's part is taken in local time (a month before 1 May is 1 April), the clock's in true hours."""
        return self.first_moment(local - duration.calendar) - duration.clock

    def check(self, key: str) -> str:
        """Return the key if it names a partition of this grain. Raises SpecError otherwise."""
        self._local(key)
        return key

    def start(self, key: str) -> datetime:
        """First moment of the partition, UTC."""
        return self.first_moment(self._local(key))

    def end(self, key: str) -> datetime:
        """First moment after the partition, UTC: the start of the following one."""
        return self.first_moment(self._local(key) + _STEP[self.grain])

    def key_of(self, moment: datetime) -> str:
        """Key of the partition that holds an aware moment."""
        local = moment.astimezone(ZoneInfo(self.timezone)).replace(tzinfo=None, fold=0)
        local = local.replace(minute=0, second=0, microsecond=0)
        if self.grain != "hour":
            local = local.replace(hour=0)
        if self.grain == "week":
            local -= timedelta(days=local.weekday())
        if self.grain == "month":
            local = local.replace(day=1)
        # Clocks that went back over a start show the name of the partition before for a second time.
        while moment >= self.first_moment(local + _STEP[self.grain]):
            local += _STEP[self.grain]
        return local.strftime(self.key_format)

    def next(self, key: str) -> str:
        """Key of the following partition."""
        return self._walk(self._named(key), _STEP[self.grain]).strftime(self.key_format)

    def previous(self, key: str) -> str:
        """Key of the partition before."""
        return self._walk(self._named(key), -_STEP[self.grain]).strftime(self.key_format)

    def range(self, first: str, last: str) -> Iterator[str]:
        """Keys from first to last, both included; empty when last lies before first."""
        moment, stop = self._local(first), self._local(last)
        while moment <= stop:
            yield moment.strftime(self.key_format)
            moment = self._walk(moment, _STEP[self.grain])

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
