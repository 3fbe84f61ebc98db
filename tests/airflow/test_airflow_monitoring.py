"""The tasks of the monitoring DAG, each by itself on the context of a task: what is compared, and what is decided."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from support.ledger import automatically, promoted, trained, unanchored
from support.project import DAYS, PIPELINE, features, publish, sample, stored
from support.releases import House
from support.task import Asked, asked, running, unasked

from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import monitoring as tasks
from millrace.contract import Metric, Outcome, code_digest
from millrace.core.canonical import canonical_json
from millrace.store import bundles, layout

DAY = DAYS[8]
"""A window of seven days ends with it, and begins where the champion's training ended."""
SCORED = [day for day in DAYS[2:9] if day != DAYS[3]]
QUIET: dict[str, Any] = {"rows": 1200, "enough_rows": True, "columns": {}, "broken": {}, "drifted": False}
WELL: dict[str, Any] = {"degraded": False, "excess": 0.0}
WORSE: dict[str, Any] = {"degraded": True, "excess": 0.2}
UNKNOWN: dict[str, Any] = {"degraded": None, "excess": None}
"""Outcomes have not come."""


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


def found(
    site: Site, day: str, drift: dict[str, Any], performance: dict[str, Any], gain: dict[str, Any] | None = None
) -> None:
    """What this day's run found, as if its jobs had; a probe where it found a gain."""
    jobs = [(tasks.drift, drift), (tasks.performance, performance)]
    jobs += [(tasks.probe, {"gain": gain, "why": None})] if gain else []
    for work, facts in jobs:
        with at(day):
            request = work.ask(**here(site))
            if request is not None:
                Asked(work, here(site), request).answered(Outcome(facts=facts))


def at(day: str, task_id: str = "decide", **more: Any) -> Any:
    """Be in a task of a day's run."""
    return running(f"{PIPELINE}__monitoring", task_id, run_id=f"monitoring__{day}", partition_key=day, **more)


def decide(
    site: Site,
    day: str,
    drift: dict[str, Any] = QUIET,
    performance: dict[str, Any] = WELL,
    gain: dict[str, Any] | None = None,
) -> Any:
    found(site, day, drift, performance, gain)
    with at(day):
        return tasks.decide(**here(site))


def records(site: Site) -> list[tuple[str, str, str]]:
    return [(r.partition, r.action, r.reason) for r in site.ledger.monitoring(PIPELINE)]


def test_drift_compares_the_window_with_the_champion_of_record(site):
    with running(task_id="drift", partition_key=DAY):
        comparing = asked(tasks.drift, **here(site))
        outcome = Outcome(facts={"rows": 9, "broken": {}, "drifted": None})
        report = comparing.answered(outcome, links={"report": "r.html"})
    request = comparing.request
    assert [(i.role, i.partition) for i in request.identity.inputs] == [
        ("model", None),
        *(("current", day) for day in DAYS[2:9]),
        *(("predictions", day) for day in SCORED),
    ]
    assert request.identity.params["as_of"] == "2024-01-10T01:00:00+00:00"
    assert report == "r.html"


def test_performance_compares_what_was_scored_with_the_features_of_the_same_partitions(site):
    with running(task_id="performance", partition_key=DAY):
        measuring = asked(tasks.performance, **here(site))
        outcome = Outcome(facts={"degraded": False, "blocks": {"d": [1, 2]}}, metrics={"log_loss": Metric(value=0.5)})
        seen = measuring.answered(outcome)
    request = measuring.request
    assert [i.partition for i in request.inputs("predictions")] == SCORED
    assert [i.partition for i in request.inputs("features")] == SCORED
    assert len(request.inputs("evaluation")) == 1
    assert seen == {"log_loss": 0.5}


def test_a_probe_gets_the_champions_rows_and_what_came_since(site):
    with at(DAYS[5], "probe"):
        probing = asked(tasks.probe, **here(site))
        gain = probing.answered(Outcome(facts={"gain": None, "why": "too few", "form": "sampled"}))
    request = probing.request
    champion = site.ledger.champion(PIPELINE).trained
    assert [request.input(r).digest for r in ("model", "training_set", "evaluation")] == [
        champion.model.digest, champion.training_set.digest, champion.evaluation.digest,
    ]  # fmt: skip
    assert tuple(i.partition for i in request.inputs("features")) == tuple(DAYS[2:6]) == request.identity.scope
    assert (request.identity.params["form"], gain) == ("sampled", None)


def test_what_the_champion_was_trained_on_is_not_probed(site):
    with at(DAYS[1], "probe"):
        assert unasked(tasks.probe, **here(site)) is None


def gained(mean, error, recent=False):
    return {"mean": mean, "error": error, "freedom": 20.0, "recent": recent}


def test_a_gain_that_is_worth_its_cost_retrains_with_the_weights_that_won_it(site):
    answer = decide(site, DAY, gain=gained(0.2, 0.01, recent=True))
    (decision,) = site.ledger.retrains(PIPELINE)
    assert (decision.reason, decision.half_life, answer["decision"]) == ("gain", 3.0, decision.id)
    (record,) = site.ledger.monitoring(PIPELINE)
    assert record.window["gain"] == gained(0.2, 0.01, recent=True)
    assert "cpu_seconds" in record.probe


def test_small_gains_add_up_over_the_records_of_one_champion(site):
    small = gained(0.003, 0.0002)
    assert decide(site, DAYS[3], gain=small) is None
    promoted(site.ledger, 2, pipeline=PIPELINE, trained_to=DAYS[1], model=stored(site, "model", "m"))
    assert decide(site, DAYS[4], gain=small) is None  # another champion, which was not to be had before
    assert decide(site, DAYS[5], gain=small)["reason"].startswith("gain: a retraining would have won 0.6%")
    assert site.ledger.retrains(PIPELINE)[0].half_life is None


def test_a_probe_of_another_champion_says_nothing(site):
    with at(DAY):
        probing = Asked(tasks.probe, here(site), tasks.probe.ask(**here(site)))
        probing.answered(Outcome(facts={"gain": gained(0.2, 0.01), "why": None}))
        promoted(site.ledger, 2, pipeline=PIPELINE, trained_to=DAYS[1], model=stored(site, "model", "other"))
    assert decide(site, DAY) is None
    assert site.ledger.entries(PIPELINE, "decision")[-1].body["reason"] == "champion_changed"


def test_a_probe_that_was_due_and_is_not_on_record_is_no_probe_without_a_gain(site):
    site.spec.monitoring.__dict__["window"] = None  # the project's probes no window of several partitions
    with pytest.raises(AirflowFailException, match="no job 'probe' of this run is on record"):
        decide(site, DAYS[2])


def test_without_predictions_there_is_no_performance(site):
    with running(task_id="performance", partition_key=DAYS[3]):
        site.spec.monitoring.__dict__["window"] = None
        assert unasked(tasks.performance, **here(site)) is None


def test_a_champion_that_was_promoted_meanwhile_is_not_judged_by_what_another_was_compared_with(site):
    found(site, DAY, QUIET | {"drifted": True}, WORSE)
    promoted(site.ledger, 2, pipeline=PIPELINE, trained_to=DAYS[1], model=stored(site, "model", "other"))
    with at(DAY):
        assert tasks.decide(**here(site)) is None
    entry = site.ledger.entries(PIPELINE, "decision")[-1]
    assert (entry.subject, entry.body["reason"]) == (DAY, "champion_changed")
    assert site.ledger.retrains(PIPELINE) == []


def test_the_first_champion_that_came_while_a_run_had_none_judges_nothing(site):
    with at(DAY, start_date=datetime.now(UTC) - timedelta(days=1)):
        assert tasks.decide(**here(site)) is None
    assert site.ledger.entries(PIPELINE, "decision")[-1].body["reason"] == "champion_changed"


def test_a_champion_that_came_before_the_window_was_compared_with_it_is_judged_by_that(site):
    """Also where its run had begun before the promotion, and no probe was made."""
    promoted(site.ledger, 2, pipeline=PIPELINE, trained_to=DAYS[1], model=stored(site, "model", "other"),
             evaluation=stored(site, "evaluation", "e"))  # fmt: skip
    found(site, DAY, QUIET, WELL)
    with at(DAY, start_date=datetime.now(UTC) - timedelta(days=1)):
        tasks.decide(**here(site))
    assert records(site) == [(DAY, "none", "nothing")]


def test_a_run_with_an_unknown_field_compares_nothing(site):
    with at(DAY, "drift", params={"partition": None}) as context:
        context["dag_run"].conf = {"partitoin": DAY}
        with pytest.raises(AirflowFailException, match="Did you mean 'partition'"):
            tasks.drift.ask(**here(site))


@pytest.mark.parametrize("left_out", ["drift", "performance"])
def test_a_task_that_was_marked_as_done_is_not_what_its_job_found(site, left_out):
    """Nor is what somebody put into its XCom, nor what the job found in another run or of another day."""
    found(site, DAYS[7], QUIET, WELL)
    kept = tasks.performance if left_out == "drift" else tasks.drift
    with at(DAY):
        Asked(kept, here(site), kept.ask(**here(site))).answered(Outcome(facts=QUIET | WELL))
    with at(DAY, start_date=datetime.now(UTC)), pytest.raises(AirflowFailException, match=f"no job '{left_out}'"):
        tasks.decide(**here(site))
    assert records(site) == []


def test_without_a_champion_nothing_is_compared_and_that_is_on_record(tmp_path):
    fresh = sample(tmp_path / "shop")
    with at(DAY):
        assert unasked(tasks.drift, **here(fresh)) is None
        assert unasked(tasks.performance, **here(fresh)) is None
        assert tasks.decide(**here(fresh)) is None
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


def test_a_broken_column_fails_the_run_and_never_retrains(site):
    with pytest.raises(AirflowFailException, match="broken column: pages"):
        decide(site, DAY, QUIET | {"broken": {"pages": "all null"}}, WORSE)
    assert records(site) == [(DAY, "alert", "broken")]
    assert site.ledger.retrains(PIPELINE) == []


def test_a_window_of_another_schema_never_retrains_however_much_worse_the_champion_is(site):
    """Its check ends in an error, so that nothing it found is on record; marked as done, it is as good as failed."""
    with at(DAY):
        Asked(tasks.performance, here(site), tasks.performance.ask(**here(site))).answered(Outcome(facts=WORSE))
        with pytest.raises(AirflowFailException, match="no job 'drift' of this run is on record"):
            tasks.decide(**here(site))
    assert (records(site), site.ledger.retrains(PIPELINE)) == ([], [])


def test_where_the_environment_says_so_an_alert_only_warns(site):
    path = site.tree.root / "include" / "environments" / "dev.yaml"
    path.write_text(path.read_text() + "alerts: log\n")
    Site.at.cache_clear()
    site = Site.at(str(site.tree.root), PIPELINE)
    assert decide(site, DAY, QUIET | {"broken": {"pages": "all null"}}, WORSE) is None
    assert records(site) == [(DAY, "alert", "broken")]


def test_drift_retrains_by_k_of_n_windows_of_this_champion_while_outcomes_are_unknown(site):
    drifted = QUIET | {"drifted": True}
    assert decide(site, DAYS[3], drifted, UNKNOWN) is None
    assert decide(site, DAYS[4], drifted, UNKNOWN)["reason"].startswith("drift: 2 of the last 2")


def test_drift_of_an_earlier_champion_counts_for_nothing(site):
    drifted = QUIET | {"drifted": True}
    decide(site, DAYS[3], drifted, UNKNOWN)
    promoted(site.ledger, 2, pipeline=PIPELINE, trained_to=DAYS[1])
    assert decide(site, DAYS[4], drifted, UNKNOWN) is None


def asks(site: Site, **monitoring: Any) -> Site:
    """The project with these keys of `monitoring`."""
    path = site.tree.folder(PIPELINE) / "pipeline.yaml"
    keys = "".join(f"  {name}: {json.dumps(value)}\n" for name, value in monitoring.items())
    path.write_text(path.read_text().replace("monitoring:\n", "monitoring:\n" + keys, 1))
    Site.at.cache_clear()
    return Site.at(str(site.tree.root), PIPELINE)


def test_partitions_published_since_the_training_are_a_reason_where_the_spec_says_how_many(site):
    site = asks(site, new_partitions=3)
    assert decide(site, DAYS[3]) is None
    answer = decide(site, DAYS[4])
    assert answer["reason"] == f"new_data: 3 partitions are published since the champion was trained to {DAYS[1]}; " \
                               "3 are enough"  # fmt: skip
    (_, seen) = site.ledger.monitoring(PIPELINE)
    assert seen.window["new"] == 3


def trained_by_present(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A champion whose Evidence names the folder and the code of now."""
    bundles.keep(site.objects, site.bundle)
    house = House(site.tree.root, monkeypatch)
    evidence = house.evidence(2, spec_digest=site.bundle.digest, code_digest=code_digest())
    artifact = stored(site, "evidence", canonical_json(evidence).decode())
    request = site.ledger.ask_release(PIPELINE, 2, artifact.digest, run_id="r2", reason="a test")
    site.ledger.answer(PIPELINE, request.id, automatically())
    made_of = trained(2, trained_to=DAYS[1], model=stored(site, "model", "m2"))
    site.ledger.promote(PIPELINE, request.id, artifact, made_of, approval=False, anchor=unanchored)
    return house.site


def test_a_changed_learner_is_a_reason_where_the_spec_says_so(site, monkeypatch):
    site = asks(site, retrain_on={"changed": True})
    for day in DAYS[:10]:
        publish(site, day)
    site = trained_by_present(site, monkeypatch)
    assert decide(site, DAYS[4]) is None
    path = site.tree.folder(PIPELINE) / "pipeline.yaml"
    path.write_text(path.read_text().replace("rounds: 60", "rounds: 61"))
    Site.at.cache_clear()
    answer = decide(Site.at(str(site.tree.root), PIPELINE), DAYS[5])
    assert answer["reason"] == "changed: changed since the champion's training: training.learner.rounds 60 -> 61"
    (*_, seen) = site.ledger.monitoring(PIPELINE)
    assert seen.window["changed"] == ["training.learner.rounds 60 -> 61"]


def test_changed_sql_waits_until_the_partitions_of_the_window_are_made_anew(site, monkeypatch):
    site = asks(site, retrain_on={"changed": True})
    for day in DAYS[:10]:
        publish(site, day)
    site = trained_by_present(site, monkeypatch)
    path = site.tree.folder(PIPELINE) / "transform.sql"
    path.write_text(path.read_text().replace("    pages,", "    pages + 1 AS pages,"))
    Site.at.cache_clear()
    site = Site.at(str(site.tree.root), PIPELINE)
    assert decide(site, DAYS[4]) is None
    for day in DAYS[:10]:
        publish(site, day)
    assert decide(site, DAYS[5])["reason"].startswith("changed: changed since the champion's training: features (rec")


@pytest.mark.parametrize("gone", ["evidence", "bundle"])
def test_where_what_it_was_trained_by_is_gone_nothing_is_said_to_have_changed(site, monkeypatch, gone):
    site = trained_by_present(asks(site, retrain_on={"changed": True}), monkeypatch)
    champion = site.ledger.champion(PIPELINE)
    site.objects.delete(champion.evidence.uri if gone == "evidence" else layout.bundle(site.bundle.digest))
    path = site.tree.folder(PIPELINE) / "pipeline.yaml"
    path.write_text(path.read_text().replace("rounds: 60", "rounds: 61"))
    Site.at.cache_clear()
    assert decide(Site.at(str(site.tree.root), PIPELINE), DAYS[5]) is None
