"""The schedule of features DAGs against the project's own arithmetic: each partition exactly once, also where clocks
change at midnight; live, by catch-up, by backfill and by REST, the last two in a real database of Airflow."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

import pytest
import yaml
from airflow.exceptions import InvalidPartitionKeyError
from airflow.sdk.timezone import coerce_datetime
from airflow.serialization.decoders import decode_timetable
from airflow.serialization.encoders import encode_timetable
from airflow.timetables.base import DagRunInfo, TimeRestriction

from millrace.airflow.plugin import MillracePlugin
from millrace.airflow.runtime import timetable
from millrace.airflow.runtime.timetable import GRACE, PartitionTimetable
from millrace.spec import Partitioning

ROOT = Path(__file__).resolve().parents[2]
CHANGES = [
    ("day", "Africa/Cairo", "2024-04-20", "2024-05-03"),  # 26 April has no midnight
    ("day", "Africa/Cairo", "2024-10-28", "2024-11-04"),  # 31 October shows its last hour twice
    ("day", "America/Sao_Paulo", "2018-10-30", "2018-11-08"),
    ("day", "Asia/Beirut", "2024-03-28", "2024-04-03"),
    ("day", "America/Havana", "2024-03-08", "2024-03-13"),
    ("day", "America/Havana", "2024-11-01", "2024-11-06"),  # midnight comes twice
    ("day", "Asia/Amman", "2022-02-22", "2022-03-01"),
    ("day", "America/Asuncion", "2023-09-29", "2023-10-04"),
    ("day", "America/St_Johns", "2006-10-27", "2006-10-31"),  # back at a minute past midnight, into the day before
    ("day", "Pacific/Apia", "2011-12-27", "2012-01-03"),  # 30 December never was
    ("day", "Pacific/Kwajalein", "1993-08-18", "1993-08-25"),  # 21 August never was
    ("day", "Antarctica/Troll", "2024-03-29", "2024-04-02"),
    ("day", "Australia/Lord_Howe", "2024-04-05", "2024-04-09"),
    ("week", "America/Asuncion", "2018-09-17", "2018-10-15"),
    ("week", "Pacific/Apia", "2011-12-12", "2012-01-16"),
    ("month", "America/Asuncion", "2023-08", "2023-12"),  # 1 October has no midnight
    ("month", "Africa/Cairo", "2024-01", "2024-12"),
    ("month", "Asia/Amman", "2022-01", "2022-06"),
    ("hour", "Asia/Kolkata", "2024-02-28T20", "2024-02-29T03"),
]


@pytest.fixture
def clock(monkeypatch):
    """Sets what time it is."""

    def at(moment: datetime) -> datetime:
        monkeypatch.setattr(timetable, "_now", lambda: moment)
        return moment

    at(datetime(2026, 6, 1, 12, tzinfo=UTC))
    return at


def utc(text: str) -> datetime:
    return coerce_datetime(datetime.fromisoformat(text).replace(tzinfo=UTC))


def of(grain, zone, first, last=None) -> PartitionTimetable:
    return PartitionTimetable(grain, timezone=zone, start=first, end=last)


def after(table: PartitionTimetable, last: DagRunInfo | None, *, catchup: bool = False) -> DagRunInfo | None:
    """The next run by the clock, as Airflow asks for it with what the DAG says."""
    restriction = TimeRestriction(coerce_datetime(table.partitioning.start(table.start)), None, catchup)
    return table.next_dagrun_info_v2(last_dagrun_info=last, restriction=restriction)


def by_backfill(table: PartitionTimetable, key: str) -> DagRunInfo:
    start = table.partitioning.start(key).astimezone(ZoneInfo(table.partitioning.timezone))
    (run,) = table.iter_partition_dagrun_infos(earliest=start, latest=start)
    assert run.partition_key == key
    return run


def naive(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def caught_up(table: PartitionTimetable) -> list[DagRunInfo]:
    runs, last = [], None
    while (last := after(table, last, catchup=True)) is not None:
        runs.append(last)
    return runs


def live(table: PartitionTimetable, clock, keys: list[str]) -> list[DagRunInfo]:
    """The runs of a scheduler that looks a second after each end, beginning before the first partition."""
    runs, last = [], None
    clock(table.partitioning.start(keys[0]) - timedelta(days=3))
    while (run := after(table, last)) is not None:
        clock(run.run_after + timedelta(seconds=1))
        assert after(table, last) == run  # the DAG is parsed once more between the run's hour and its making
        runs.append(last := run)
    return runs


@pytest.mark.parametrize(("grain", "zone", "first", "last"), CHANGES)
def test_each_partition_is_asked_for_once_live_by_catch_up_and_by_backfill(grain, zone, first, last, clock):
    # Given a pipeline over a change of clocks
    partitioning, table = Partitioning(grain, zone), of(grain, zone, first, last)
    keys = list(partitioning.range(first, last))
    # When its schedule catches up, is live, or is backfilled
    late = caught_up(table)
    day = timedelta(days=40)
    filled = list(
        table.iter_partition_dagrun_infos(earliest=partitioning.start(first) - day, latest=partitioning.end(last) + day)
    )
    prompt = live(table, clock, keys)
    # Then each asks for each partition once, in order, and the clock's runs come at the partition's end
    for runs in (late, prompt, filled):
        assert [run.partition_key for run in runs] == keys
        assert [run.partition_date for run in runs] == [partitioning.start(key) for key in keys]
    for runs in (late, prompt):
        assert [run.run_after for run in runs] == [partitioning.end(key) for key in keys]


@pytest.mark.parametrize(("grain", "zone", "first", "last"), CHANGES)
def test_a_backfill_takes_its_dates_as_clock_time_of_the_zone(grain, zone, first, last, clock):
    partitioning, table = Partitioning(grain, zone), of(grain, zone, first, last)
    for key in partitioning.range(first, last):
        # Given the date that a person writes for a partition, also where no clock ever showed it
        given = {"hour": f"{key}:00", "month": f"{key}-01"}.get(grain, key)
        runs = list(table.iter_partition_dagrun_infos(earliest=naive(given), latest=naive(given)))
        assert [run.partition_key for run in runs] == [key]


def test_a_day_that_never_was_is_backfilled_by_nothing(clock):
    table = of("day", "Pacific/Apia", "2011-12-01")
    both = list(table.iter_partition_dagrun_infos(earliest=naive("2011-12-30"), latest=naive("2011-12-31")))
    assert [run.partition_key for run in both] == ["2011-12-31"]


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not os.environ.get("MILLRACE_TEST_FUZZ"), reason="every time zone takes minutes: make fuzz")
@pytest.mark.parametrize("grain", ["day", "week", "month"])
def test_each_partition_is_asked_for_once_in_every_zone_over_twenty_years(grain, clock):
    seen = set()
    for zone in sorted(available_timezones() - {"localtime"}):
        days = [datetime(2005, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(20 * 365 + 5)]
        offsets = tuple(day.astimezone(ZoneInfo(zone)).utcoffset() for day in days)
        if offsets in seen:
            continue
        seen.add(offsets)
        changes = [day for day, one, other in zip(days[1:], offsets, offsets[1:], strict=False) if one != other]
        partitioning = Partitioning(grain, zone)
        for change in changes or days[:1]:
            # Given the partitions around a change of a zone's clocks
            first = last = partitioning.key_of(change)
            for _ in range(3):
                first, last = partitioning.previous(first), partitioning.next(last)
            table, keys = of(grain, zone, first, last), list(partitioning.range(first, last))
            # Then catching up, a backfill and a live scheduler ask for each once
            wide = {
                "earliest": partitioning.start(first) - timedelta(days=2),
                "latest": partitioning.end(last) + timedelta(days=2),
            }
            clock(datetime(2026, 6, 1, tzinfo=UTC))
            assert [run.partition_key for run in caught_up(table)] == keys, zone
            assert [run.partition_key for run in table.iter_partition_dagrun_infos(**wide)] == keys, zone
            prompt = [(run.partition_key, run.run_after) for run in live(table, clock, keys)]
            assert prompt == [(key, partitioning.end(key)) for key in keys], zone


@pytest.mark.parametrize("now", ["2024-03-01 10:00", "2024-03-10 10:00", "2024-03-10 00:00:01"])
def test_an_unpause_before_or_during_the_first_partition_asks_for_the_first(now, clock):
    # Given a pipeline whose first partition has not ended
    table = of("week", "UTC", "2024-03-04")
    clock(utc(now))
    for catchup in (True, False):
        run = after(table, None, catchup=catchup)
        unbound = TimeRestriction(None, None, catchup)  # as Airflow asks where it leaves aside what the DAG says
        assert table.next_dagrun_info_v2(last_dagrun_info=None, restriction=unbound) == run
        # Then its first run is that one's, after its end
        assert (run.partition_key, run.run_after) == ("2024-03-04", utc("2024-03-11"))


def test_the_last_partition_is_run_after_its_end_and_none_after_it(clock):
    table = of("month", "America/New_York", "2024-01", "2024-03")
    clock(utc("2024-03-20"))
    last = after(table, None)
    assert (last.partition_key, last.run_after) == ("2024-03", utc("2024-04-01 04:00"))
    clock(utc("2024-04-01 04:00:01"))
    assert after(table, last) is None


@pytest.mark.parametrize("end", ["2013-12", None])
@pytest.mark.parametrize("backfilled", [None, "2013-12"])
def test_unpausing_the_dag_of_historical_data_asks_for_nothing_that_has_ended(end, backfilled, clock):
    # Given data of 2013, whether the spec says where they end or not, backfilled or not
    table = of("month", "America/New_York", "2013-01", end)
    now = clock(utc("2026-06-10"))
    last = by_backfill(table, backfilled) if backfilled else None
    run = after(table, last)
    # Then nothing is run now: with an end never, without one after the end of the present month
    assert run is None if end else (run.partition_key == "2026-06" and run.run_after > now)


def test_the_clock_goes_on_from_a_backfill_that_comes_up_to_it(clock):
    # Given a backfill up to the day before yesterday, or up to yesterday
    table = of("day", "UTC", "2024-03-01")
    now = clock(utc("2024-03-20 10:00"))
    for backfilled, expected in (("2024-03-18", "2024-03-19"), ("2024-03-19", "2024-03-20")):
        last = by_backfill(table, backfilled)
        run = after(table, last)
        # Then the following day is next
        assert run.partition_key == expected and (run.run_after > now) == (expected == "2024-03-20")


def test_after_a_pause_the_newest_partition_that_ended_is_run_and_those_before_it_are_left_to_backfill(clock):
    table = of("day", "UTC", "2024-03-01")
    clock(utc("2024-03-20 10:00"))
    last = table._run("2024-03-10")
    off, on = (after(table, last, catchup=catchup) for catchup in (False, True))
    assert (off.partition_key, on.partition_key) == ("2024-03-19", "2024-03-11")


def test_a_scheduler_that_comes_late_to_the_very_first_end_still_runs_it(clock):
    table = of("day", "UTC", "2020-01-01")
    for late, expected in ((GRACE / 2, "2024-03-19"), (GRACE * 2, "2024-03-20")):
        clock(utc("2024-03-20") + late)
        run = after(table, None)
        assert run.partition_key == expected


def test_a_backfill_leaves_what_has_not_ended_to_the_clock(clock):
    table = of("day", "UTC", "2024-03-01")
    clock(utc("2024-03-20 10:00"))
    runs = list(table.iter_partition_dagrun_infos(earliest=naive("2024-03-18"), latest=naive("2024-03-25")))
    assert [run.partition_key for run in runs] == ["2024-03-18", "2024-03-19"]


def test_airflows_own_steps_land_on_starts(clock):
    table = of("day", "Africa/Cairo", "2024-01-01")
    start = coerce_datetime(table.partitioning.start("2024-04-26"))
    assert table._align_to_next(start) == table._align_to_prev(start) == start
    assert table._get_next(start) == table.partitioning.start("2024-04-27")
    assert table._get_prev(start) == table.partitioning.start("2024-04-25")
    assert table._get_partition_info(start) == (table.partitioning.start("2024-04-25"), "2024-04-25")


@pytest.mark.parametrize("key", ["2024-04", "2024-04-31", "26.04.2024", "2024-4-26", ""])
def test_a_key_that_names_no_partition_is_refused_by_name(key):
    table = of("day", "Africa/Cairo", "2024-01-01")
    with pytest.raises(InvalidPartitionKeyError, match="is not a day partition"):
        table.resolve_partition_date(key)
    assert table.resolve_partition_date("2024-04-26") == table.partitioning.start("2024-04-26")


def test_it_is_registered_and_comes_back_from_the_database_the_same(monkeypatch):
    from airflow import plugins_manager

    monkeypatch.setattr(
        plugins_manager,
        "get_timetables_plugins",
        lambda: {"millrace.airflow.runtime.timetable.PartitionTimetable": one},
    )
    (one,) = MillracePlugin.timetables
    for given in (of("week", "Pacific/Apia", "2011-12-12"), of("month", "UTC", "2013-01", "2013-12")):
        back = decode_timetable(json.loads(json.dumps(encode_timetable(given))))
        assert type(back) is PartitionTimetable and back == given and hash(back) == hash(given)
        assert back.partitioned and back.periodic and back.can_be_scheduled
        assert back.description == given.description and "Pacific/Apia" in back.description or given.end
    assert of("day", "UTC", "2013-01-01") != of("day", "UTC", "2013-01-02")


IN_AIRFLOW = r"""
import json, sys
from datetime import UTC, datetime
from pathlib import Path
from airflow.dag_processing.bundles.manager import DagBundlesManager
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models.backfill import AlreadyRunningBackfill, NoBackfillRunsToCreate, ReprocessBehavior, _create_backfill
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.utils.session import create_session
from airflow.api_fastapi.core_api.datamodels.dag_run import TriggerDAGRunPostBody
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from airflow.utils.state import DagRunState
from sqlalchemy import select, update
from airflow.models.backfill import Backfill

folder = Path(sys.argv[1])
def parse():
    bag = DagBag(str(folder), bundle_path=folder, bundle_name="project")
    assert not bag.import_errors, bag.import_errors
    DagBundlesManager().sync_bundles_to_db()
    sync_bag_to_db(bag, "project", None)

def state(session, dag_id):
    model = session.scalar(select(DagModel).where(DagModel.dag_id == dag_id))
    return {"paused": model.is_paused, "next": model.next_dagrun_partition_key, "type": model.timetable_type,
            "after": str(model.next_dagrun_create_after)}

def backfill(dag_id, first, last):
    when = lambda text: datetime.fromisoformat(text).replace(tzinfo=UTC)
    try:
        made = _create_backfill(dag_id=dag_id, from_date=when(first), to_date=when(last), max_active_runs=2,
                                reverse=False, dag_run_conf={}, triggering_user_name=None,
                                reprocess_behavior=ReprocessBehavior.NONE)
    except NoBackfillRunsToCreate as err:
        return str(err)
    with create_session() as session:
        session.execute(update(Backfill).values(completed_at=datetime.now(UTC)))
        session.execute(update(DagRun).values(state=DagRunState.SUCCESS))

def keys(dag_id):
    with create_session() as session:
        return list(session.scalars(select(DagRun.partition_key).where(DagRun.dag_id == dag_id).order_by(DagRun.id)))

seen = {}
parse()
with create_session() as session:
    seen["dags"] = {d: state(session, d) for d in session.scalars(select(DagModel.dag_id))}
    # a run by hand, as the UI's form starts it
    dag = session.scalar(SerializedDagModel.latest_item_select_object("flight_delays__features")).dag
    body = TriggerDAGRunPostBody(logical_date=datetime.now(UTC), conf={"partition": "2013-05"})
    given = body.validate_context(dag)
    run = dag.create_dagrun(**{k: v for k, v in given.items() if k != "note"}, run_type=DagRunType.MANUAL,
                            triggered_by=DagRunTriggeredByType.UI, state=DagRunState.QUEUED, session=session)
    seen["by hand"] = len(session.scalars(select(TaskInstance).where(TaskInstance.run_id == run.run_id)).all())
    seen["REST"] = {}
    for key in ("2013-05", "2013-13", "2013-05-01"):
        try:
            seen["REST"][key] = str(TriggerDAGRunPostBody(
                logical_date=None, partition_key=key).validate_context(dag)["partition_date"])
        except ValueError as err:
            seen["REST"][key] = str(err)
CAIRO = "city_temperature__features"
backfill(CAIRO, "2024-04-24", "2024-04-28")
seen["once"] = keys(CAIRO)
backfill(CAIRO, "2024-04-22", "2024-05-01")
seen["again"] = keys(CAIRO)
seen["future"] = backfill(CAIRO, "2024-05-30", "2024-06-30")
parse()
with create_session() as session:
    seen["after"] = state(session, CAIRO)
print("\n" + json.dumps(seen))
"""


@pytest.fixture(scope="module")
def airflow(tmp_path_factory) -> dict:
    """What a real Airflow makes of a project: one pipeline of 2013, one of Cairo that ends in May 2024, and a live one
    whose clock is that of this machine."""
    project, home = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("airflow")
    for name in ("dags", "feature_repo", "plugins"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pipelines", "environments"):
        shutil.copytree(ROOT / "include" / name, project / "include" / name)
    shutil.copy(ROOT / "include" / "project.yaml", project / "include")

    def edit(path: str, change) -> None:
        file = project / "include" / path
        spec = yaml.safe_load(file.read_text())
        change(spec)
        file.write_text(yaml.safe_dump(spec))

    cairo = {"timezone": "Africa/Cairo", "start": "2024-01-01", "end": "2024-05-31"}
    edit("pipelines/city_temperature/pipeline.yaml", lambda spec: spec["partition"].update(cairo))
    edit("pipelines/languages/pipeline.yaml", lambda spec: spec["partition"].pop("end"))
    edit("environments/dev.yaml", lambda spec: spec.update(pipelines={"digits": {"scheduled": False}}))
    env = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "MILLRACE_"))} | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(project / "plugins"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(
            [
                {
                    "name": "project",
                    "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                    "kwargs": {"path": str(project / "dags")},
                }
            ]
        ),
    }
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], env=env, check=True, capture_output=True)
    script = home / "look.py"
    script.write_text(IN_AIRFLOW)
    done = subprocess.run(
        [sys.executable, str(script), str(project / "dags")], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_airflow_keeps_the_schedule_and_knows_what_comes_next(airflow):
    kinds = {name: seen["type"] for name, seen in airflow["dags"].items() if name.endswith("__features")}
    ours = "millrace.airflow.runtime.timetable.PartitionTimetable"
    assert kinds == {
        "city_temperature__features": ours, "flight_delays__features": ours, "languages__features": ours,
        "digits__features": "PartitionedAtRuntime",
    }  # fmt: skip
    # What has an end in the past asks for nothing more; what has none waits for the present week's end
    assert airflow["dags"]["flight_delays__features"]["next"] is None
    now = datetime.now(UTC)
    partitioning = Partitioning("week")
    assert airflow["dags"]["languages__features"]["next"] in {
        partitioning.key_of(now),
        partitioning.key_of(now - timedelta(minutes=20)),
    }


def test_only_a_dag_that_the_clock_would_start_begins_paused(airflow):
    paused = {name for name, seen in airflow["dags"].items() if seen["paused"]}
    assert paused == {"languages__features"}


def test_a_run_by_hand_has_its_tasks_although_the_data_ended_long_ago(airflow):
    assert airflow["by hand"] == 9


def test_rest_takes_the_key_of_a_partition_and_refuses_others_in_words(airflow):
    assert airflow["REST"]["2013-05"].startswith("2013-05-01 04:00:00")
    for key in ("2013-13", "2013-05-01"):
        assert f"'{key}' is not a month partition; allowed: keys such as 2013-01" in airflow["REST"][key]


def test_backfills_that_overlap_make_each_partition_once(airflow):
    partitioning = Partitioning("day", "Africa/Cairo")
    assert airflow["once"] == list(partitioning.range("2024-04-24", "2024-04-28"))
    assert sorted(airflow["again"]) == list(partitioning.range("2024-04-22", "2024-05-01"))


def test_after_a_backfill_the_schedule_still_asks_for_nothing_that_has_ended(airflow):
    assert airflow["after"]["next"] is None
