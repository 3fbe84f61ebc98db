"""The tasks of the monitoring DAG, each by itself on the context of a task: what is compared, and what is decided."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.ledger import promoted
from support.project import DAYS, PIPELINE, features, sample, stored
from support.task import asked, running, unasked

from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import monitoring as tasks
from millrace.contract import Metric, Outcome
from millrace.core.canonical import digest

DAY = DAYS[8]
"""A window of seven days ends with it, and begins where the champion's training ended."""
SCORED = [day for day in DAYS[2:9] if day != DAYS[3]]
QUIET: dict[str, Any] = {
    "rows": 1200, "enough_rows": True, "columns": {}, "broken": {}, "drifted": False, "model": digest(b"m"),
    "report": None,
}  # fmt: skip
WELL: dict[str, Any] = {"degraded": False, "excess": 0.0, "metrics": {}}
WORSE: dict[str, Any] = {"degraded": True, "excess": 0.2, "metrics": {}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with ten published days; the champion was trained on the first two and has scored all but one."""
    root = tmp_path_factory.mktemp("monitoring") / "shop"
    site = sample(root)
    for day in DAYS[:10]:
        site.tables.move(f"{PIPELINE}/features", day, features(site, day))
        if day != DAYS[3]:
            site.tables.move(f"{PIPELINE}/predictions", day, features(site, day, dataset="predictions"))
    return root


@pytest.fixture
def site(made: Path, tmp_path: Path) -> Site:
    root = tmp_path / "shop"
    shutil.copytree(made, root)
    Site.at.cache_clear()
    site = Site.at(str(root), PIPELINE)
    promoted(
        site.ledger, 1, pipeline=PIPELINE, trained_to=DAYS[1],
        model=stored(site, "model", "m"), evaluation=stored(site, "evaluation", "e"),
    )  # fmt: skip
    return site


def here(site: Site) -> dict[str, str]:
    return {"root": str(site.tree.root), "pipeline": site.name}


def decide(site: Site, day: str, drift: Any = QUIET, performance: Any = WELL) -> Any:
    with running(f"{PIPELINE}__monitoring", "decide", partition_key=day):
        return tasks.decide(drift, performance, **here(site))


def records(site: Site) -> list[tuple[str, str, str]]:
    return [(r.partition, r.action, r.reason) for r in site.ledger.monitoring(PIPELINE)]


def test_drift_compares_the_window_with_the_champion_of_record(site):
    with running(task_id="drift", partition_key=DAY):
        comparing = asked(tasks.drift, **here(site))
        outcome = Outcome(facts={"rows": 9, "broken": {}, "drifted": None})
        facts = comparing.answered(outcome, links={"report": "r.html"})
    request = comparing.request
    assert [(i.role, i.partition) for i in request.identity.inputs] == [
        ("model", None),
        *(("current", day) for day in DAYS[2:9]),
        *(("predictions", day) for day in SCORED),
    ]
    assert request.identity.params["as_of"] == "2024-01-10T01:00:00+00:00"
    assert (facts["model"], facts["report"]) == (request.input("model").digest, "r.html")


def test_performance_compares_what_was_scored_with_the_features_of_the_same_partitions(site):
    with running(task_id="performance", partition_key=DAY):
        measuring = asked(tasks.performance, **here(site))
        outcome = Outcome(facts={"degraded": False, "blocks": {"d": [1, 2]}}, metrics={"log_loss": Metric(value=0.5)})
        seen = measuring.answered(outcome)
    request = measuring.request
    assert [i.partition for i in request.inputs("predictions")] == SCORED
    assert [i.partition for i in request.inputs("features")] == SCORED
    assert len(request.inputs("evaluation")) == 1
    assert seen == {"degraded": False, "metrics": {"log_loss": 0.5}}


def test_without_predictions_there_is_no_performance(site):
    with running(task_id="performance", partition_key=DAYS[3]):
        site.spec.monitoring.__dict__["window"] = None
        assert unasked(tasks.performance, **here(site)) is None


def test_a_champion_that_was_promoted_meanwhile_is_not_judged_by_what_another_was_compared_with(site):
    with running(task_id="drift", partition_key=DAY):
        comparing = asked(tasks.drift, **here(site))
        promoted(site.ledger, 2, pipeline=PIPELINE, trained_to=DAYS[1], model=stored(site, "model", "other"))
        drift = comparing.answered(Outcome(facts={"rows": 1200, "broken": {}, "drifted": True}))
    assert decide(site, DAY, drift, WORSE) is None
    entry = site.ledger.entries(PIPELINE, "decision")[-1]
    assert (entry.subject, entry.body["reason"]) == (DAY, "champion_changed")
    assert site.ledger.retrains(PIPELINE) == []


def test_without_a_champion_nothing_is_compared_and_that_is_on_record(tmp_path):
    fresh = sample(tmp_path / "shop")
    with running(partition_key=DAY):
        assert unasked(tasks.drift, **here(fresh)) is None
        assert unasked(tasks.performance, **here(fresh)) is None
    assert decide(fresh, DAY, None, None) is None
    (entry,) = fresh.ledger.entries(PIPELINE, "decision")
    assert (entry.subject, entry.body["reason"]) == (DAY, "no_champion")
    assert fresh.ledger.retrains(PIPELINE) == []


def test_no_reason_starts_nothing_and_is_on_record(site):
    assert decide(site, DAY) is None
    assert records(site) == [(DAY, "none", "nothing")]


def test_a_confirmed_loss_claims_one_decision_and_names_the_run_to_start(site):
    answer = decide(site, DAY, performance=WORSE)
    (decision,) = site.ledger.retrains(PIPELINE)
    assert answer == {"decision": decision.id, "reason": answer["reason"], "until": DAY}
    assert answer["reason"].startswith("degraded: ")
    assert (decision.partition, decision.state) == (DAY, "waiting")


def test_a_replay_names_the_same_decision_until_its_run_began_and_none_after(site):
    first = decide(site, DAY, performance=WORSE)
    assert decide(site, DAY, performance=WORSE) == first
    site.ledger.start(first["decision"], "retrain__1")
    assert decide(site, DAY, performance=WORSE) is None
    assert len(site.ledger.retrains(PIPELINE)) == 1


def test_an_older_partition_never_retrains(site):
    decide(site, DAYS[9])
    assert decide(site, DAY, performance=WORSE) is None
    assert (DAY, "none", "older") in records(site)


def test_what_the_champion_was_trained_on_never_retrains(site):
    assert decide(site, DAYS[1], performance=WORSE) is None
    assert records(site) == [(DAYS[1], "none", "in_training")]


def test_a_broken_column_alerts_and_never_retrains(site):
    assert decide(site, DAY, QUIET | {"broken": {"pages": "all null"}}, WORSE) is None
    assert records(site) == [(DAY, "alert", "broken")]
    assert site.ledger.retrains(PIPELINE) == []


def test_drift_retrains_by_k_of_n_windows_of_this_champion_while_outcomes_are_unknown(site):
    drifted = QUIET | {"drifted": True}
    assert decide(site, DAYS[3], drifted, None) is None
    assert decide(site, DAYS[4], drifted, None)["reason"].startswith("drift: 2 of the last 2")


def test_drift_of_an_earlier_champion_counts_for_nothing(site):
    drifted = QUIET | {"drifted": True}
    decide(site, DAYS[3], drifted, None)
    promoted(site.ledger, 2, pipeline=PIPELINE, trained_to=DAYS[1])
    assert decide(site, DAYS[4], drifted, None) is None
