"""What is in the online store, what must still get there, and what monitoring saw."""

from __future__ import annotations

from typing import Any

from millrace.ledger import Ledger, MaterializedWindow, MonitoredWindow


def written(ledger: Ledger, pipeline: str, view: str, partition: str, snapshot: str, rows: int) -> None:
    ledger.record(MaterializedWindow(pipeline=pipeline, view=view, partition=partition, snapshot=snapshot, rows=rows))


def seen(partition: str, champion: int, message: str, drift: dict[str, Any] | None = None) -> MonitoredWindow:
    return MonitoredWindow(
        pipeline="flights", partition=partition, champion=champion, action="none", reason="nothing", message=message,
        window={}, drift=drift or {}, performance=None, probe=None,
    )  # fmt: skip


def test_gaps_and_corrected_partitions_are_stale(ledger):
    current = {"2013-01": "a", "2013-02": "b", "2013-03": "c"}
    assert ledger.stale("flights", "features", current) == ["2013-01", "2013-02", "2013-03"]
    written(ledger, "flights", "features", "2013-03", "c", 30)
    written(ledger, "flights", "features", "2013-01", "old", 10)
    written(ledger, "flights", "features_2", "2013-02", "b", 20)
    written(ledger, "trains", "features", "2013-02", "b", 20)

    assert ledger.stale("flights", "features", current) == ["2013-01", "2013-02"]

    written(ledger, "flights", "features", "2013-01", "a", 11)
    written(ledger, "flights", "features", "2013-02", "b", 20)

    assert ledger.stale("flights", "features", current) == []
    assert [(w.partition, w.snapshot, w.rows) for w in ledger.windows("flights", "features")] == [
        ("2013-01", "a", 11), ("2013-02", "b", 20), ("2013-03", "c", 30),
    ]  # fmt: skip


def test_the_same_window_again_adds_nothing(ledger):
    for _ in range(3):
        written(ledger, "flights", "features", "2013-01", "a", 10)

    assert len(ledger.entries(kind="materialized")) == 1


def test_a_window_that_went_back_to_an_earlier_snapshot_is_told(ledger):
    for snapshot in ("a", "b", "a"):
        written(ledger, "flights", "features", "2013-01", snapshot, 10)

    assert [w.snapshot for w in ledger.windows("flights", "features")] == ["a"]
    assert len(ledger.entries(kind="materialized")) == 3


def test_view_names_with_wildcards_are_taken_as_they_are(ledger):
    written(ledger, "flights", "a_b", "2013-01", "x", 1)
    written(ledger, "flights", "axb", "2013-01", "y", 1)

    assert [w.snapshot for w in ledger.windows("flights", "a_b")] == ["x"]


def test_monitoring_tells_the_newest_of_each_partition_in_order(ledger):
    for partition, version, said in [("2013-06", 1, "a"), ("2013-05", 1, "b"), ("2013-06", 1, "c"), ("2013-06", 2, "d"),
                                     ("2013-05", 11, "e")]:  # fmt: skip
        ledger.record(seen(partition, version, said))

    def windows(version=None):
        return [(w.partition, w.champion, w.message) for w in ledger.monitoring("flights", version)]

    assert windows(1) == [("2013-05", 1, "b"), ("2013-06", 1, "c")]
    assert windows() == [("2013-05", 11, "e"), ("2013-06", 2, "d")]
    assert windows(3) == [] and ledger.monitoring("trains") == []


def test_a_replay_that_sees_the_same_adds_nothing(ledger):
    for _ in range(2):
        ledger.record(seen("2013-05", 1, "a", drift={"share": 0.25, "broken": ["a"]}))

    assert len(ledger.entries(kind="monitoring")) == 1
