"""Tasks about what servers answered: collected before it is judged, never set back, and gone when it was kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import wait
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException
from support.ledger import promoted, verdict
from support.project import DAYS, PIPELINE, features, sample, stored
from support.task import asked, running

from millrace.airflow import build_dags
from millrace.airflow.runtime.run import outcome_of
from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import monitoring, online
from millrace.airflow.tasks import served as tasks
from millrace.core.errors import Conflict, NotFound
from millrace.core.settings import Settings
from millrace.feast_stores.apply import apply
from millrace.serving.log import Log
from millrace.serving.shipping import ship
from millrace.spec import ProjectTree
from millrace.store import SnapshotStore
from millrace.store.layout import TOMBSTONE

DAY, BEFORE = DAYS[8], DAYS[7]
TABLE = f"{PIPELINE}/served"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served") / "shop"
    site = sample(root)
    path = root / "include" / "pipelines" / PIPELINE / "pipeline.yaml"
    path.write_text(path.read_text() + "\nserving:\n  log: {keep: P30Y}\n")
    for day in DAYS[:9]:
        site.tables.move(f"{PIPELINE}/features", day, features(site, day))
    Site.at.cache_clear()
    return root


@pytest.fixture
def site(made: Path, tmp_path: Path) -> Site:
    root = tmp_path / "shop"
    shutil.copytree(made, root)
    Site.at.cache_clear()
    return Site.at(str(root), PIPELINE)


def here(site: Site) -> dict[str, str]:
    return {"root": str(site.tree.root), "pipeline": site.name}


def record(id_: str, moment: str, **fields: Any) -> dict[str, Any]:
    at = datetime.fromisoformat(moment).replace(tzinfo=UTC)
    return {"id": id_, "at": round(at.timestamp() * 1e6), "ms": 1.0, "pipeline": PIPELINE, "role": "champion",
            "generation": 1, "predictions": [0.5], **fields}  # fmt: skip


def answer(site: Site, *records: dict[str, Any], server: str = "s1") -> None:
    folder = site.tree.root / "log"
    with Log(folder, durable=False) as log:
        wait([log.append(json.dumps(each).encode()) for each in records])
    assert ship(folder, site.objects, server).away is None


def do(site: Site, task: Callable[..., Any], day: str = DAY) -> Any:
    with running(f"{PIPELINE}__monitoring", task.__name__, run_id=f"monitoring__{day}", partition_key=day):
        return task(**here(site))


def ids(site: Site, day: str) -> list[str]:
    found = site.tables.resolve(TABLE, day)
    return SnapshotStore(site.objects).read(found.uri, found.snapshot)["request_id"].to_pylist()


def test_the_window_and_the_partition_before_it_are_collected(site):
    answer(site, *(record(f"r{day}", f"{day}T10:00") for day in DAYS[:12]))
    assert do(site, tasks.collect) == dict.fromkeys(DAYS[1:9], 1), "a window of seven days ends with it"
    assert ids(site, DAY) == [f"r{DAY}"] and site.tables.partitions(TABLE) == list(DAYS[1:9])


def test_nothing_new_moves_nothing_and_late_segments_do(site):
    answer(site, record("r1", f"{BEFORE}T10:00"))
    do(site, tasks.collect)
    do(site, tasks.collect)
    assert site.tables.pointer(TABLE, BEFORE).generation == 1
    answer(site, record("r2", f"{BEFORE}T09:00"), server="s2")
    do(site, tasks.collect)
    assert site.tables.pointer(TABLE, BEFORE).generation == 2 and ids(site, BEFORE) == ["r2", "r1"]


def test_whoever_collected_meanwhile_is_not_set_back(site, monkeypatch):
    answer(site, record("r1", f"{DAY}T10:00"))
    plain, raced = tasks.outcome_of, []

    def slow(request):
        found = plain(request)
        if not raced:  # meanwhile a segment comes, and another run collects it
            raced.append(1)
            answer(site, record("r2", f"{DAY}T11:00"), server="s2")
            tasks.collect_partition(site, DAY)
        return found

    monkeypatch.setattr(tasks, "outcome_of", slow)
    with running(partition_key=DAY):
        tasks.collect_partition(site, DAY)
    assert ids(site, DAY) == ["r1", "r2"] and site.tables.pointer(TABLE, DAY).generation == 1


def test_a_race_that_never_ends_is_said(site, monkeypatch):
    answer(site, record("r1", f"{DAY}T10:00"))
    do(site, tasks.collect)
    monkeypatch.setattr(tasks, "_still", lambda before: lambda now: (_ for _ in ()).throw(Conflict("meanwhile")))
    answer(site, record("r2", f"{DAY}T11:00"), server="s2")
    with running(partition_key=DAY), pytest.raises(Conflict, match="kept changing"):
        tasks.collect_partition(site, DAY)


def test_drift_and_performance_are_given_what_was_served(site):
    promoted(site.ledger, 1, pipeline=PIPELINE, trained_to=DAYS[1], model=stored(site, "model", "m"),
             evaluation=stored(site, "evaluation", "e"))  # fmt: skip
    answer(site, record("r1", f"{DAY}T10:00"), record("r2", f"{BEFORE}T10:00"))
    do(site, tasks.collect)
    with running(task_id="drift", partition_key=DAY):
        request = asked(monitoring.drift, **here(site)).request
    assert [i.partition for i in request.inputs("served")] == [BEFORE, DAY]
    with running(task_id="performance", partition_key=DAY):
        request = asked(monitoring.performance, **here(site)).request
    assert [i.partition for i in request.inputs("served")] == [BEFORE, DAY]
    assert [i.partition for i in request.inputs("features")] == list(DAYS[1:9]), "and the one before the window"


def later(monkeypatch: pytest.MonkeyPatch, now: str) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.fromisoformat(now).replace(tzinfo=tz)

    monkeypatch.setattr(tasks, "datetime", Clock)


def keeping(site: Site, keep: str) -> Site:
    path = site.tree.root / "include" / "pipelines" / PIPELINE / "pipeline.yaml"
    path.write_text(path.read_text().replace("keep: P30Y", f"keep: {keep}"))
    Site.at.cache_clear()
    return Site.at(str(site.tree.root), PIPELINE)


def test_what_was_kept_long_enough_goes_and_does_not_come_back(site, monkeypatch):
    answer(site, *(record(f"r{day}", f"{day}T23:59:59") for day in DAYS[5:9]))
    do(site, tasks.collect)
    held = {day: site.tables.resolve(TABLE, day) for day in DAYS[5:9]}
    site = keeping(site, "P2D")
    later(monkeypatch, f"{DAYS[9]}T00:00:00")  # two days after the end of DAYS[6]
    assert do(site, tasks.expire) == {"partitions": [DAYS[5], DAYS[6]], "segments": 2}
    store = SnapshotStore(site.objects)
    for day, moved in held.items():
        gone = site.objects.exists(moved.uri + TOMBSTONE)
        assert gone is (day in DAYS[5:7])
        if gone:
            with pytest.raises(NotFound, match="served predictions are kept P2D"):
                store.read(moved.uri, moved.snapshot)
    assert [found.key.split("/")[2] for found in site.objects.list("served/")] == [DAYS[7], DAYS[8]]
    assert do(site, tasks.expire) == {"partitions": [], "segments": 0}
    # nothing is made of what went, nor of what comes too late, and what reads does without it
    answer(site, record("late", f"{DAYS[5]}T10:00"), server="s2")
    do(site, tasks.collect)
    assert site.tables.pointer(TABLE, DAYS[5]).generation == 1
    assert [key for key, _ in tasks.served_in(site, DAYS[:9])] == [DAYS[7], DAYS[8]]
    assert do(site, tasks.expire) == {"partitions": [], "segments": 1}


def test_kept_as_long_as_can_be_nothing_goes(site):
    answer(site, record("r1", f"{DAY}T10:00"))
    do(site, tasks.collect)
    assert do(keeping(site, "P1000Y"), tasks.expire) == {"partitions": [], "segments": 0}


def dags(site: Site) -> dict[str, Any]:
    file = str(site.tree.root / "dags" / f"{PIPELINE}.py")
    return {dag.dag_id.rpartition("__")[2]: dag for dag in build_dags(PIPELINE, file)}


def test_collecting_comes_before_judging(site):
    found = dags(site)
    monitored = found["monitoring"]
    assert monitored.get_task("collect").downstream_task_ids == {"drift", "performance", "skew"}
    assert not monitored.get_task("skew").downstream_task_ids, "an alert of skew decides about no retraining"
    assert "collect" not in found["features"].task_ids
    assert found["retirement"].task_ids == ["expire"]


def test_without_monitoring_the_features_dag_collects(site):
    path = site.tree.root / "include" / "pipelines" / PIPELINE / "pipeline.yaml"
    text = path.read_text()
    path.write_text(text[: text.index("monitoring:")] + "serving: {}\n")
    Site.at.cache_clear()
    found = dags(site)
    assert "monitoring" not in found and found["features"].get_task("collect").upstream_task_ids == {"score"}


def test_a_pipeline_that_does_not_serve_has_none_of_it(site):
    path = site.tree.root / "include" / "pipelines" / PIPELINE / "pipeline.yaml"
    path.write_text(path.read_text().replace("\nserving:\n  log: {keep: P30Y}\n", ""))
    Site.at.cache_clear()
    found = dags(site)
    assert "retirement" not in found and not {"collect", "skew"} & {*found["monitoring"].task_ids}


@pytest.fixture
def online_site(tmp_path: Path) -> Site:
    """A project whose features of a day are online."""
    root = tmp_path / "online"
    sample(root)
    path = root / "include" / "pipelines" / PIPELINE / "pipeline.yaml"
    path.write_text(path.read_text() + "\nserving: {log: {keep: P30Y}}\n")
    Site.at.cache_clear()
    apply(ProjectTree(root), Settings.load(root, {}))
    site = Site.at(str(root), PIPELINE)
    with running(f"{PIPELINE}__features", partition_key=BEFORE):
        landed = outcome_of(site.request("land", scope=(BEFORE,), params={"source": "visits"}))[0].outputs["data"]
        made = outcome_of(site.request("transform", scope=(BEFORE,), inputs=[("visits", landed, BEFORE)]))[0]
        data = made.outputs["data"]
        site.ledger.record(verdict(1, pipeline=PIPELINE, partition=BEFORE, snapshot=data.digest))
        site.tables.move(f"{PIPELINE}/features", BEFORE, data)
        online.materialize(str(root), PIPELINE)
    return site


def test_skew_is_an_alert_with_its_verdict_on_record(online_site):
    site = online_site
    moved = site.tables.resolve(f"{PIPELINE}/features", BEFORE)
    rows = SnapshotStore(site.objects).read(moved.uri, moved.snapshot).slice(0, 20).to_pylist()
    columns = ["region", "pages", "minutes", "hour_of_day"]

    def served(row: dict[str, Any], n: int, **harm: Any) -> dict[str, Any]:
        stamp = round(row["event_timestamp"].timestamp() * 1e6)
        return record(f"r{n}", f"{DAY}T10:00", entities=[{"visit_id": row["visit_id"]}], found=["found"],
                      times=[{f"{PIPELINE}_visit_features": stamp}], columns=columns,
                      rows=[[{**row, **harm}[name] for name in columns]])  # fmt: skip

    assert do(site, tasks.skew) is None
    answer(site, *(served(row, n) for n, row in enumerate(rows)))
    do(site, tasks.collect)
    facts = do(site, tasks.skew)
    assert facts["views"][f"{PIPELINE}_visit_features"]["compared"] == 20
    answer(site, served(rows[0], 100, pages=-5), server="s2")
    do(site, tasks.collect)
    with pytest.raises(
        AirflowFailException, match="1 of 21 rows differ: pages in 1 rows; pages: .* offline, -5 served"
    ):
        do(site, tasks.skew)
    said = [(v.partition, v.passed) for v in site.ledger.verdicts(PIPELINE, tasks.SKEW)]
    assert said[-1] == (DAY, False)
