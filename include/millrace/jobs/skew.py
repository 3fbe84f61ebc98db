"""skew: what servers read online for a request must be what the point-in-time join gives for that moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field

from millrace.contract import Check, Outcome, Verdict
from millrace.jobs.work import Work
from millrace.rules.labels import utc
from millrace.spec.serving import FEATURE, TIME

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView

SHOWN = 5
Place = tuple[tuple[Any, ...], datetime]
"""Entity and event time of a features row."""


class Params(BaseModel):
    """How much is compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int = Field(default=500, ge=1, description="Most served rows per feature view, chosen by the seed.")


@dataclass(frozen=True)
class Asked:
    """One served row: whom it was about, when it was asked, the event time of what was read, and the values."""

    entity: Mapping[str, Any]
    asked: datetime
    read: datetime
    values: Mapping[str, Any]

    @property
    def place(self) -> Place:
        """Which features row was read."""
        return tuple(self.entity.values()), self.read


def run(work: Work, params: Params) -> Outcome:
    """Compare sampled rows of `served` with Feast's offline join of `features` at the moment they were asked, view by
    view, at the tolerance of parity.

    No skew are values of an earlier row than the join gives (the newer one was not online yet: `behind`), and values of
    a row that was delivered again later, by its created time, or by an earlier Snapshot of its partition (`former`):
    `explained`. Rows read from before the partitions given are left out. Without a row to compare there is no verdict.
    """
    from millrace.feast_stores import materialize
    from millrace.feast_stores.repo import open_feature_store, views_of_table

    spec, table = work.spec, f"{work.spec.name}/features"
    pins = [{"partition": str(item.partition), "snapshot": item.digest, "uri": work.request.key(item)}
            for item in work.request.inputs("features")]  # fmt: skip
    store = open_feature_store(
        work.bundle.feature_store, registry=work.service("registry"), online=work.service("online"),
        store=work.request.place.store, pinned={table: pins},
    )  # fmt: skip
    served = work.read(work.request.input("served"))
    served = served.filter(pc.and_(served["kept"], pc.equal(served["found"], "found")).fill_null(False))
    oldest = min(spec.partitioning.start(pin["partition"]) for pin in pins)
    checks, facts = [], {}
    for view in views_of_table(store, table, work.bundle.features, f"feature_repo/{spec.name}.py"):
        time = TIME.format(view.name)
        keys = [column.name for column in view.entity_columns]
        if not {time, *keys} <= {*served.column_names}:
            continue
        names = [f.name for f in view.features if FEATURE.format(f.name) in served.column_names]
        rows = served.filter(pc.greater_equal(served[time], pa.scalar(oldest, served[time].type)).fill_null(False))
        rows = materialize.sample(rows, params.rows, work.request.identity.seed)
        if not names or not rows.num_rows:
            continue
        asked = _asked(rows, keys, time, names)
        found, kinds = _skewed(work, store, view, asked, names)
        checks.append(_check(work, view.name, asked, found))
        facts[view.name] = {"compared": len(asked), "rows": len({index for index, *_ in found}), **kinds,
                            "columns": dict(sorted(Counter(name for _, name, *_ in found).items()))}  # fmt: skip
    if not checks:
        return Outcome(facts={"partition": work.partition, "views": {}})
    verdict = Verdict(passed=all(check.passed for check in checks), checks=tuple(checks))
    return Outcome(facts={"partition": work.partition, "views": facts}, verdict=verdict)


def _asked(rows: pa.Table, keys: list[str], time: str, names: list[str]) -> list[Asked]:
    """Rows with what was kept of them: a feature that no row of its version has is none of that version's."""
    columns = {name: rows[name].to_pylist() for name in (*keys, "asked", "version", time)}
    values = {name: rows[FEATURE.format(name)].to_pylist() for name in names}
    has = {(columns["version"][n], name) for name in names for n, v in enumerate(values[name]) if v is not None}
    return [
        Asked({key: columns[key][n] for key in keys}, columns["asked"][n], columns[time][n],
              {name: values[name][n] for name in names if (columns["version"][n], name) in has})
        for n in range(rows.num_rows)
    ]  # fmt: skip


def _skewed(
    work: Work, store: FeatureStore, view: FeatureView, asked: Sequence[Asked], names: list[str]
) -> tuple[list[tuple[int, str, Any, Any]], dict[str, int]]:
    """Row, column, offline and served value of what nothing explains; and how many rows are behind or explained."""
    from millrace.feast_stores.materialize import agree, offline

    refs = [f"{view.name}:{name}" for name in names]
    types = {feature.name: str(feature.dtype) for feature in view.features}

    def differing(expected: Mapping[str, list[Any]], places: Sequence[int]) -> dict[int, list[tuple[str, Any]]]:
        found: dict[int, list[tuple[str, Any]]] = {}
        for at, index in enumerate(places):
            wrong = [
                (n, expected[n][at]) for n in names if not agree(expected[n][at], asked[index].values[n], types[n])
            ]
            if wrong:
                found[index] = wrong
        return found

    def joined(places: Sequence[int], known: bool) -> dict[str, list[Any]]:
        some = [asked[index] for index in places]
        moments = [each.asked if known else each.read for each in some]
        return offline(store, refs, [dict(each.entity) for each in some], moments, known=known)

    everyone = list(range(len(asked)))
    first = differing(joined(everyone, True), everyone)
    suspects = sorted(first)
    left = differing(joined(suspects, False), suspects) if suspects else {}
    later = _delivered_again(work, view, {asked[index].place for index in left}) if left else {}
    skewed, explained = [], 0
    for index, wrong in left.items():
        each = asked[index]
        created, before = later.get(each.place, (None, []))
        was = any(all(agree(row.get(n), value, types[n]) for n, value in each.values.items()) for row in before)
        if was or (created is not None and created > each.asked):
            explained += 1
        else:
            skewed += [(index, name, expected, each.values[name]) for name, expected in wrong]
    return skewed, {"behind": len(suspects) - len(left), "explained": explained}


def _delivered_again(
    work: Work, view: FeatureView, places: set[Place]
) -> dict[Place, tuple[datetime | None, list[dict[str, Any]]]]:
    """Of these features rows: the latest created time there is now, and the rows that stood there before."""
    spec = work.spec
    keys = [column.name for column in view.entity_columns]
    time, created = spec.features.event_time, spec.features.created_time
    found: dict[Place, tuple[datetime | None, list[dict[str, Any]]]] = {}
    wanted = {name for entity, _ in places for name in entity[:1]}
    for role in ("features", "former"):
        for item in work.request.inputs(role):
            held = pq.read_schema(work.path(item)).names
            names = [*keys, time, *(f.name for f in view.features), *([created] if created else [])]
            rows = work.read(item, columns=[name for name in dict.fromkeys(names) if name in held])
            if not {*keys, time} <= {*rows.column_names}:
                continue
            rows = rows.filter(pc.is_in(rows[keys[0]], value_set=pa.array(list(wanted), rows[keys[0]].type)))
            for name in [time, *([created] if created and created in rows.column_names else [])]:
                rows = rows.set_column(rows.column_names.index(name), name, _utc(rows[name]))
            for row in rows.to_pylist():
                place = (tuple(row[key] for key in keys), row[time])
                if place not in places:
                    continue
                latest, before = found.get(place, (None, []))
                mine = row.get(created) if created else None
                if role == "former":
                    before = [*before, row]
                elif mine is not None and (latest is None or mine > latest):
                    latest = mine
                found[place] = (latest, before)
    return found


def _utc(times: Any) -> Any:
    return utc(times, "time") if not times.null_count else times.cast(pa.timestamp("us", "UTC"), safe=False)


def _check(work: Work, view: str, asked: Sequence[Asked], found: list[tuple[int, str, Any, Any]]) -> Check:
    """The verdict on a view in words: columns, and values only of those that are public."""
    wrong = len({index for index, *_ in found})
    counts = Counter(name for _, name, *_ in found)
    said = [f"{name} in {count:,} rows" for name, count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))]
    shown = [f"{name}: {offline} offline, {served} served" for _, name, offline, served in found
             if work.spec.classification(name) == "public"][:SHOWN]  # fmt: skip
    details = f": {'; '.join([*said, *shown])}" if found else ""
    return Check(
        name="skew", passed=not found, column=min(counts) if len(counts) == 1 else None,
        message=f"feature view '{view}': served as the point-in-time join expected; "
        f"{wrong:,} of {len(asked):,} rows differ{details}",
        unexpected=wrong, total=len(asked),
    )  # fmt: skip
