"""Events and promotions for tests, each well-formed and told apart by a number."""

from __future__ import annotations

from typing import Any

from millrace.contract import Artifact
from millrace.ledger import Champion, GateVerdict, Ledger, ReleaseRequest, Trained


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
    return artifact("evidence", 100 + version)


def asked(ledger: Ledger, version: int, *, pipeline: str = "flights", run_id: str = "") -> ReleaseRequest:
    """A release request for a version."""
    run_id = run_id or f"release__v{version}"
    return ledger.ask_release(pipeline, version, evidence(version).digest, run_id=run_id, reason="a test")


def promoted(ledger: Ledger, version: int, *, pipeline: str = "flights", **changes: Any) -> Champion:
    """Make a version champion, after whoever is it now."""
    request = asked(ledger, version, pipeline=pipeline)
    return ledger.promote(pipeline, request.id, evidence(version), trained(version, **changes), approval=False)
