"""What came of served predictions: the Table of answers joined with outcomes, for the stages that are judged by them.

Answers are rows of `<pipeline>/served`: `request_id`, `at`, `version`, `role` (champion, challenger, shadow),
`prediction` and the entity's keys. Their outcome is the label, or the metric, of the newest features row of the entity
at or before the answer, once it is known.
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
from millrace.rules.outcomes import experiment, paired
from millrace.rules.rollout import Verdict
from millrace.spec.serving import ABRollout, ServingSpec
from millrace.store import SnapshotStore

Row = dict[str, Any]
SERVED = "served"
_KEPT = 8
"""Readings that are kept: what is asked again every few seconds rests on the same Snapshots for long."""


def outcomes_of(site: Site, serving: ServingSpec, rollout: Rollout) -> Verdict:
    """What outcomes say of a rollout so far."""
    rule = serving.rollout
    metric = rule.metric if rollout.state == "step" and isinstance(rule, ABRollout) else None
    by_version = _means(str(site.tree.root), site.name, _published(site), rollout.began, metric, _as_of())
    new, old = by_version.get(rollout.version, {}), by_version.get(rollout.former or 0, {})
    if metric is not None:
        assert isinstance(rule, ABRollout)
        return experiment(new, old, rule)
    assert rule.shadow is not None and rule.shadow.outcomes is not None
    return paired(new, old, rule.shadow.outcomes)


def _as_of() -> str:
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0).isoformat()


def _published(site: Site) -> tuple[tuple[str, str, str], ...]:
    """Dataset, address and digest of every current Snapshot of answers and features."""
    found = []
    for dataset in (SERVED, "features"):
        for key in site.tables.partitions(f"{site.name}/{dataset}"):
            current = site.tables.resolve(f"{site.name}/{dataset}", key)
            found.append((dataset, current.uri, current.snapshot))
    return tuple(found)


@lru_cache(maxsize=_KEPT)
def _means(
    root: str, pipeline: str, published: tuple[tuple[str, str, str], ...], since: str, metric: str | None, as_of: str
) -> dict[int, dict[str, float]]:
    """Version -> day -> mean of what came of its answers: of the metric, or else of the loss on requests that two
    versions answered."""
    site, began, until = Site.at(root, pipeline), datetime.fromisoformat(since), datetime.fromisoformat(as_of)
    answers = [row for row in _rows(site, published, SERVED, _answer_columns(site)) if row["at"] >= began]
    if not answers:
        return {}
    label = site.spec.label
    assert label is not None
    wanted = metric or label.column
    outcomes = _outcomes(site, published, wanted, until)
    requests: dict[str, dict[int, tuple[str, float]]] = defaultdict(dict)
    for row in answers:
        found = outcomes.get(_key(site, row))
        at = bisect_right(found, row["at"], key=lambda each: each[0]) if found else 0
        if not found or at == 0:
            continue
        value = found[at - 1][1]
        figure = float(value) if metric is not None else _loss(label.task, value, row["prediction"])
        requests[row["request_id"]][int(row["version"])] = (row["at"].date().isoformat(), figure)
    sums: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for answered in requests.values():
        if metric is not None or len(answered) > 1:
            for version, (day, figure) in answered.items():
                sums[version][day].append(figure)
    return {version: {day: sum(values) / len(values) for day, values in days.items()} for version, days in sums.items()}


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


def _answer_columns(site: Site) -> list[str]:
    return ["request_id", "at", "version", "prediction", *site.spec.features.entity]


def _key(site: Site, row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in site.spec.features.entity)


def _loss(task: str, label: Any, prediction: Any) -> float:
    """Of one answer: whether its class is wrong, or its squared error; of a probability that is Brier's."""
    if task == "multiclass":
        return float(str(label) != str(prediction))
    return (float(label) - float(prediction)) ** 2
