"""`millrace ship-log`, and what `millrace erase` does about what servers logged."""

from __future__ import annotations

import json
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest
from support.task import running

from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import served as tasks
from millrace.serving.log import CLOSED, OPEN, Log
from millrace.serving.shipping import BROKEN
from millrace.store import SnapshotStore
from millrace.store.served import unpack

DAY = "2024-01-05"
AT = 1_704_448_800_000_000
"""Ten o'clock of that day."""


def record(id_: str, *who: Any, **fields: Any) -> dict[str, Any]:
    rows = len(who)
    return {
        "id": id_, "at": AT, "ms": 1.0, "pipeline": "visits", "role": "champion", "generation": 1,
        "predictions": [n / 10 for n in range(rows)], "entities": [{"visit_id": each} for each in who],
        "found": ["found"] * rows, "times": [{}] * rows, "columns": ["pages"], "rows": [[n] for n in range(rows)],
        **fields,
    }  # fmt: skip


def write(folder: Path, *records: dict[str, Any]) -> None:
    with Log(folder, durable=False) as log:
        wait([log.append(json.dumps(each).encode()) for each in records])


@pytest.fixture
def site(shop: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    from millrace.jobs import guard, runner

    monkeypatch.setattr(guard, "run", runner.run)
    (shop / ".millrace").mkdir(exist_ok=True)
    (shop / "keys.csv").write_text("visit_id\nann\n5\n")
    path = shop / "include" / "pipelines" / "visits" / "pipeline.yaml"
    path.write_text(path.read_text() + "\nserving: {log: {keep: P100Y}}\n")
    Site.at.cache_clear()
    return Site.at(str(shop), "visits")


def collected(site: Site) -> list[dict[str, Any]]:
    with running("visits__monitoring", partition_key=DAY):
        moved = tasks.collect_partition(site, DAY)
    assert moved is not None
    table = SnapshotStore(site.objects).read(moved.uri, moved.snapshot)
    return table.select(["request_id", "row", "visit_id", "prediction"]).to_pylist()


def logged(site: Site) -> str:
    return "\n".join(
        line.decode() for each in site.objects.list("served/") for line in unpack(site.objects.get(each.key), each.key)
    )


def test_what_a_server_left_is_shipped_its_open_segments_too(millrace, site):
    folder = site.tree.root / "left"
    write(folder / "w1", record("r1", "ann"))
    write(folder / "w2", record("r2", "bob"))
    (segment,) = (folder / "w2").glob(f"*{CLOSED}")
    segment.rename(segment.with_suffix(OPEN))
    said = millrace("ship-log", "left", "--server", "gone-1")
    assert said.code == 0 and "2 segments with 2 records are in the store" in said.out, said.err
    assert all("/gone-1/" in each.key for each in site.objects.list("served/"))
    assert {row["request_id"] for row in collected(site)} == {"r1", "r2"}
    assert "0 segments" in millrace("ship-log", "left").out


def test_a_broken_segment_and_a_store_that_is_away_are_said(millrace, site):
    folder = site.tree.root / "left"
    write(folder, record("r1", "ann"))
    (segment,) = folder.glob(f"*{CLOSED}")
    segment.write_bytes(segment.read_bytes()[:-1])
    said = millrace("ship-log", "left")
    assert said.code == 1 and f"set aside: left/{segment.stem}{BROKEN}" in said.out
    write(folder, record("r2", "ann"))
    (site.tree.root / "file").write_text("no folder")
    said = millrace("ship-log", "left", "--store", "file/below")
    assert said.code == 1 and "1 segments are still here" in said.out and list(folder.glob(f"*{CLOSED}"))
    assert millrace("ship-log", "nowhere").code == 2


def test_rows_of_subjects_go_out_of_logs_and_snapshots_and_do_not_come_back(millrace, site):
    write(site.tree.root / "log", record("r1", "ann", "bob", 5), record("r2", "ann"), record("r3", "cid", 5.5))
    assert millrace("ship-log", "log").code == 0
    before = collected(site)
    assert len(before) == 6
    erase = ("erase", "visits", "--keys", "keys.csv", "--reason", "a letter", "--remove")
    said = millrace(*erase)
    assert f"served of {DAY}: 3 rows of theirs" in said.out and "3 rows of theirs in 1 segments" in said.out, said.err
    assert "ann" in logged(site), "nothing was done yet"
    said = millrace(*erase, "--yes")
    assert said.code == 0 and "these rows are taken out of the prediction logs" in said.out, said.err
    assert "ann" not in logged(site) and "r2" not in logged(site)
    assert tasks.served_in(site, [DAY]) == []
    kept = [("r1", 0, "bob", 0.1), ("r3", 0, "cid", 0.0), ("r3", 1, "5.5", 0.1)]
    assert [tuple(row.values()) for row in collected(site)] == kept
    assert len(tasks.served_in(site, [DAY])) == 1
    assert millrace(*erase, "--yes").code == 0 and [tuple(row.values()) for row in collected(site)] == kept


def test_without_remove_nothing_is_taken_out(millrace, site):
    write(site.tree.root / "log", record("r1", "ann"))
    millrace("ship-log", "log")
    before = logged(site)
    assert millrace("erase", "visits", "--keys", "keys.csv", "--reason", "a letter", "--yes").code == 0
    assert logged(site) == before
