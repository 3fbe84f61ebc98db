"""The tasks of the features DAG, each by itself on the context of a task: what they let through, and what never."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from support.ledger import promoted, verdict
from support.project import DAYS, PIPELINE, features, sample, stored
from support.task import asked, running, unasked

from millrace.airflow.runtime.assets import features_asset, scored_asset
from millrace.airflow.runtime.retry import InfrastructureError, NotYet
from millrace.airflow.runtime.run import in_process, unpack
from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import features as tasks
from millrace.airflow.tasks import landing
from millrace.airflow.tasks.partition import partition_of
from millrace.contract import JobResult, Outcome, code_digest
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
        return landing.land("visits", **here(site))


def gate_raw(site: Site, landed: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    with running(task_id="gate_raw", partition_key=DAY):
        return tasks.gate_raw({"visits": landed}, **here(site))


@pytest.mark.parametrize(("key", "form"), [(DAY, None), (None, DAY), (DAY, DAY)])
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


def test_a_form_that_says_another_partition_than_the_run_is_refused(site):
    with (
        running(partition_key=DAY, params={"partition": DAYS[0]}),
        pytest.raises(AirflowFailException, match="says both"),
    ):
        partition_of(site)


def test_a_run_with_an_unknown_field_lands_nothing(site):
    words = "'rebuilt', which is no field .* Did you mean 'rebuild'"
    with running(partition_key=DAY, params={"rebuild": False}) as context:
        context["dag_run"].conf = {"rebuilt": True}
        with pytest.raises(AirflowFailException, match=words):
            landing.land("visits", **here(site))


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
    gate_raw(site, landed)
    with running(task_id="transform", partition_key=DAY):
        work = asked(tasks.transform, sources={"visits": landed}, **here(site))
        made = features(site, DAY)
        assert unpack(work.answered(Outcome(outputs={"data": made}))) == made
    request = work.request
    assert request.identity.scope == (DAY,)
    assert [(i.role, i.partition) for i in request.identity.inputs] == [("visits", DAY)]
    assert request.identity.spec_digest == site.bundle.digest


def test_what_failed_its_gate_or_never_met_it_is_not_transformed_whatever_a_task_returned(site):
    path = site.tree.root / "data" / PIPELINE / f"{DAY}.csv"
    unjudged = land(site)
    path.write_text(path.read_text().replace(",north,", ",norht,"))
    failed = land(site)
    with pytest.raises(AirflowFailException):
        gate_raw(site, failed)
    for landed, words in ((failed, "failed its gate"), (unjudged, "no verdict of its gate on record")):
        with running(task_id="transform", partition_key=DAY), pytest.raises(AirflowFailException, match=words):
            asked(tasks.transform, sources={"visits": landed}, **here(site))
    assert [e.body["task"] for e in site.ledger.entries(PIPELINE, "denied")] == ["transform"] * 2


@pytest.mark.parametrize("given", [{}, {"visits": []}, {"visits": 2}])
def test_a_transform_reads_just_what_its_partition_reads(site, given):
    landed = land(site)
    gate_raw(site, landed)
    pasted = {name: landed * 2 if items == 2 else items for name, items in given.items()}
    with running(task_id="transform", partition_key=DAY), pytest.raises(AirflowFailException, match="but reads"):
        asked(tasks.transform, sources=pasted, **here(site))


def test_a_snapshot_that_passed_for_another_day_is_not_transformed(site):
    landed = land(site, DAYS[3])
    with running(task_id="gate_raw", partition_key=DAYS[3]):
        tasks.gate_raw({"visits": landed}, **here(site))
    pasted = [{**landed[0], "partition": DAY}]
    with running(task_id="transform", partition_key=DAY), pytest.raises(AirflowFailException, match="no verdict"):
        asked(tasks.transform, sources={"visits": pasted}, **here(site))


def test_a_raw_snapshot_without_a_verdict_on_record_is_judged_by_the_next_run_that_reads_it(site):
    """As those were that an earlier version landed, whose verdicts of raw data nobody kept."""
    (item,) = land(site)
    gate_raw(site, [{**item, "fresh": False}])
    (judged,) = site.ledger.entries(PIPELINE, "gate", f"raw.visits/{DAY}")
    assert judged.event.passed and judged.event.snapshot == unpack(item["artifact"]).digest


def test_a_passed_features_gate_is_on_record_for_exactly_this_snapshot_with_what_it_is_made_of(site):
    made, raw = transformed(site), site.tables.resolve(f"{PIPELINE}/raw.visits", DAY).snapshot
    with running(task_id="gate_features", partition_key=DAY):
        tasks.gate_features(**here(site))
    (entry,) = site.ledger.entries(PIPELINE, "gate", f"features/{DAY}")
    assert (entry.event.snapshot, entry.event.passed) == (made.digest, True)
    assert [(s.dataset, s.partition, s.snapshot) for s in entry.event.made_of] == [("raw.visits", DAY, raw)]


def test_a_failed_features_gate_is_on_record_and_publishes_nothing(site):
    transformed(site, made=features(site, DAY))  # which lacks most columns that the suite asks for
    with running(task_id="gate_features", partition_key=DAY), pytest.raises(AirflowFailException, match="FAILED"):
        tasks.gate_features(**here(site))
    (entry,) = site.ledger.entries(PIPELINE, "gate", f"features/{DAY}")
    assert entry.event.passed is False
    with running(task_id="publish", partition_key=DAY), pytest.raises(AirflowFailException, match="failed its gate"):
        tasks.publish(**here(site))
    assert site.tables.partitions(f"{PIPELINE}/features") == []


def test_publishing_moves_the_table_and_names_the_partition_to_who_listens(site):
    made = gated(site)
    with running(task_id="publish", partition_key=DAY) as context:
        tasks.publish(**here(site))
        assert context["outlet_events"][features_asset(site)].partition_keys == {DAY}
    assert site.tables.resolve(f"{PIPELINE}/features", DAY).snapshot == made.digest


@pytest.mark.parametrize("task", [tasks.gate_features, tasks.publish])
def test_a_run_that_transformed_nothing_publishes_nothing(site, task):
    with running(task_id="publish", partition_key=DAY), pytest.raises(AirflowFailException, match="no job 'transform'"):
        task(**here(site))
    assert site.tables.partitions(f"{PIPELINE}/features") == []


def test_publishing_keeps_the_recipe_that_the_transforms_result_names_for_just_this_snapshot(site):
    # Given a transform that ran, and SQL that was changed before its features were published
    gated(site, transformed(site))
    recipe = Recipe.of(site.bundle).digest
    sql = site.tree.folder(site.name) / "transform.sql"
    sql.write_text(sql.read_text().replace("    pages,", "    pages + 1 AS pages,"))
    Site.at.cache_clear()
    # When they are published
    with running(task_id="publish", partition_key=DAY):
        tasks.publish(**here(site))
    # Then the Table knows what made them
    current = site.tables.resolve(f"{PIPELINE}/features", DAY)
    assert (current.recipe, current.code) == (recipe, code_digest())
    assert not Recipe.of(Site.at(str(site.tree.root), PIPELINE).bundle).takes(current.recipe)


def test_a_stored_result_that_is_not_what_is_on_record_is_not_believed(site):
    gated(site)
    (stored_as,) = (found.key for found in site.objects.list(f"results/{PIPELINE}/transform/"))
    result = JobResult.parse(site.objects.get(stored_as))
    other = result.outcome.model_copy(update={"facts": {"recipe": "another"}})
    site.objects.put(stored_as, result.model_copy(update={"outcome": other}).to_json().encode())
    with running(task_id="publish", partition_key=DAY), pytest.raises(AirflowFailException, match="not what is on"):
        tasks.publish(**here(site))


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
            unasked(tasks.score, **here(site))
        assert not context["outlet_events"][scored_asset(site)].partition_keys
    assert site.tables.partitions(f"{PIPELINE}/predictions") == []


def test_without_a_champion_nothing_is_scored_and_monitoring_hears_of_the_partition(site):
    with running(task_id="score", partition_key=DAY) as context:
        facts = unasked(tasks.score, **here(site))
        assert context["outlet_events"][scored_asset(site)].partition_keys == {DAY}
    assert facts["version"] is None
    assert site.tables.partitions(f"{PIPELINE}/predictions") == []


def test_the_champion_of_record_scores_and_its_predictions_are_published(site):
    model, predictions = stored(site, "model", "{}"), features(site, DAY, dataset="predictions")
    promoted(site.ledger, 3, pipeline=PIPELINE, model=model)
    gated(site)
    with running(task_id="score", partition_key=DAY) as context:
        scoring = asked(tasks.score, **here(site))
        facts = scoring.answered(Outcome(outputs={"data": predictions}))
        assert context["outlet_events"][scored_asset(site)].partition_keys == {DAY}
    assert scoring.request.input("model").digest == model.digest
    assert scoring.request.identity.params == {"version": "3"}
    assert facts["version"] == 3
    assert site.tables.resolve(f"{PIPELINE}/predictions", DAY).snapshot == predictions.digest


def test_what_did_not_pass_its_gate_is_not_scored(site):
    promoted(site.ledger, 3, pipeline=PIPELINE, model=stored(site, "model", "{}"))
    transformed(site, made=features(site, DAY))
    with running(task_id="score", partition_key=DAY), pytest.raises(AirflowFailException, match="no verdict"):
        asked(tasks.score, **here(site))


def test_predictions_made_first_stay_and_a_later_champions_are_kept_beside_them(site):
    # given: version 3 has scored the day, and version 4 came after it
    gated(site)
    first, later = (features(site, DAY, rows, dataset="predictions") for rows in (3, 4))
    for version, predictions in ((3, first), (4, later)):
        promoted(site.ledger, version, pipeline=PIPELINE, model=stored(site, "model", f"{version}"))
        # when: the day is scored by it
        with running(task_id="score", partition_key=DAY):
            asked(tasks.score, **here(site)).answered(Outcome(outputs={"data": predictions}))
    # then: performance and drift read what was predicted first
    found = {name: site.tables.resolve(f"{PIPELINE}/{name}", DAY).snapshot
             for name in ("predictions", "predictions.v3", "predictions.v4")}  # fmt: skip
    assert found == {"predictions": first.digest, "predictions.v3": first.digest, "predictions.v4": later.digest}


def test_an_infrastructure_failure_is_retried_and_bad_input_is_not(site):
    from millrace.airflow.runtime.run import settled
    from millrace.contract import JobError, JobResult

    request = site.request("land", scope=(DAY,))
    for retry, raised in (("same", InfrastructureError), ("never", AirflowFailException)):
        failed = JobResult(job="land", request_digest="x", error=JobError(type="X", message="no", retry=retry))
        with pytest.raises(raised, match="land failed: no"):
            settled(request, failed)


def transformed(site: Site, made: Any = None) -> Any:
    """The features of the day, by the real job over gated data; or those given, as if it had made them."""
    landed = land(site)
    gate_raw(site, landed)
    with running(task_id="transform", partition_key=DAY):
        if made is None:
            return unpack(in_process(tasks.transform)(sources={"visits": landed}, **here(site)))
        return unpack(asked(tasks.transform, sources={"visits": landed}, **here(site)).answered(
            Outcome(outputs={"data": made})
        ))  # fmt: skip


def gated(site: Site, made: Any = None) -> Any:
    """Features of the day with a passed verdict on record."""
    made = made or transformed(site, features(site, DAY))
    site.ledger.record(verdict(pipeline=PIPELINE, partition=DAY, snapshot=made.digest))
    return made


def test_every_source_is_judged_and_those_that_passed_are_published(site):
    """Given two sources of which one fails, then the verdict of both is told, and the other's table has moved."""
    site = with_second_source(site)
    path = site.tree.root / "data" / PIPELINE / f"{DAY}.csv"
    good = land(site)
    path.write_text(path.read_text().replace(",north,", ",norht,"))
    with running(task_id="land.calls", partition_key=DAY):
        bad = landing.land("calls", **here(site))
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
        bad = landing.land("calls", **here(site))
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
