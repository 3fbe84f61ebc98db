"""What the deliveries may mean together: partitions, key, event time, features and labels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import pyarrow as pa
import pyarrow.compute as pc

from millrace.core.errors import DataError, SpecError
from millrace.proposal.delivery import Delivery
from millrace.proposal.naming import IN_WORDS, Named
from millrace.spec import Partitioning

EVENT_TIME = "event_timestamp"
_SERVED = ("string", "integer", "number", "boolean")
_KEYS = ("string", "integer")
_LIKE_A_KEY = re.compile(r"(^|_|[a-z](?=I))(id|key|code|number|no|nr|uuid)$", re.IGNORECASE)
_MOST_KEYS, _MOST_CLASSES = 12, 20


@dataclass(frozen=True)
class Moment:
    """What dates a row: a column, None for the partition's start; how many rows it dates outside of the partition."""

    column: str | None = None
    type: str = "timestamp"
    outside: int = 0


@dataclass(frozen=True)
class Guess:
    """What is proposed of the deliveries; the first of them that has partitions is what features are made of."""

    deliveries: tuple[Delivery, ...]
    main: Delivery
    partition: str
    keys: list[str]
    """Partitions of the main source whose files are there."""
    moment: Moment
    entity: tuple[str, ...]
    names: dict[str, str]
    """Column of the main source -> what it is called among the features, the entity included."""
    labels: dict[str, list[str]]
    """Task -> features that may be its label."""

    @property
    def features(self) -> dict[str, str]:
        """Feature -> type of the spec, without the entity."""
        return {self.names[c]: self.main.kinds[c].type for c in self.names if c not in self.entity}

    @property
    def others(self) -> list[Delivery]:
        """All deliveries but the main one."""
        return [delivery for delivery in self.deliveries if delivery is not self.main]


def guess(deliveries: Sequence[Delivery]) -> Guess:
    """What deliveries, one of which has a partition, may mean. Raises DataError for rows that cannot be features."""
    main = next(delivery for delivery in deliveries if delivery.named.key is not None)
    assert main.named.grain is not None and main.named.key is not None
    moment = _moment(main, Partitioning(main.named.grain), main.named.key)
    entity = _entity(main, moment)
    served = [column for column in main.of(*_SERVED) if column != moment.column]
    names = _names([*entity, *(column for column in served if column not in entity)])
    if len(names) == len(entity):
        raise DataError("beside key and times no column could be a feature", where=main.named.path.name,
                        next_step="A pipeline needs text, numbers or true and false to learn from")  # fmt: skip
    labels = _labels(main, [column for column in names if column not in entity], names)
    return Guess(tuple(deliveries), main, main.named.key, main.named.keys, moment, entity, names, labels)


def one_partition(files: Sequence[Named]) -> None:
    """Raise SpecError where the names of files are not those of one pipeline's sources in one partition."""
    names = [file.source for file in files]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        given = ", ".join(str(file.path) for file in files if file.source == repeated)
        raise SpecError(f"{names.count(repeated)} files would be the source '{repeated}'", given=given,
                        next_step="Give one file for each source: the others of its name are found by it")  # fmt: skip
    dated = {(file.grain, file.key): file.path.name for file in files if file.key is not None}
    if not dated:
        raise SpecError("no file says which partition it holds", given=", ".join(file.path.name for file in files),
                        allowed=IN_WORDS, next_step="Rename one, or have it delivered under such a name")  # fmt: skip
    if len(dated) > 1:
        given = ", ".join(f"{file} ({grain} {key})" for (grain, key), file in dated.items())
        raise SpecError("the files are of different partitions", given=given,
                        next_step="Give those of one, all cut by hours, by days or by months")  # fmt: skip


def _moment(main: Delivery, partitioning: Partitioning, key: str) -> Moment:
    """The first column of moments, else of dates, that lie in the partition; else one of which some do."""
    start, end = (
        pa.scalar(moment, pa.timestamp("us", "UTC")) for moment in (partitioning.start(key), partitioning.end(key))
    )
    some = Moment()
    for kind in ("timestamp", "date"):
        for column in (column for column in main.of(kind) if main.full(column)):
            times = main.table[column]
            times = times.cast(pa.timestamp("us")).cast(start.type) if kind == "date" else times
            outside = pc.sum(pc.or_(pc.less(times, start), pc.greater_equal(times, end))).as_py()
            if not outside:
                return Moment(column, kind)
            if some.column is None and outside < main.table.num_rows:
                some = Moment(column, kind, outside)
    return some


def key_of(delivery: Delivery, beside: str | None = None) -> tuple[str, ...] | None:
    """The fewest columns, likeliest first, in which no two rows are alike, if need be with the column `beside`."""
    columns = [column for column in delivery.of(*_KEYS) if delivery.full(column)]
    columns.sort(key=lambda column: not _LIKE_A_KEY.search(column))
    columns = columns[:_MOST_KEYS]
    for size in (1, 2):
        for more in [()] if beside is None else [(), (beside,)]:
            for found in combinations(columns, size):
                if delivery.unique(*found, *more):
                    return found
    return None


def _entity(main: Delivery, moment: Moment) -> tuple[str, ...]:
    if found := key_of(main, moment.column):
        return found
    raise DataError(
        "no column of text or integers tells the rows apart, nor do two of them, nor with the time of a row",
        where=main.named.path.name,
        next_step="Features are one row for each key and time: have a key delivered, or rows that stand twice removed",
    )


def _names(columns: Sequence[str]) -> dict[str, str]:
    """Column -> a name that SQL, Python and Feast take without quotes, none of them twice."""
    found: dict[str, str] = {}
    for number, column in enumerate(columns, start=1):
        plain = re.sub(r"[^A-Za-z0-9_]+", "_", column).strip("_") or f"column_{number}"
        plain = plain if plain[0].isalpha() else f"column_{plain}"
        taken = {name.lower() for name in (*found.values(), EVENT_TIME)}
        tries = (plain if not n else f"{plain}_{n + 1}" for n in range(len(columns) + 2))
        found[column] = next(name for name in tries if name.lower() not in taken)
    return found


def _labels(main: Delivery, columns: Sequence[str], names: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"binary": [], "multiclass": [], "regression": []}
    for column in columns:
        for task in _tasks(main, column):
            found[task].append(names[column])
    return {task: labels for task, labels in found.items() if labels}


def _tasks(main: Delivery, column: str) -> Iterator[str]:
    kind, values = main.kinds[column].type, pc.unique(main.table[column]).drop_null()
    if len(values) < 2:
        return
    if kind == "boolean" or (kind == "integer" and set(values.to_pylist()) == {0, 1}):
        yield "binary"
    elif kind in _KEYS and len(values) <= min(_MOST_CLASSES, main.table.num_rows // 2):
        yield "multiclass"
    elif kind in ("integer", "number"):
        yield "regression"
