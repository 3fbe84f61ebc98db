"""Served predictions joined with what came of them: the newest row at or before the answer, once it is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from support.project import PIPELINE, snapshot
from support.rolling import Served

from millrace.airflow.runtime import outcomes
from millrace.cli.rollout import status as lines
from millrace.spec.serving import ServingSpec
from millrace.store import SnapshotStore

BEGAN = datetime(2024, 3, 1, tzinfo=UTC)
OLD, NEW = 1, 2


@pytest.fixture
def judged(served: Served) -> Served:
    """Thirty days of answers by both versions: the new one is right, the old one undecided."""
    outcomes._known.cache_clear()
    for day in range(30):
        publish(served, day)
    return served


def publish(served: Served, day: int, apart: bool = False, **changes: Any) -> None:
    site, at = served.site, BEGAN + timedelta(days=day, hours=3)
    key = at.date().isoformat()
    answers = [
        {"request_id": f"{day}-{n}", "row": 0, "asked": at, "unit": f"{day}-{n}", "version": version,
         "role": "champion" if version == OLD else "shadow",
         "prediction": (0.5 if version == OLD else n % 2 * 0.8 + 0.1), "visit_id": f"{day}-{n}", **changes}
        for n in range(6) for version in (OLD, NEW) if not apart or version == (NEW if n % 2 else OLD)
    ]  # fmt: skip
    table = snapshot(site, pa.Table.from_pylist(answers), "served", key)
    site.tables.move(f"{PIPELINE}/served", key, table)
    known = [
        {"visit_id": f"{day}-{n}", "event_timestamp": at + late, "ordered": value}
        for n in range(6) for late, value in ((-timedelta(hours=1), n % 2), (timedelta(hours=1), 1 - n % 2))
    ]  # fmt: skip
    site.tables.move(f"{PIPELINE}/features", key, snapshot(site, pa.Table.from_pylist(known), "features", key))


def asked(served: Served, began: datetime = BEGAN, state: str = "shadow", **rollout: Any) -> Any:
    serving = ServingSpec.model_validate({"rollout": rollout})
    standing = type("Standing", (), {"version": NEW, "former": OLD, "began": began.isoformat(), "state": state})
    return outcomes.outcomes_of(served.site, serving, standing)


SHADOW = {"strategy": "shadow", "shadow": {"outcomes": {}}}


def test_a_version_that_is_right_where_the_champion_is_undecided_is_no_worse(judged: Served):
    verdict = asked(judged, **SHADOW)
    assert verdict.better is True and "over 30 blocks of time" in verdict.words
    # 0.01 of 0.25: the row after the answer, which says the contrary, is not what it is judged by
    assert "-0.96 [" in verdict.words


def test_what_was_answered_before_the_stage_began_does_not_count(judged: Served):
    verdict = asked(judged, BEGAN + timedelta(days=27), **SHADOW)
    assert verdict.better is None and "3 of at least 5 blocks" in verdict.words


def test_requests_that_one_version_alone_answered_are_no_pair(judged: Served):
    publish(judged, 40, version=NEW)
    assert "over 30 blocks" in asked(judged, **SHADOW).words


def test_without_served_predictions_nothing_is_known(served: Served):
    outcomes._known.cache_clear()
    assert asked(served, **SHADOW).better is None


def test_an_experiment_is_judged_by_its_metric_over_each_versions_own_units(judged: Served):
    for day in range(30):  # units with an even number met the champion, those with an odd one, who order, the new one
        publish(judged, day, apart=True)
    verdict = asked(judged, state="step", strategy="ab", metric="ordered", minimum_effect=0.05)
    assert "ordered more than the champion's by +1 [" in verdict.words and verdict.better is True


def test_what_was_erased_is_left_out(judged: Served):
    site = judged.site
    current = site.tables.resolve(f"{PIPELINE}/served", BEGAN.date().isoformat())
    SnapshotStore(site.objects).erase(current.uri, current.snapshot, "subjects withdrew")
    assert "over 29 blocks" in asked(judged, **SHADOW).words


AB = """
serving:
  rollout: {strategy: ab, shadow: null, metric: ordered, minimum_effect: 0.3, longest: P60D, watch: PT0S}
"""


def test_an_experiment_has_a_report_while_it_waits_and_in_the_event_that_ends_it(house, monkeypatch, capsys):
    served = Served(house.site.tree.root, monkeypatch, AB)
    outcomes._known.cache_clear()
    served.first()
    served.opened(NEW)
    assert served.stage(NEW, 1) == "waits"
    rollout = served.ledger.rollout(PIPELINE)
    began = datetime.fromisoformat(rollout.began)

    def days(first: int, last: int) -> None:  # who met the new version orders; one value is none that the spec allows
        for day in range(first, last):
            asked, key = began + timedelta(days=day), (began + timedelta(days=day)).date().isoformat()
            met = [NEW if n % 2 else OLD for n in range(6)]
            answers = [
                {"request_id": f"{day}-{n}", "row": 0, "asked": asked, "unit": f"{day}-{n}", "version": version,
                 "role": "champion", "prediction": 0.5, "visit_id": f"{day}-{n}"} for n, version in enumerate(met)
            ]  # fmt: skip
            known = [
                {"visit_id": f"{day}-{n}", "event_timestamp": began - timedelta(hours=3),
                 "ordered": float(version == NEW) + (n == day == 1)} for n, version in enumerate(met)
            ]  # fmt: skip
            site = served.site
            site.tables.move(f"{PIPELINE}/served", key, snapshot(site, pa.Table.from_pylist(answers), "served", key))
            site.tables.move(f"{PIPELINE}/features", key, snapshot(site, pa.Table.from_pylist(known), "features", key))

    def status() -> str:
        return "\n".join(lines(served.ledger, served.site.objects, PIPELINE))

    assert "experiment: ordered more than the champion's is unknown" in status()
    days(0, 5)
    assert served.stage(NEW, 1) == "waits"
    for text in (status(), capsys.readouterr().out):
        assert "new version, 2: 15 units with outcomes, mean 1 [" in text
        assert "split: 50.0% of 30 units met the new version, 50.0% planned; as planned" in text
        assert "5 are there, about 22 more at 6 units a day" in text
        assert "WARNING: 1 of 30 values lie outside low to high" in text
    assert served.in_store().arms[1].version == NEW

    days(5, 30)
    assert served.stage(NEW, 1) == "step"
    served.promoted(NEW)
    kept = served.ledger.rollout(PIPELINE).seen["experiment"]
    assert (kept["days"], kept["new"]["units"], kept["outside"], kept["days_needed"]) == (30, 90, 1, 27)
    assert "rule: the interval lies above 0: promoted" in status() and "{'metric'" not in status()
