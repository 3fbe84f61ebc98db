"""What came of served predictions: the Table of answers joined with outcomes, for the stages that are judged by them.

The outcome of an answer is the label, or the metric, of the newest features row of its entity at or before the moment
when it was asked, once it is known. Answers without an entity have none.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from millrace.airflow.runtime.site import Site
from millrace.ledger import Rollout
from millrace.rules.experiment import report
from millrace.rules.outcomes import paired
from millrace.rules.paired import Loss
from millrace.rules.rollout import Verdict
from millrace.spec.serving import ABRollout, ServingSpec
from millrace.store import SnapshotStore
from millrace.store.layout import TOMBSTONE

Row = dict[str, Any]
SERVED = "served"
ANSWER = ("request_id", "row", "asked", "version", "unit", "prediction")
"""Columns that are read of the answers, beside the entity's keys."""
_KEPT = 8
"""Readings that are kept: what is asked again every few seconds rests on the same Snapshots for long."""


def outcomes_of(site: Site, serving: ServingSpec, rollout: Rollout) -> Verdict:
    """What outcomes say of a rollout so far, from those of whole hours."""
    rule = serving.rollout
    if rollout.former is None:
        return Verdict(None, "there is no champion to compare with")
    metric = rule.metric if rollout.state == "step" and isinstance(rule, ABRollout) else None
    as_of = _as_of()
    known = _known(str(site.tree.root), site.name, _published(site), rollout.began, metric, as_of)
    if metric is not None:
        assert isinstance(rule, ABRollout)
        began, now = datetime.fromisoformat(rollout.began), datetime.fromisoformat(as_of)
        return report(known, rollout.version, rollout.former, rule, began=began, now=now).verdict
    assert rule.shadow is not None and rule.shadow.outcomes is not None
    return paired(known, rollout.version, rollout.former, rule.shadow.outcomes)


def _as_of() -> str:
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0).isoformat()


def _published(site: Site) -> tuple[tuple[str, str, str], ...]:
    """Dataset, address and digest of every current Snapshot of answers and features."""
    found = []
    for dataset in (SERVED, "features"):
        for key in site.tables.partitions(f"{site.name}/{dataset}"):
            current = site.tables.resolve(f"{site.name}/{dataset}", key)
            if not site.objects.exists(current.uri + TOMBSTONE):  # not erased, nor kept as long as was said
                found.append((dataset, current.uri, current.snapshot))
    return tuple(found)


@lru_cache(maxsize=_KEPT)
def _known(
    root: str, pipeline: str, published: tuple[tuple[str, str, str], ...], since: str, metric: str | None, as_of: str
) -> list[Loss]:
    """What came of each answer since a moment: the metric, or else the loss; blocks are days."""
    site, began, until = Site.at(root, pipeline), datetime.fromisoformat(since), datetime.fromisoformat(as_of)
    asked = [*ANSWER, *site.spec.features.entity]
    answers = [row for row in _rows(site, published, SERVED, asked) if row["asked"] >= began]
    label = site.spec.label
    if not answers or label is None:
        return []
    outcomes, found = _outcomes(site, published, metric or label.column, until), []
    for row in answers:
        mine = outcomes.get(_key(site, row), [])
        at = bisect_right(mine, row["asked"], key=lambda each: each[0])
        if row["version"] is None or row["prediction"] is None or not at:
            continue
        value = float(mine[at - 1][1]) if metric else _loss(label.task, mine[at - 1][1], row["prediction"])
        found.append(Loss(request=(row["request_id"], row["row"]), version=row["version"],
                          block=row["asked"].date().isoformat(), value=value, unit=row["unit"]))  # fmt: skip
    return found


def _outcomes(
    site: Site, published: tuple[tuple[str, str, str], ...], column: str, until: datetime
) -> dict[tuple[Any, ...], list[tuple[datetime, Any]]]:
    """Entity -> its outcomes that are known, in the order of time."""
    label, time = site.spec.label, site.spec.features.event_time
    assert label is not None
    found: dict[tuple[Any, ...], list[tuple[datetime, Any]]] = defaultdict(list)
    for row in _rows(site, published, "features", [*site.spec.features.entity, time, column]):
        if row[column] is not None and label.known_after.after(row[time]) <= until:
            found[_key(site, row)].append((row[time], row[column]))
    for rows in found.values():
        rows.sort(key=lambda each: each[0])
    return found


def _rows(site: Site, published: tuple[tuple[str, str, str], ...], dataset: str, columns: list[str]) -> Iterator[Row]:
    snapshots = SnapshotStore(site.objects)
    for name, uri, digest in published:
        if name == dataset:
            yield from snapshots.read(uri, digest, columns).to_pylist()


def _key(site: Site, row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in site.spec.features.entity)


def _loss(task: str, label: Any, prediction: Any) -> float:
    """Of one answer: whether its class is wrong, or its squared error; of a probability that is Brier's."""
    if task == "multiclass":
        return float(str(label) != str(prediction))
    return (float(label) - float(prediction)) ** 2
