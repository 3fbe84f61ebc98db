"""collect: the Table `served` holds each answer once, in the partition in which it was asked, and what it rested on."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from support.shop import MODEL, Served, read, record, us

DAY = "2024-03-05"


@pytest.fixture(params=["folder", "s3"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Served:
    store = None if request.param == "folder" else f"s3://{request.getfixturevalue('bucket')}/prefix"
    return Served.make(tmp_path, store)


@pytest.fixture
def here(tmp_path: Path) -> Served:
    return Served.make(tmp_path)


def test_a_row_says_who_answered_what_on_which_features(served):
    fields = {"unit": "u1", "caller": "ann", "columns": ["amount", "kind"], "rows": [[1.5, "a"]], "server": "s1"}
    served.ship([read("r1", f"{DAY} 10:00:00.000001", "x", "2024-03-04 23:00", 0.25, **fields)])
    (row,) = served.rows(served.collect(DAY))
    assert row == {
        "request_id": "r1", "row": 0, "asked": datetime(2024, 3, 5, 10, 0, 0, 1, UTC), "version": 3,
        "model_digest": MODEL, "role": "champion", "generation": 7, "unit": "u1", "caller": "ann", "found": "found",
        "latency_ms": 1.5, "kept": True, "prediction": 0.25, "id": "x", "feature.amount": "1.5", "feature.kind": "a",
        "time.shop": datetime(2024, 3, 4, 23, tzinfo=UTC),
    }  # fmt: skip


def test_types_are_those_of_the_features(here):
    kinds = {"id": pa.int64(), "amount": pa.float64(), "count": pa.int32(), "vip": pa.bool_(), "day": pa.date32(),
             "seen": pa.timestamp("ns"), "kind": pa.dictionary(pa.int32(), pa.string())}  # fmt: skip
    features = here.snapshot(pa.table({name: pa.array([], kind) for name, kind in kinds.items()}), "features", DAY)
    columns = ["amount", "count", "vip", "day", "seen", "kind"]
    good = [2, 3.0, True, "2024-01-02", us("2024-01-01 05:00"), "a"]
    other = [float("nan"), 2**40, 1, "never", "2024-01-01T06:00:00+01:00", "b"]
    here.ship(
        [
            record("r1", f"{DAY} 01:00", entities=[{"id": 5}], columns=columns, rows=[good]),
            record("r2", f"{DAY} 02:00", entities=[{"id": "no number"}], columns=columns, rows=[other]),
            record("r3", f"{DAY} 03:00"),
        ]
    )
    table = here.table(here.collect(DAY, ("features", features, DAY)))
    assert table["id"].to_pylist() == [5, None, None]
    moment = datetime(2024, 1, 1, 5, tzinfo=UTC)
    assert {n: table[f"feature.{n}"].to_pylist() for n in columns} == {
        "amount": [2.0, None, None], "count": [3, None, None], "vip": [True, None, None],
        "day": [datetime(2024, 1, 2).date(), None, None], "seen": [moment, moment, None], "kind": ["a", "b", None],
    }  # fmt: skip
    assert table.schema.field("feature.count").type == pa.int32()


def test_the_same_segments_in_any_order_give_the_same_snapshot(served):
    for number in range(4):
        some = [record(f"r{number}-{n}", f"{DAY} {number:02d}:{n:02d}", n / 50) for n in range(30)]
        served.ship(some if number % 2 else some[::-1], server=f"s{number % 2}", worker=f"w{number}")
    whole = {str(served.collect(DAY, shuffled=n).outcome.outputs["data"].digest) for n in range(5)}
    assert len(whole) == 1


def test_segments_cut_otherwise_give_the_same_snapshot(tmp_path):
    records = [record(f"r{n}", f"{DAY} {n % 24:02d}:{n % 60:02d}", n / 100) for n in range(100)]
    found = set()
    for number, cut in enumerate((100, 7, 33)):
        here = Served.make(tmp_path / str(number))
        for start in range(0, 100, cut):
            here.ship(records[start : start + cut], worker=f"w{start % 3}")
        found.add(here.collect(DAY).outcome.outputs["data"].digest)
    assert len(found) == 1


def test_a_record_that_came_twice_counts_once_and_of_answers_to_one_request_the_first(served):
    same = record("r1", f"{DAY} 10:00", 0.1)
    served.ship([same, same, record("r2", f"{DAY} 10:00", 0.2)])
    served.ship([same, record("r2", f"{DAY} 09:59", 0.9), record("r2", f"{DAY} 10:01", 0.3)], server="s2")
    # not the same answer: another version's, and the shadow's
    served.ship([record("r1", f"{DAY} 10:00", 0.4, version=4), record("r1", f"{DAY} 10:00", 0.5, role="shadow")])
    result = served.collect(DAY)
    found = [(row["request_id"], row["role"], row["version"], row["prediction"]) for row in served.rows(result)]
    assert found == [
        ("r2", "champion", 3, 0.9), ("r1", "champion", 3, 0.1), ("r1", "champion", 4, 0.4), ("r1", "shadow", 3, 0.5),
    ]  # fmt: skip
    assert result.outcome.facts["duplicates"] == 4 and result.outcome.facts["records"] == 8


def test_rows_of_a_request_stand_in_its_order(here):
    entities = [{"id": "b"}, {"id": "a"}, {"id": "c"}]
    times = [{"shop": us("2024-03-01 00:00")}, {"shop": None}, {}]
    found = ["found", "unknown", "stale"]
    here.ship([record("r", f"{DAY} 10:00", predictions=[1, 2.5, None], entities=entities, times=times, found=found)])
    rows = here.rows(here.collect(DAY))
    assert [(r["row"], r["id"], r["prediction"], r["found"]) for r in rows] == [
        (0, "b", 1.0, "found"), (1, "a", 2.5, "unknown"), (2, "c", None, "stale"),
    ]  # fmt: skip
    assert [r["time.shop"] for r in rows] == [datetime(2024, 3, 1, tzinfo=UTC), None, None]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), None, 1e39, "text", True, [0.5]])
def test_what_is_no_number_is_no_answer(here, value):
    here.ship([record("r1", f"{DAY} 10:00", value), record("r2", f"{DAY} 11:00", 0.5)])
    result = here.collect(DAY)
    assert [row["prediction"] for row in here.rows(result)] == [None, 0.5]
    assert result.outcome.facts["unanswered"] == 1


def test_late_segments_make_a_new_snapshot_that_has_all(served):
    served.ship([record("r1", f"{DAY} 10:00")])
    before = served.collect(DAY)
    assert served.collect(DAY).outcome_digest == before.outcome_digest
    served.ship([record("r2", f"{DAY} 09:00")], server="late")
    after = served.collect(DAY)
    assert [row["request_id"] for row in served.rows(after)] == ["r2", "r1"]
    assert [row["request_id"] for row in served.rows(before)] == ["r1"], "a Snapshot never changes"


@pytest.mark.parametrize(
    ("zone", "day", "inside", "outside"),
    [
        # clocks go forward: the day has 23 hours
        ("America/New_York", "2024-03-10", ["2024-03-10T05:00:00", "2024-03-11T03:59:59.999999"],
         ["2024-03-10T04:59:59.999999", "2024-03-11T04:00:00"]),
        # clocks go back: it has 25
        ("America/New_York", "2024-11-03", ["2024-11-03T04:00:00", "2024-11-04T04:59:59.999999"],
         ["2024-11-03T03:59:59.999999", "2024-11-04T05:00:00"]),
        # at midnight: the day begins at one o'clock
        ("America/Santiago", "2024-09-08", ["2024-09-08T04:00:00", "2024-09-09T02:59:59.999999"],
         ["2024-09-08T03:59:59.999999", "2024-09-09T03:00:00"]),
        # in the middle of an hour of UTC
        ("Asia/Kathmandu", "2024-05-02", ["2024-05-01T18:15:00", "2024-05-02T18:14:59.999999"],
         ["2024-05-01T18:14:59.999999", "2024-05-02T18:15:00"]),
    ],
)  # fmt: skip
def test_a_partition_is_one_of_the_pipelines_clocks(tmp_path, zone, day, inside, outside):
    here = Served.make(tmp_path, partition={"timezone": zone})
    here.ship([record(at, at) for at in [*inside, *outside]])
    assert [row["request_id"] for row in here.rows(here.collect(day))] == inside


def test_every_record_is_in_one_partition(tmp_path):
    here = Served.make(tmp_path, partition={"timezone": "Europe/Berlin"})
    first = datetime(2024, 3, 29, 0, 30, tzinfo=UTC)
    here.ship([record(f"r{n}", (first + timedelta(minutes=30 * n)).isoformat()) for n in range(200)])
    days = [f"2024-03-{day}" for day in range(28, 32)] + [f"2024-04-{day:02d}" for day in range(1, 4)]
    found = [row["request_id"] for day in days for row in here.rows(here.collect(day))]
    assert sorted(found) == sorted(f"r{n}" for n in range(200))


def test_a_feature_that_is_left_out_is_never_written(tmp_path):
    here = Served.make(tmp_path, serving={"log": {"leave_out": ["amount"]}})
    here.ship([record("r", f"{DAY} 10:00", columns=["amount", "kind"], rows=[[1.5, "a"]])])
    table = here.table(here.collect(DAY))
    assert "feature.kind" in table.column_names and "feature.amount" not in table.column_names


def test_the_snapshot_is_as_personal_as_its_features(tmp_path):
    for columns, says in (({}, "internal"), ({"amount": "personal"}, "personal")):
        here = Served.make(tmp_path / says, columns=columns)
        here.ship([record("r", f"{DAY} 10:00", columns=["amount"], rows=[[1.5]])])
        assert here.collect(DAY).outcome.outputs["data"].classification == says


def test_records_that_cannot_be_read_are_said_and_left_out(here):
    here.ship([{"pipeline": "shop", "at": us(f"{DAY} 10:00")}, record("r", f"{DAY} 10:00", role="king"),
               record("r1", f"{DAY} 11:00")])  # fmt: skip
    result = here.collect(DAY)
    assert len(here.rows(result)) == 1 and result.outcome.facts["unreadable"] == 2
    assert any("2 shipped records cannot be read" in note for note in result.observed.notes)


def test_a_segment_that_changed_after_it_was_listed_is_not_read(here):
    here.ship([record("r1", f"{DAY} 10:00")])
    listed = here.listing(DAY)
    ((key, *_),) = json.loads(here.objects.get(listed.uri))
    here.objects.put(key, here.objects.get(key) + b"more")
    result = here.send("collect", DAY, [("segments", listed, DAY)])
    assert result.error is not None and result.error.type == "Conflict" and result.error.retry == "same"


def test_nothing_asked_is_a_snapshot_without_rows(here):
    result = here.collect(DAY)
    assert here.table(result).num_rows == 0 and "prediction" in here.table(result).column_names


def test_of_several_classes_the_likeliest_and_all_probabilities(tmp_path):
    here = Served.make(tmp_path, label={"task": "multiclass"})
    model = here.card(classes=("a", "b", "c"), task="multiclass")
    here.ship(
        [
            record("r1", f"{DAY} 10:00", predictions=[[0.2, 0.7, 0.1], None, [0.5, float("nan"), 0.5]], model=model),
            record("r2", f"{DAY} 11:00", "c", model=None, version=None, role="constant"),
            record("r3", f"{DAY} 12:00", [0.2, 0.8], model=model),
        ]
    )
    table = here.table(here.collect(DAY))
    assert table["prediction"].to_pylist() == ["b", None, None, "c", None]
    assert table["probability_1"].to_pylist() == [0.7, None, None, None, None]
