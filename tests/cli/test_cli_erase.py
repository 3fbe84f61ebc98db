"""`millrace erase`: what subjects that withdrew touch, by real Snapshots, and what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support.ledger import promoted, verdict
from support.project import stored

from millrace.airflow.runtime.site import Site
from millrace.core.canonical import canonical_json
from millrace.core.errors import DataError, NotFound
from millrace.ledger import Ledger, Registered
from millrace.rules.evidence import Evidence
from millrace.store.snapshots import SnapshotStore

DAY, OTHER = "2024-01-01", "2024-01-02"
CODE = "sha256:" + "c" * 64


class Shop:
    """Visits of two days: ann's and bob's on the first, cid's on the second; a version on each, and one on both."""

    def __init__(self, root: Path) -> None:
        Site.at.cache_clear()
        self.root, self.site = root, Site.at(str(root), "visits")
        self.store = SnapshotStore(self.site.objects)
        self.made: dict[str, Any] = {}
        for name, dataset, day, who in (
            ("raw", "raw.visits", DAY, ["ann", "bob"]),
            ("features", "features", DAY, ["ann", "bob"]),
            ("other", "features", OTHER, ["cid"]),
            ("set", "training_set", DAY, ["ann", "bob"]),
            ("clean", "training_set", OTHER, ["cid"]),
            ("scored", "predictions", DAY, ["bob", "ann", "ann"]),
        ):
            self.made[name] = self.write(dataset, day, who)
        self.store.write(pa.table({"station": ["x"]}), pipeline="visits", dataset="raw.weather", partition=DAY)
        for version, data, gate in ((1, "set", "features"), (2, "clean", "other"), (3, "clean", "features")):
            self.register(version, data, gate)
        promoted(self.ledger, 1, pipeline="visits")

    def write(self, dataset: str, day: str, who: list[str]) -> Any:
        table = pa.table({"visit_id": who, "number": list(range(len(who)))})
        return self.store.write(table, pipeline="visits", dataset=dataset, partition=day)

    @property
    def ledger(self) -> Ledger:
        return self.site.ledger

    def register(self, version: int, data: str, gate: str) -> None:
        passed = verdict(pipeline="visits", partition=DAY, snapshot=self.made[gate].digest)
        evidence = Evidence.read(
            {
                "evidence_version": 2, "pipeline": "visits", "model": stored(self.site, "model", str(version)),
                "training_set": self.made[data].model_dump(), "evaluation": stored(self.site, "evaluation", "e"),
                "evaluation_outcome": CODE, "evaluation_passed": True, "spec_digest": CODE, "code_digest": CODE,
                "gates": [passed.model_dump(exclude={"pipeline", "made_of"})], "duel": None, "decision": "manual",
                "reason": "a test", "trained_to": DAY, "partitions": [DAY], "feature_service": "s", "mlflow_run": "r",
            }
        )  # fmt: skip
        kept = stored(self.site, "evidence", canonical_json(evidence).decode())
        self.ledger.record(
            Registered(pipeline="visits", version=version, model=evidence.model, evidence=kept, decision=None)
        )

    def states(self) -> dict[int, str]:
        return {life.version: life.state for life in self.ledger.lives("visits")}

    def whole(self) -> list[str]:
        """Names of the Snapshots whose bytes are there."""
        found = []
        for name, each in self.made.items():
            try:
                found.append(name) if self.store.read(each.uri, each.digest).num_rows else None
            except NotFound as err:
                assert "was erased: subjects withdrew" in str(err)
        return found


@pytest.fixture
def house(shop: Path) -> Shop:
    (shop / ".millrace").mkdir(exist_ok=True)
    (shop / "keys.csv").write_text("visit_id\nann\nnobody\n")
    return Shop(shop)


ALL = ["raw", "features", "other", "set", "clean", "scored"]
ERASE = ("erase", "visits", "--keys", "keys.csv", "--reason", "a letter of 3 May")


def test_a_dry_run_names_what_they_touch_and_does_nothing(millrace, house):
    said = millrace(*ERASE, "--remove")

    assert said.code == 0, said.err
    lines = [line.rpartition(" (")[0] for line in said.out.splitlines()]
    assert lines[0] == "2 subjects by visit_id"
    assert lines[1:5] == [
        f"features of {DAY}: 1 rows of theirs", f"predictions of {DAY}: 2 rows of theirs",
        f"raw.visits of {DAY}: 1 rows of theirs", f"training_set of {DAY}: 1 rows of theirs",
    ]  # fmt: skip
    assert "versions trained on rows of theirs: 1, 3" in said.out
    assert "not looked into, as it has no such columns: raw.weather" in said.out
    assert "Nothing was done. With --yes versions are put into quarantine and the bytes" in said.out
    assert house.ledger.entries("visits", "erasure") == []
    assert house.states() == {1: "champion", 2: "candidate", 3: "candidate"} and house.whole() == ALL


def test_versions_go_into_quarantine_and_the_record_holds_no_key(millrace, house):
    said = millrace(*ERASE, "--yes")

    assert said.code == 0 and "Version 1 is the champion of record and goes on scoring" in said.out
    assert house.states() == {1: "quarantined", 2: "candidate", 3: "quarantined"} and house.whole() == ALL
    (entry,) = house.ledger.entries("visits", "erasure")
    assert (entry.event.count, entry.event.versions, entry.event.removed) == (2, (1, 3), False)
    everything = " ".join(str(each.body) for each in house.ledger.entries())
    assert "ann" not in everything and "nobody" not in everything and "a letter of 3 May" in everything


def test_the_bytes_go_for_good_and_again_it_changes_nothing(millrace, house):
    millrace(*ERASE, "--yes")
    assert millrace(*ERASE, "--yes", "--remove").code == 0
    assert house.whole() == ["other", "clean"]
    before = len(house.ledger.entries())
    (house.root / "keys.csv").write_text("visit_id\nnobody\nann\n")  # in another order: the same people
    again = millrace(*ERASE, "--yes", "--remove")
    assert again.code == 0 and f"raw.visits of {DAY}: 1 rows of theirs" in again.out
    assert len(house.ledger.entries()) == before and house.ledger.entries("visits", "erasure")[-1].event.removed
    # the same source, landed again, does not bring them back; without them it is another Snapshot
    with pytest.raises(DataError, match="just these rows were erased"):
        house.write("raw.visits", DAY, ["ann", "bob"])
    assert house.write("raw.visits", DAY, ["bob"]).digest != house.made["raw"].digest
    kept = house.store.manifest("visits", "raw.visits", house.made["raw"].digest)
    assert kept.digest == house.made["raw"].digest, "the digest stays"


def test_killed_between_record_and_removal_it_is_finished_by_the_next(millrace, house, monkeypatch):
    erase = SnapshotStore.erase
    gone: list[str] = []

    def killed(self: SnapshotStore, prefix: str, snapshot: str, reason: str) -> None:
        if gone:
            raise KeyboardInterrupt
        gone.append(prefix)
        erase(self, prefix, snapshot, reason)

    monkeypatch.setattr(SnapshotStore, "erase", killed)
    assert millrace(*ERASE, "--yes", "--remove").code != 0
    assert len(house.whole()) == 5
    monkeypatch.setattr(SnapshotStore, "erase", erase)
    assert millrace(*ERASE, "--yes", "--remove").code == 0
    assert house.whole() == ["other", "clean"] and house.states()[1] == "quarantined"


def test_where_the_environment_only_reports_no_version_moves(millrace, house):
    path = house.root / "include" / "environments" / "dev.yaml"
    path.write_text(path.read_text() + "erasure: report\n")
    assert "With --yes it is put on record" in millrace(*ERASE).out
    assert millrace(*ERASE, "--yes").code == 0
    assert house.states()[1] == "champion" and len(house.ledger.entries("visits", "erasure")) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("visit_id\n", "names nobody"),
        ("visit_id,number\nann,\n", "empty field"),
        ("visitor\nann\n", "no Snapshot of visits has these columns (given: 'visitor'"),
        (None, "no such file"),
    ],
)
def test_a_list_that_is_none_is_refused_and_quotes_nobody(millrace, house, text, words):
    path = house.root / "keys.csv"
    path.write_text(text) if text is not None else path.unlink()
    said = millrace(*ERASE)
    assert said.code == 1 and words in said.err and "ann" not in said.err


def test_several_columns_name_a_subject_together(millrace, house):
    (house.root / "keys.csv").write_text("number,visit_id\n0,ann\n")
    said = millrace(*ERASE)
    assert f"predictions of {DAY}" not in said.out and f"raw.visits of {DAY}: 1 rows of theirs" in said.out
