"""land as a job: what it asks of the request, what it promises about the store."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from support import requests

from millrace.contract import JobRequest, JobResult
from millrace.core.canonical import file_digest
from millrace.jobs.runner import run
from millrace.spec import Bundle, PipelineSpec
from millrace.spec.jobs import TABLE
from millrace.store import SnapshotStore, bundles, open_store

CSV = "id,city,more,secret\n1,Rome,x,hunter2\n2,,y,b\n"


def source(**more: Any) -> dict[str, Any]:
    return {"kind": "files", "location": "{year}-{month}.csv", "gate": "g.yaml", "columns": ["id", "city"], **more}


def request(
    store: str, sources: dict[str, Any], name: str = "sales", scope: str = "2024-01", **means: str
) -> JobRequest:
    spec = PipelineSpec.model_validate({
        "version": 1, "name": "shop", "owner": "me", "description": "test",
        "partition": {"grain": "month", "timezone": "Europe/Rome", "start": "2024-01"},
        "sources": sources,
        "features": {"entity": ["id"], "service": "shop"},
        "columns": {"id": "public", "city": "public", "secret": "personal"},
    })  # fmt: skip
    bundle = Bundle(spec=spec.model_dump(mode="json"), sql="", suites={})
    bundles.keep(open_store(store), bundle)
    return requests.request(
        "land", store=store, spec_digest=bundle.digest, scope=[scope], params={"source": name}, locations=means
    )


def written(store: str) -> list[str]:
    return [o.key for o in open_store(store).list() if not o.key.startswith("bundles/")]


def failed(result: JobResult, kind: str, words: str) -> bool:
    assert result.outcome is None and result.error is not None
    assert result.error.type == kind, result.error
    assert words in result.error.message, result.error
    return True


def test_facts_and_snapshot_tell_which_bytes_came(tmp_path: Path) -> None:
    (tmp_path / "2024-01.csv").write_text(CSV)
    store = str(tmp_path / "store")
    result = run(request(store, {"sales": source()}, sales=str(tmp_path / "{year}-{month}.csv")))
    assert result.outcome is not None, result.error
    digest = file_digest(tmp_path / "2024-01.csv")
    assert result.outcome.facts == {
        "rows": 2, "file": "2024-01.csv", "source": digest, "ignored_columns": ["more", "secret"],
    }  # fmt: skip
    data = result.outcome.outputs["data"]
    manifest = SnapshotStore(open_store(store)).manifest("shop", "raw.sales", data.digest)
    assert (manifest.partition, manifest.source, manifest.rows) == ("2024-01", digest, 2)
    assert manifest.columns == {"id": "string", "city": "string"}
    assert str(tmp_path) not in result.outcome.model_dump_json()


@pytest.mark.parametrize(
    ("columns", "class_"), [(["id"], "public"), (["id", "more"], "internal"), (["secret"], "personal")]
)
def test_the_strictest_column_classifies_the_snapshot(tmp_path: Path, columns: list[str], class_: str) -> None:
    (tmp_path / "2024-01.csv").write_text(CSV)
    sources = {"sales": source(columns=columns)}
    result = run(request(str(tmp_path / "store"), sources, sales=str(tmp_path / "{year}-{month}.csv")))
    assert result.outcome is not None, result.error
    assert result.outcome.outputs["data"].classification == class_


def test_the_same_file_in_two_stores_has_one_outcome_and_its_order_of_columns_does_not_matter(tmp_path: Path) -> None:
    digests, outcomes = set(), set()
    for name, text in (("a", CSV), ("b", CSV), ("c", "city,id\nRome,1\n,2\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "2024-01.csv").write_text(text)
        sources = {"sales": source()}
        result = run(request(str(tmp_path / name), sources, sales=str(tmp_path / name / "{year}-{month}.csv")))
        assert result.outcome is not None, result.error
        outcomes.add(result.outcome_digest)
        data = result.outcome.outputs["data"]
        digests.add(open_store(tmp_path / name).get(data.uri + "data.parquet"))
    assert len(digests) == 1
    assert len(outcomes) == 2  # other bytes came, though they say the same


def test_a_static_source_is_landed_once_for_all_partitions(tmp_path: Path) -> None:
    (tmp_path / "cities.csv").write_text(CSV)
    store, sources = str(tmp_path / "store"), {"cities": source(location="cities.csv", partitioned=False)}
    where = {"cities": str(tmp_path / "cities.csv")}
    result = run(request(store, sources, "cities", "static", **where))
    assert result.outcome is not None, result.error
    data = result.outcome.outputs["data"]
    assert SnapshotStore(open_store(store)).manifest("shop", "raw.cities", data.digest).partition == "static"
    assert failed(run(request(store, sources, "cities", "2024-01", **where)), "ContractError", "'cities' is static")
    partitioned = {"sales": source()}
    assert failed(run(request(store, partitioned, scope="static", sales="x")), "ContractError", "is partitioned")


def test_a_request_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    store = str(tmp_path)
    assert failed(run(request(store, {"sales": source()}, "sale")), "ContractError", "did you mean 'sales'?")
    assert failed(run(request(store, {"sales": source()})), "ContractError", "does not say where the source lies")
    wrong = request(store, {"sales": source()}, scope="2024-01-01", sales="{year}.csv")
    assert failed(run(wrong), "SpecError", "not a month partition")


def test_an_object_lands_in_a_bucket(bucket: str) -> None:
    import boto3

    boto3.client("s3").put_object(Bucket=bucket, Key="in/2024/01.csv", Body=CSV.encode())
    location, store = f"s3://{bucket}/in/{{year}}/{{month}}.csv", f"s3://{bucket}/store"
    sources = {"sales": source(kind="s3", location=location)}
    result = run(request(store, sources, sales=location))
    assert result.outcome is not None, result.error
    data = result.outcome.outputs["data"]
    rows = SnapshotStore(open_store(store)).read(data.uri, data.digest).to_pylist()
    assert rows == [{"id": "1", "city": "Rome"}, {"id": "2", "city": None}]
    missing = run(request(store, sources, scope="2024-02", sales=location))
    assert failed(missing, "SourceMissing", "in/2024/02.csv")
    assert missing.error is not None and missing.error.retry == "wait"


def test_a_file_that_is_replaced_while_it_lands_is_the_one_or_the_other(tmp_path: Path) -> None:
    # Given a sender that swaps two whole files without pause
    import threading

    files = {text: "id,city\n" + f"{text},Rome\n" * 20_000 for text in ("1", "2")}
    target, stop = tmp_path / "2024-01.csv", threading.Event()
    target.write_text(files["1"])

    def swap() -> None:
        while not stop.is_set():
            for text in files.values():
                (tmp_path / "next").write_text(text)
                os.replace(tmp_path / "next", target)

    sender = threading.Thread(target=swap)
    sender.start()
    store, seen = str(tmp_path / "store"), set()
    try:
        for _ in range(10):
            result = run(request(store, {"sales": source()}, sales=str(tmp_path / "{year}-{month}.csv")))
            assert result.outcome is not None, result.error
            data = result.outcome.outputs["data"]
            ids = SnapshotStore(open_store(store)).read(data.uri, data.digest)["id"].unique().to_pylist()
            seen.add((result.outcome.facts["source"], *ids))
    finally:
        stop.set()
        sender.join()
    # Then each Snapshot holds one of them whole, under its digest
    assert seen <= {(file_digest(_put(tmp_path / "whole", text)), name) for name, text in files.items()}


def _put(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_an_engine_must_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "2024-01.csv").write_text(CSV)
    (tmp_path / "lazy_engine.py").write_text(
        "from pathlib import Path\nclass Lazy:\n    def fetch(self, location, folder):\n        return Path(location)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("millrace.spec.source.FilesSource.engine", "lazy_engine:Lazy")
    store = str(tmp_path / "store")
    result = run(request(store, {"sales": source()}, sales=str(tmp_path / "{year}-{month}.csv")))
    assert failed(result, "ContractError", "made no copy")
    assert written(store) == []
    sys.modules.pop("lazy_engine")


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    store = str(tmp_path / "store")
    for text, ok in ((CSV, True), (CSV + "3\n", False)):
        (tmp_path / "2024-01.csv").write_text(text)
        result = run(request(store, {"sales": source()}, sales=str(tmp_path / "{year}-{month}.csv")))
        assert (result.outcome is not None) is ok
    assert list((tmp_path / "tmp").iterdir()) == []
    assert len(written(store)) == 2


def test_land_always_looks_again() -> None:
    assert not TABLE["land"].reusable
