"""The tasks of the features DAG, each by itself on the context of a task: what they let through, and what never."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from support.ledger import promoted
from support.project import DAYS, PIPELINE, features, sample, stored
from support.task import asked, running, unasked

from millrace.airflow.runtime.assets import features_asset, scored_asset
from millrace.airflow.runtime.retry import InfrastructureError, NotYet
from millrace.airflow.runtime.run import in_process, pack, unpack
from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import features as tasks
from millrace.airflow.tasks.partition import partition_of
from millrace.contract import Outcome, code_digest
from millrace.spec.recipe import Recipe

DAY = DAYS[4]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("features") / "shop"
    sample(root)
    return root


@pytest.fixture
def site(made: Path, tmp_path: Path) -> Site:
    root = tmp_path / "shop"
    shutil.copytree(made, root)
    return Site.at(str(root), PIPELINE)


def here(site: Site) -> dict[str, str]:
    return {"root": str(site.tree.root), "pipeline": site.name}


def edit(site: Site, old: str, new: str) -> Site:
    """The pipeline with another spec."""
    path = site.tree.folder(site.name) / "pipeline.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    Site.at.cache_clear()
    return Site.at(str(site.tree.root), site.name)


def land(site: Site, day: str = DAY, **form: Any) -> list[dict[str, Any]]:
    with running(task_id="land.visits", partition_key=day, params=form):
        return tasks.land("visits", **here(site))


def gate_raw(site: Site, landed: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    with running(task_id="gate_raw", partition_key=DAY):
        return tasks.gate_raw({"visits": landed}, **here(site))


@pytest.mark.parametrize(("key", "form"), [(DAY, None), (None, DAY), (DAY, DAYS[0])])
def test_the_partition_is_airflows_key_or_else_that_of_the_form(site, key, form):
    with running(partition_key=key, params={"partition": form}):
        assert partition_of(site) == DAY


@pytest.mark.parametrize(
    ("key", "words"),
    [(None, "does not say which day"), ("2024-1-5", "is not a day partition"), ("2023-12-31", "lies outside"),
     ("2024-01-21", "lies outside")],
)  # fmt: skip
def test_a_run_without_a_usable_partition_fails_with_what_to_do(site, key, words):
    with running(partition_key=key, params={}), pytest.raises(AirflowFailException, match=words):
        partition_of(site)


def test_landing_gives_the_snapshot_and_publishes_nothing(site):
    (item,) = land(site)
    assert item["partition"] == DAY and item["fresh"]
    assert unpack(item["artifact"]).rows == 400
    assert site.tables.partitions(f"{PIPELINE}/raw.visits") == []


def test_a_missing_file_is_waited_for_until_its_time_then_fails_or_is_skipped(site):
    (site.tree.root / "data" / PIPELINE / f"{DAY}.csv").unlink()
    with pytest.raises(AirflowFailException, match="not there|no file|No such|missing"):
        land(site)
    skipping = edit(site, "missing: fail", "missing: skip")
    with pytest.raises(AirflowSkipException):
        land(skipping)
    waiting = edit(skipping, "missing_after: P1D", "missing_after: P99Y")
    with pytest.raises(NotYet):
        land(waiting)


def test_a_truncated_file_fails_for_good_and_lands_nothing(site):
    path = site.tree.root / "data" / PIPELINE / f"{DAY}.csv"
    path.write_text(path.read_text()[:-5])
    with pytest.raises(AirflowFailException):
        land(site)


def test_a_lookback_takes_what_is_published_and_lands_what_nobody_did(site):
    site = edit(site, "    gate: suites/visits.yaml", "    lookback: P2D\n    gate: suites/visits.yaml")
    published = features(site, DAYS[3])
    site.tables.move(f"{PIPELINE}/raw.visits", DAYS[3], published)
    items = land(site)
    assert [(i["partition"], i["fresh"]) for i in items] == [(DAYS[2], True), (DAYS[3], False), (DAY, True)]
    assert unpack(items[1]["artifact"]).digest == published.digest


def test_the_raw_table_moves_when_the_gate_has_passed(site):
    landed = land(site)
    gate_raw(site, landed)
    current = site.tables.resolve(f"{PIPELINE}/raw.visits", DAY)
    assert current.snapshot == unpack(landed[0]["artifact"]).digest


def test_a_failed_gate_ends_the_task_for_good_and_moves_no_table(site):
    path = site.tree.root / "data" / PIPELINE / f"{DAY}.csv"
    path.write_text(path.read_text().replace(",north,", ",norht,"))
    landed = land(site)
    with pytest.raises(AirflowFailException, match=f"FAILED.*{DAY}"):
        gate_raw(site, landed)
    assert site.tables.partitions(f"{PIPELINE}/raw.visits") == []


def test_a_later_partition_of_a_lookback_that_fails_its_gate_moves_no_table(site):
    site = edit(site, "    gate: suites/visits.yaml", "    lookback: P1D\n    gate: suites/visits.yaml")
    path = site.tree.root / "data" / PIPELINE / f"{DAYS[3]}.csv"
    path.write_text(path.read_text().replace(",north,", ",norht,"))
    landed = land(site)
    with pytest.raises(AirflowFailException, match=DAYS[3]):
        gate_raw(site, landed)
    assert site.tables.partitions(f"{PIPELINE}/raw.visits") == []


def test_a_gate_looks_at_the_published_partitions_before_it_and_at_no_later_one(site):
    checks = "expectations:"
    path = site.tree.folder(site.name) / "suites" / "visits.yaml"
    path.write_text(
        path.read_text().replace(checks, "checks:\n  - {type: volume, partitions: 3, min_ratio: 0.5}\n" + checks, 1)
    )
    for day in (DAYS[0], DAYS[1], DAYS[2], DAYS[3], DAYS[6]):
        site.tables.move(f"{PIPELINE}/raw.visits", day, features(site, day))
    from millrace.spec.gate import gate_checks

    asked = gate_checks(site.tree.suite(site.name, "suites/visits.yaml"), "suites/visits.yaml")
    seen = tasks._looked_at(site, "raw.visits", DAY, asked)
    assert [(role, key) for role, _, key in seen] == [("trailing", day) for day in DAYS[1:4]]


def test_the_transform_asks_for_every_raw_snapshot_of_every_source_with_its_partition(site):
    landed = land(site)
    with running(task_id="transform", partition_key=DAY):
        work = asked(tasks.transform, sources={"visits": landed}, **here(site))
        made = features(site, DAY)
        assert unpack(work.answered(Outcome(outputs={"data": made}))) == made
    request = work.request
    assert request.identity.scope == (DAY,)
    assert [(i.role, i.partition) for i in request.identity.inputs] == [("visits", DAY)]
    assert request.identity.spec_digest == site.bundle.digest


def test_a_passed_features_gate_is_on_record_for_exactly_this_snapshot(site):
    made = transformed(site)
    with running(task_id="gate_features", partition_key=DAY):
        tasks.gate_features(pack(made), **here(site))
    (entry,) = site.ledger.entries(PIPELINE, "gate", f"features/{DAY}")
    assert (entry.body["snapshot"], entry.body["passed"]) == (made.digest, True)


def test_a_failed_features_gate_records_no_pass(site):
    made = features(site, DAY)  # which lacks most columns that the suite asks for
    with running(task_id="gate_features", partition_key=DAY), pytest.raises(AirflowFailException, match="FAILED"):
        tasks.gate_features(pack(made), **here(site))
    assert not [e for e in site.ledger.entries(PIPELINE, "gate") if e.body["passed"]]


def test_publishing_moves_the_table_and_names_the_partition_to_who_listens(site):
    made = features(site, DAY)
    with running(task_id="publish", partition_key=DAY) as context:
        tasks.publish(pack(made), **here(site))
        assert context["outlet_events"][features_asset(site)].partition_keys == {DAY}
    assert site.tables.resolve(f"{PIPELINE}/features", DAY).snapshot == made.digest


def test_publishing_keeps_the_recipe_that_the_transforms_result_names_for_just_this_snapshot(site):
    # Given a transform that ran, and SQL that was changed before its features were published
    landed = land(site)
    with running(task_id="transform", partition_key=DAY):
        made = in_process(tasks.transform)(sources={"visits": landed}, **here(site))
    recipe = Recipe.of(site.bundle).digest
    sql = site.tree.folder(site.name) / "transform.sql"
    sql.write_text(sql.read_text().replace("    pages,", "    pages + 1 AS pages,"))
    Site.at.cache_clear()
    # When they are published
    with running(task_id="publish", partition_key=DAY):
        tasks.publish(made, **here(site))
    # Then the Table knows what made them, also where the XCom was edited to name no request, or another's Snapshot
    current = site.tables.resolve(f"{PIPELINE}/features", DAY)
    assert (current.recipe, current.code) == (recipe, code_digest())
    assert not Recipe.of(Site.at(str(site.tree.root), PIPELINE).bundle).takes(current.recipe)
    other = features(site, DAY)
    with (
        running(task_id="publish", partition_key=DAY),
        pytest.raises(AirflowFailException, match="speaks of another Snapshot"),
    ):
        tasks.publish({**made, **pack(other)}, **here(site))
    with running(task_id="publish", partition_key=DAY):
        tasks.publish(pack(other), **here(site))
    assert site.tables.resolve(f"{PIPELINE}/features", DAY).recipe is None


def test_a_rebuild_lands_again_and_where_the_file_is_gone_takes_what_was_landed(site):
    first = land(site)
    gate_raw(site, first)
    (again,) = land(site, rebuild=True)
    assert again["fresh"] and again["artifact"] == first[0]["artifact"]
    (site.tree.root / "data" / PIPELINE / f"{DAY}.csv").unlink()
    (kept,) = land(site, rebuild=True)
    assert not kept["fresh"] and unpack(kept["artifact"]).digest == unpack(again["artifact"]).digest
    with pytest.raises(AirflowFailException):
        land(site)


def test_a_rebuild_scores_nothing_and_monitoring_hears_nothing(site):
    promoted(site.ledger, 3, pipeline=PIPELINE, model=stored(site, "model", "{}"))
    with running(task_id="score", partition_key=DAY, params={"rebuild": True}) as context:
        with pytest.raises(AirflowSkipException, match="only made anew"):
            unasked(tasks.score, features=pack(features(site, DAY)), **here(site))
        assert not context["outlet_events"][scored_asset(site)].partition_keys
    assert site.tables.partitions(f"{PIPELINE}/predictions") == []


def test_without_a_champion_nothing_is_scored_and_monitoring_hears_of_the_partition(site):
    with running(task_id="score", partition_key=DAY) as context:
        facts = unasked(tasks.score, features=pack(features(site, DAY)), **here(site))
        assert context["outlet_events"][scored_asset(site)].partition_keys == {DAY}
    assert facts["version"] is None
    assert site.tables.partitions(f"{PIPELINE}/predictions") == []


def test_the_champion_of_record_scores_and_its_predictions_are_published(site):
    model, predictions = stored(site, "model", "{}"), features(site, DAY, dataset="predictions")
    promoted(site.ledger, 3, pipeline=PIPELINE, model=model)
    with running(task_id="score", partition_key=DAY) as context:
        scoring = asked(tasks.score, features=pack(features(site, DAY)), **here(site))
        facts = scoring.answered(Outcome(outputs={"data": predictions}))
        assert context["outlet_events"][scored_asset(site)].partition_keys == {DAY}
    assert scoring.request.input("model").digest == model.digest
    assert scoring.request.identity.params == {"version": "3"}
    assert facts["version"] == 3
    assert site.tables.resolve(f"{PIPELINE}/predictions", DAY).snapshot == predictions.digest


def test_an_infrastructure_failure_is_retried_and_bad_input_is_not(site):
    from millrace.airflow.runtime.run import settled
    from millrace.contract import JobError, JobResult

    request = site.request("land", scope=(DAY,))
    for retry, raised in (("same", InfrastructureError), ("never", AirflowFailException)):
        failed = JobResult(job="land", request_digest="x", error=JobError(type="X", message="no", retry=retry))
        with pytest.raises(raised, match="land failed: no"):
            settled(request, failed)


def transformed(site: Site) -> Any:
    """The features of the day, by the real job."""
    landed = land(site)
    with running(task_id="transform", partition_key=DAY):
        from millrace.airflow.runtime.run import in_process

        return unpack(in_process(tasks.transform)(sources={"visits": landed}, **here(site)))


def test_every_source_is_judged_and_those_that_passed_are_published(site):
    """Given two sources of which one fails, then the verdict of both is told, and the other's table has moved."""
    site = with_second_source(site)
    path = site.tree.root / "data" / PIPELINE / f"{DAY}.csv"
    good = land(site)
    path.write_text(path.read_text().replace(",north,", ",norht,"))
    with running(task_id="land.calls", partition_key=DAY):
        bad = tasks.land("calls", **here(site))
    with running(task_id="gate_raw", partition_key=DAY), pytest.raises(AirflowFailException, match="raw.calls") as end:
        tasks.gate_raw({"calls": bad, "visits": good}, **here(site))
    assert "raw.visits" not in str(end.value)
    assert site.tables.partitions(f"{PIPELINE}/raw.visits") == [DAY]
    assert site.tables.partitions(f"{PIPELINE}/raw.calls") == []


def test_a_source_is_not_judged_by_one_that_failed(site):
    site = with_second_source(site)
    suite = site.tree.folder(site.name) / "suites" / "visits.yaml"
    reference = "checks:\n  - {type: reference, columns: [region], source: calls}\n"
    (suite.parent / "other.yaml").write_text(reference + suite.read_text())
    site = edit(site, "    gate: suites/visits.yaml\n    columns", "    gate: suites/other.yaml\n    columns")
    path = site.tree.root / "data" / PIPELINE / f"{DAY}.csv"
    good = land(site)
    path.write_text(path.read_text().replace(",north,", ",norht,"))
    with running(task_id="land.calls", partition_key=DAY):
        bad = tasks.land("calls", **here(site))
    with (
        running(task_id="gate_raw", partition_key=DAY),
        pytest.raises(AirflowFailException, match="raw.visits: not judged, since its checks look into calls"),
    ):
        tasks.gate_raw({"visits": good, "calls": bad}, **here(site))
    assert site.tables.partitions(f"{PIPELINE}/raw.visits") == []


def with_second_source(site: Site) -> Site:
    """The pipeline with the same deliveries taken as a source of another name too."""
    path = site.tree.folder(site.name) / "pipeline.yaml"
    text = path.read_text()
    begin, end = text.index("  visits:\n"), text.index("\nfeatures:\n")
    path.write_text(text[:end] + text[begin:end].replace("  visits:", "  calls:") + text[end:])
    Site.at.cache_clear()
    return Site.at(str(site.tree.root), site.name)
