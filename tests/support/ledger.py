"""Events and promotions for tests, each well-formed and told apart by a number."""

from __future__ import annotations

from typing import Any

from sqlalchemy import create_engine, insert

from millrace.contract import Artifact
from millrace.ledger import Anchor, Answer, Champion, GateVerdict, JobDone, Ledger, ReleaseRequest, Trained
from millrace.ledger.schema import ENTRIES

# As the first version made it, on either database.
FIRST = (
    "CREATE TABLE millrace_entries (seq BIGINT NOT NULL PRIMARY KEY, at VARCHAR(27) NOT NULL, "
    "pipeline VARCHAR(63) NOT NULL, kind VARCHAR(40) NOT NULL, subject VARCHAR(200) NOT NULL, body TEXT NOT NULL, "
    "previous VARCHAR(71) NOT NULL UNIQUE, hash VARCHAR(71) NOT NULL UNIQUE)",
    "CREATE INDEX millrace_entries_by_pipeline ON millrace_entries (pipeline, kind, subject, seq)",
    "CREATE INDEX millrace_entries_by_kind ON millrace_entries (kind, subject, seq)",
    "CREATE UNIQUE INDEX millrace_one_champion_a_generation ON millrace_entries (pipeline, subject) "
    "WHERE kind = 'promoted'",
)


def make_first(url: str, rows: list[dict[str, Any]]) -> None:
    """A ledger as the first version made it, with these entries."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in FIRST:
            connection.exec_driver_sql(statement)
        connection.execute(insert(ENTRIES), rows)
    engine.dispose()


def digest(number: int) -> str:
    """A well-formed digest that stands for nothing."""
    return f"sha256:{number:064x}"


def artifact(kind: str, number: int) -> Artifact:
    """An Artifact that lies nowhere."""
    return Artifact(uri=f"{kind}s/{number}/", digest=digest(number), kind=kind)


def verdict(number: int = 0, *, pipeline: str = "flights", dataset: str = "features", partition: str = "2013-01",
            **changes: Any) -> GateVerdict:  # fmt: skip
    """A passed gate; another number is another Snapshot."""
    given = {"snapshot": digest(number), "outcome": digest(number), "passed": True, **changes}
    return GateVerdict(pipeline=pipeline, dataset=dataset, partition=partition, **given)


def done(pipeline: str, run: str, job: str, output: Artifact, **changes: Any) -> JobDone:
    """A job of a run, `<dag id>/<run id>`, that made one Artifact."""
    given = {"request": digest(1), "outcome": digest(2), "scope": (), "inputs": (), "passed": None, **changes}
    return JobDone(pipeline=pipeline, run=run, job=job, outputs={"data": output}, **given)


def trained(version: int, **changes: Any) -> Trained:
    """What a version is made of."""
    given: dict[str, Any] = {
        "model": artifact("model", version),
        "training_set": artifact("snapshot", 1000 + version),
        "evaluation": artifact("evaluation", 2000 + version),
        "trained_to": "2013-02",
        "partitions": ("2013-01", "2013-02"),
        "reason": "by hand",
        "mlflow_run": "abc",
    }
    return Trained(**{**given, **changes})


def evidence(version: int) -> Artifact:
    """The Evidence of a version, as the store names it."""
    return artifact("evidence", 100 + version).model_copy(update={"uri": f"evidence/{100 + version}/evidence.json"})


def asked(ledger: Ledger, version: int, *, pipeline: str = "flights", run_id: str = "") -> ReleaseRequest:
    """A release request for a version."""
    run_id = run_id or f"release__v{version}"
    return ledger.ask_release(pipeline, version, evidence(version).digest, run_id=run_id, reason="a test")


def said(by: str = "ann", verdict: str = "approve", **more: Any) -> Answer:
    """A person's answer."""
    return Answer(by=by, verdict=verdict, **more)


def automatically() -> Answer:
    """What an environment answers by itself."""
    return said("environment dev", how="automatic")


def unanchored(pipeline: str, number: int, entry_hash: str) -> None:
    """Where anchors do not matter: nothing is put anywhere."""


def promoted(
    ledger: Ledger, version: int, *, pipeline: str = "flights", anchor: Anchor = unanchored, **changes: Any
) -> Champion:
    """Make a version champion, after whoever is it now; one that was champion before comes back by a run of its own."""
    before = sum(champion.version == version for champion in ledger.champions(pipeline))
    run_id = f"release__v{version}" + (f"__again_{before}" if before else "")
    request = asked(ledger, version, pipeline=pipeline, run_id=run_id)
    ledger.answer(pipeline, request.id, automatically())
    made_of = trained(version, **changes)
    return ledger.promote(pipeline, request.id, evidence(version), made_of, approval=False, anchor=anchor)
