"""What is in the online store, what must still get there, and what monitoring saw."""

from __future__ import annotations


def test_gaps_and_corrected_partitions_are_stale(ledger):
    current = {"2013-01": "a", "2013-02": "b", "2013-03": "c"}
    assert ledger.stale("flights", "features", current) == ["2013-01", "2013-02", "2013-03"]
    ledger.record_window("flights", "features", "2013-03", "c", 30)
    ledger.record_window("flights", "features", "2013-01", "old", 10)
    ledger.record_window("flights", "features_2", "2013-02", "b", 20)
    ledger.record_window("trains", "features", "2013-02", "b", 20)

    assert ledger.stale("flights", "features", current) == ["2013-01", "2013-02"]

    ledger.record_window("flights", "features", "2013-01", "a", 11)
    ledger.record_window("flights", "features", "2013-02", "b", 20)

    assert ledger.stale("flights", "features", current) == []
    assert [(w.partition, w.snapshot, w.rows) for w in ledger.windows("flights", "features")] == [
        ("2013-01", "a", 11), ("2013-02", "b", 20), ("2013-03", "c", 30),
    ]  # fmt: skip


def test_the_same_window_again_adds_nothing(ledger):
    for _ in range(3):
        ledger.record_window("flights", "features", "2013-01", "a", 10)

    assert len(ledger.entries(kind="materialized")) == 1


def test_a_window_that_went_back_to_an_earlier_snapshot_is_told(ledger):
    for snapshot in ("a", "b", "a"):
        ledger.record_window("flights", "features", "2013-01", snapshot, 10)

    assert [w.snapshot for w in ledger.windows("flights", "features")] == ["a"]
    assert len(ledger.entries(kind="materialized")) == 3


def test_view_names_with_wildcards_are_taken_as_they_are(ledger):
    ledger.record_window("flights", "a_b", "2013-01", "x", 1)
    ledger.record_window("flights", "axb", "2013-01", "y", 1)

    assert [w.snapshot for w in ledger.windows("flights", "a_b")] == ["x"]


def test_monitoring_tells_the_newest_of_each_partition_in_order(ledger):
    for partition, version, said in [("2013-06", 1, "a"), ("2013-05", 1, "b"), ("2013-06", 1, "c"), ("2013-06", 2, "d"),
                                     ("2013-05", 11, "e")]:  # fmt: skip
        ledger.record_monitoring("flights", partition, version, {"said": said})

    def told(version=None):
        return [(w.partition, w.champion_version, w.body["said"]) for w in ledger.monitoring("flights", version)]

    assert told(1) == [("2013-05", 1, "b"), ("2013-06", 1, "c")]
    assert told() == [("2013-05", 11, "e"), ("2013-06", 2, "d")]
    assert told(3) == [] and ledger.monitoring("trains") == []


def test_a_replay_that_sees_the_same_adds_nothing(ledger):
    for _ in range(2):
        ledger.record_monitoring("flights", "2013-05", 1, {"drift": 0.25, "broken": ["a"]})

    assert len(ledger.entries(kind="monitoring")) == 1
