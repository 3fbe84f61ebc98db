"""validate: a Snapshot and a suite come in; a verdict, a page and a result go out, the same each time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support import requests

from millrace.contract import JobRequest, JobResult
from millrace.core.canonical import digest
from millrace.jobs.runner import run
from millrace.spec import Bundle, PipelineSpec
from millrace.spec.jobs import TABLE
from millrace.store import SnapshotStore, bundles, open_store

SUITE = {
    "name": "flights_raw",
    "expectations": [
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "distance", "min_value": 0}},
        {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "passenger", "value_set": ["Ann"]}},
    ],
}
GOOD = {"distance": [1, 2], "passenger": ["Ann", "Ann"], "t": [datetime(2013, 1, d, tzinfo=UTC) for d in (5, 6)]}


def request(
    root: Path, columns: dict[str, Any], scope: str = "2013-01", beside: Iterable[requests.Given] = (), **params: Any
) -> JobRequest:
    spec = PipelineSpec.model_validate({
        "version": 1,
        "name": "flights",
        "owner": "test",
        "description": "A pipeline for tests.",
        "partition": {"grain": "month", "timezone": "America/New_York", "start": "2013-01"},
        "sources": {"flights": {"kind": "files", "location": "in/{year}{month}.csv", "gate": "suites/raw.yaml",
                                "columns": ["distance"]}},
        "features": {"entity": ["flight_id"], "service": "flights_v1"},
        "columns": {"distance": "public", "t": "public", "passenger": "personal"},
    })  # fmt: skip
    objects = open_store(root)
    bundle = Bundle(spec=spec.model_dump(mode="json"), sql="", suites={"suites/raw.yaml": params.pop("held", SUITE)})
    bundles.keep(objects, bundle)
    data = SnapshotStore(objects).write(pa.table(columns), pipeline="flights", dataset="raw.flights", partition=scope)
    return requests.request(
        "validate", store=root, spec_digest=bundle.digest, scope=[scope], inputs=[("data", data), *beside],
        params={"suite": "suites/raw.yaml", **params}, result=f"results/{scope}.json",
    )  # fmt: skip


def stored(result: JobResult, root: Path, role: str) -> bytes:
    assert result.outcome is not None, result.error
    artifact = result.outcome.outputs[role]
    data = open_store(root).get(artifact.uri)
    assert digest(data) == artifact.digest
    return data


def test_a_good_snapshot_passes(tmp_path: Path) -> None:
    result = run(request(tmp_path, GOOD, event_time="t"))
    assert result.outcome is not None, result.error
    assert result.outcome.verdict is not None
    assert result.outcome.verdict.passed, result.outcome.verdict.failures
    assert result.outcome.facts == {"rows": 2, "suite": "suites/raw.yaml"}


def test_a_failed_gate_is_an_outcome_with_a_page_and_a_result(tmp_path: Path) -> None:
    result = run(request(tmp_path, {**GOOD, "distance": [1, -7], "passenger": ["Ann", "Bob"]}))
    assert result.error is None
    assert result.outcome is not None and result.outcome.verdict is not None
    assert [c.message for c in result.outcome.verdict.failures] == [
        "column 'distance': values at least 0 expected; 1 of 2 rows is outside",
        "column 'passenger': values in the suite's set expected; 1 of 2 rows holds another: most frequent: other texts "
        "(2); values are shown of a column that pipeline.yaml calls public",
    ]
    page, found = (stored(result, tmp_path, role) for role in ("report", "result"))
    assert b"flights, 2013-01, suites/raw.yaml" in page
    assert b"-7" in page and b"-7" in found
    everything = page + found + result.to_json().encode()
    assert b"Bob" not in everything and b"Ann" not in everything
    assert str(tmp_path).encode() not in everything


def test_rows_of_another_partition_fail_the_gate(tmp_path: Path) -> None:
    midnight = datetime(2013, 2, 1, 5, tzinfo=UTC)  # in New York
    columns = {**GOOD, "t": [datetime(2013, 1, 9, tzinfo=UTC), midnight]}
    result = run(request(tmp_path, columns, event_time="t"))
    assert result.outcome is not None and result.outcome.verdict is not None
    (check,) = result.outcome.verdict.failures
    assert (check.name, check.unexpected, check.total) == ("partition", 1, 2)
    assert "2013-01-01T05:00:00Z up to 2013-02-01T05:00:00Z" in check.message


def test_a_static_source_belongs_to_no_partition(tmp_path: Path) -> None:
    result = run(request(tmp_path, GOOD, scope="static", event_time="t"))
    assert result.outcome is not None and result.outcome.verdict is not None
    assert result.outcome.verdict.passed
    assert "partition" not in [c.name for c in result.outcome.verdict.checks]


def test_an_empty_snapshot_fails(tmp_path: Path) -> None:
    columns = {name: pa.array(values).slice(0, 0) for name, values in GOOD.items()}
    result = run(request(tmp_path, columns, event_time="t"))
    assert result.outcome is not None and result.outcome.verdict is not None
    assert {"rows", "partition"} <= {c.name for c in result.outcome.verdict.failures}


def test_two_runs_in_two_stores_have_one_outcome(tmp_path: Path) -> None:
    columns = {**GOOD, "distance": [1, -7]}
    first, second = (run(request(tmp_path / name, columns, event_time="t")) for name in ("a", "b"))
    assert first.outcome_digest is not None
    assert first.outcome_digest == second.outcome_digest
    assert stored(first, tmp_path / "a", "report") == stored(second, tmp_path / "b", "report")


def test_an_earlier_result_is_taken(tmp_path: Path) -> None:
    asked = request(tmp_path, GOOD)
    assert TABLE["validate"].reusable
    assert run(asked).observed == run(asked).observed


@pytest.mark.parametrize("name", ["suites/rav.yaml"])
def test_a_suite_that_is_not_there_is_an_error_with_the_nearest_name(tmp_path: Path, name: str) -> None:
    result = run(request(tmp_path, GOOD, suite=name))
    assert result.error is not None
    assert "did you mean 'suites/raw.yaml'?" in result.error.message


def test_checks_look_at_earlier_partitions_and_other_sources(tmp_path: Path) -> None:
    """Given a suite with checks and the Snapshots they look at, then each is judged against those."""
    checks = [
        {"type": "volume", "min_ratio": 0.9},
        {"type": "unique_across", "columns": ["passenger"]},
        {"type": "reference", "columns": ["passenger"], "source": "people"},
    ]
    snapshots = SnapshotStore(open_store(tmp_path))

    def beside(earlier: list[str], people: list[str]) -> JobRequest:
        made = [
            ("trailing", snapshots.write(pa.table({"passenger": earlier, "distance": [1] * len(earlier)}),
                                         pipeline="flights", dataset="raw.flights", partition="2012-12"), "2012-12"),
            ("reference.people", snapshots.write(pa.table({"passenger": people}), pipeline="flights",
                                                 dataset="raw.people", partition="static"), "static"),
        ]  # fmt: skip
        return request(tmp_path, GOOD, beside=made, event_time="t", held={**SUITE, "checks": checks})

    passengers = list(GOOD["passenger"])
    good = run(beside(["somebody", "else"], passengers))
    assert good.outcome is not None and good.outcome.verdict is not None, good.error
    assert good.outcome.verdict.passed, good.outcome.verdict.failures
    bad = run(beside([passengers[0], "b", "c", "d"], ["Zoe"]))
    assert bad.outcome is not None and bad.outcome.verdict is not None
    failed = {check.name: check.message for check in bad.outcome.verdict.failures}
    assert set(failed) == {"volume", "unique_across", "reference"}
    assert "stand in 2012-12" in failed["unique_across"] and passengers[0] not in str(failed)
    assert b"stand in 2012-12" in stored(bad, tmp_path, "report")
