"""PartitionTimetable: the schedule of a features DAG, by the project's own arithmetic of partitions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.exceptions import InvalidPartitionKeyError
from airflow.sdk.timezone import coerce_datetime
from airflow.timetables.base import DagRunInfo, TimeRestriction
from airflow.timetables.trigger import CronPartitionTimetable

from millrace.core.errors import SpecError
from millrace.spec.partitions import Grain, Partitioning

GRACE = timedelta(minutes=5)
"""For so long after its end a DAG's very first partition is still made by the clock: a scheduler may be that late."""
_INSTANT = timedelta(microseconds=1)


class PartitionTimetable(CronPartitionTimetable):
    """One run for each partition, at its end; of Airflow's own timetable in all but the arithmetic.

    Airflow's goes from one cron tick to another by the wall clock, which skips or doubles a day whose midnight the
    clocks leave out or show twice. `start` and `end` are the keys of the first and the last partition. The plugin
    registers this class, so that every process of Airflow can read it from the database.
    """

    def __init__(self, grain: Grain, *, timezone: str, start: str, end: str | None = None) -> None:
        self.partitioning = Partitioning(grain, timezone)
        super().__init__(
            self.partitioning.cron, timezone=timezone, run_offset=-1, key_format=self.partitioning.key_format
        )
        self.start, self.end = start, end
        self.description = f"At the end of each {grain} in {timezone}, from {start} {f'to {end}' if end else 'on'}"

    def serialize(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            "grain": self.partitioning.grain,
            "timezone": self.partitioning.timezone,
            "start": self.start,
            "end": self.end,
        }

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> PartitionTimetable:
        """From what `serialize` returned."""
        return cls(data["grain"], timezone=data["timezone"], start=data["start"], end=data["end"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PartitionTimetable) and self.serialize() == other.serialize()

    def __hash__(self) -> int:
        return hash(tuple(self.serialize().values()))

    def next_dagrun_info_v2(
        self, *, last_dagrun_info: DagRunInfo | None, restriction: TimeRestriction
    ) -> DagRunInfo | None:
        """The next run by the clock: of the partition after the last run's, and without catchup none but the newest."""
        keys = [self.start]
        if restriction.earliest is not None:
            keys.append(self._first_from(restriction.earliest))
        if last_dagrun_info is not None:
            keys.append(self.partitioning.next(self._key_of(last_dagrun_info)))
        if not restriction.catchup:
            keys.append(self._newest(last_dagrun_info))
        info = self._run(max(keys, key=self.partitioning.start))
        if not self._reaches(info.partition_key) or (restriction.latest and restriction.latest < info.run_after):
            return None
        return info

    def iter_partition_dagrun_infos(self, *, earliest: datetime, latest: datetime) -> Iterable[DagRunInfo]:
        """The runs of a backfill: of the partitions that start between two clock times of the zone and have ended.

        Those that have not ended are the clock's, which does not look at what a backfill made.
        """
        first = max(
            self.start, self._first_from(self.localize_partition_datetime(earliest)), key=self.partitioning.start
        )
        last = self.partitioning.key_of(self.localize_partition_datetime(latest))
        for key in self.partitioning.range(first, last):
            if not self._reaches(key) or self.partitioning.end(key) > _now():
                return
            # As Airflow's own: a backfill's run may begin with its partition. See `_by_clock`.
            yield self._run(key)._replace(run_after=coerce_datetime(self.partitioning.start(key)))

    def localize_partition_datetime(self, dt: datetime) -> Any:
        """The first moment at which the zone's clocks show the same reading as `dt`."""
        return coerce_datetime(self.partitioning.first_moment(dt.replace(tzinfo=None, fold=0)))

    def _newest(self, last: DagRunInfo | None) -> str:
        """Key of the first partition that is not left to backfill.

        Where the clock is at work, that is the newest that has ended, as Airflow has it. Where it made no run yet and
        no backfill came near, it is the one that runs now: so unpausing the DAG of historical data asks for nothing.
        """
        now = _now()
        ended = self.partitioning.previous(self.partitioning.key_of(now))
        if last is not None and (self._by_clock(last) or self.partitioning.next(self._key_of(last)) == ended):
            return ended
        return self.partitioning.key_of(now - GRACE)

    def _run(self, key: str) -> DagRunInfo:
        return DagRunInfo(
            run_after=coerce_datetime(self.partitioning.end(key)),
            data_interval=None,
            partition_date=coerce_datetime(self.partitioning.start(key)),
            partition_key=key,
        )

    def _first_from(self, moment: datetime) -> str:
        """Key of the first partition that starts at or after a moment."""
        key = self.partitioning.key_of(moment)
        return key if self.partitioning.start(key) == moment else self.partitioning.next(key)

    def _reaches(self, key: str) -> bool:
        return self.end is None or self.partitioning.start(key) <= self.partitioning.start(self.end)

    def _key_of(self, info: DagRunInfo) -> str:
        return self.partitioning.key_of(info.partition_date or self._get_prev(info.run_after))

    def _by_clock(self, info: DagRunInfo) -> bool:
        """Whether the clock made a run: after its partition's end, where a backfill's run carries its start."""
        return info.partition_date is None or info.run_after > info.partition_date

    # Airflow's own steps, which also its calendar and the REST API take.

    def _get_next(self, current: datetime) -> Any:
        return coerce_datetime(self.partitioning.end(self.partitioning.key_of(current)))

    def _get_prev(self, current: datetime) -> Any:
        return coerce_datetime(self.partitioning.start(self.partitioning.key_of(current - _INSTANT)))

    def _format_key(self, partition_date: datetime) -> str:
        return self.partitioning.key_of(partition_date)

    def _decode_partition_date(self, partition_key: str) -> datetime:
        try:
            return self.partitioning.start(partition_key)
        except SpecError as err:
            raise InvalidPartitionKeyError(str(err)) from err


def _now() -> datetime:
    return datetime.now(UTC)
