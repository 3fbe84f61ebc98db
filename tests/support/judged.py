"""Model checks through the evaluate job: a model that passes thresholds and is judged by the checks that are asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from millrace.contract import Artifact, Check, JobResult, Outcome
from support.learning import FAST, World, rows, spec
from support.provenance import PROVENANCE


def outcome_of(result: JobResult) -> Outcome:
    assert result.outcome is not None, result.error
    return result.outcome


class Judging:
    """A world whose pipeline asks for these model checks, with one trained model; `change` puts other data under it."""

    def __init__(
        self,
        root: Path,
        *checks: dict[str, Any],
        task: str = "binary",
        table: pa.Table | None = None,
        learner: dict[str, Any] | None = None,
        means: dict[str, Any] | None = None,
        **changes: Any,
    ) -> None:
        metric = "rmse" if task == "regression" else "log_loss"
        evaluation = {"thresholds": {metric: {"max": 10}}, "duel": {"tolerance": 10}, "checks": list(checks)}
        described = spec(task, evaluation=evaluation, training={"learner": learner or FAST}, **changes)
        self.world = World(root, described, means=means or {})
        self.table = rows(task=task) if table is None else table
        self.data = self.world.snapshot(self.table)
        self.model: Artifact = outcome_of(
            self.world.run("train", {"training_set": self.data}, {"learner": None})
        ).outputs["model"]

    def result(self, **inputs: Artifact) -> JobResult:
        return self.world.run("evaluate", {"training_set": self.data, "model": self.model, **inputs})

    def outcome(self, **inputs: Artifact) -> Outcome:
        return outcome_of(self.result(**inputs))

    def document(self, outcome: Outcome) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.world.objects.get(outcome.outputs["evaluation"].uri))
        return found

    def registered(self, outcome: Outcome) -> JobResult:
        """What register says of this model on the strength of this evaluation."""
        from millrace.contract import code_digest
        from support.requests import digest_of

        scope = ("2013-01", "2013-02")
        artifacts = {"model": self.model, "training_set": self.data, "evaluation": outcome.outputs["evaluation"]}
        evidence = {
            "evidence_version": 3, **PROVENANCE,
            "pipeline": "flights",
            **{role: artifact.model_dump(mode="json") for role, artifact in artifacts.items()},
            "evaluation_outcome": digest_of("e"),
            "evaluation_passed": True,  # as somebody would say who wants it registered
            "spec_digest": self.world.bundle.digest,
            "code_digest": code_digest(),
            "gates": [{"dataset": "features", "partition": key, "snapshot": digest_of("f"), "outcome": digest_of("0"),
                       "passed": True} for key in scope],
            "duel": None,
            "decision": "manual",
            "reason": "a test",
            "trained_to": scope[-1],
            "partitions": list(scope),
            "feature_service": "flights_v1",
            "mlflow_run": "r1",
        }  # fmt: skip
        return self.world.run("register", artifacts, {"mlflow_run": "r1", "evidence": evidence})


def blocked(judging: Judging, name: str, *words: str, **inputs: Artifact) -> Outcome:
    """The outcome of an evaluation in which the check fails in these words, so that nothing is registered."""
    outcome = judging.outcome(**inputs)
    assert outcome.verdict is not None and not outcome.verdict.passed
    failed = [check for check in outcome.verdict.failures if check.name == name]
    assert failed and {check.name for check in outcome.verdict.failures} <= {name, "duel"}, outcome.verdict
    text = " ".join(check.message for check in failed)
    assert all(word in text for word in words), text
    assert judging.document(outcome)["passed"] is False
    registered = judging.registered(outcome)
    assert registered.error is not None and registered.outcome is None
    assert "does not say that this model passed" in registered.error.message
    return outcome


def passing(judging: Judging, name: str, **inputs: Artifact) -> tuple[Outcome, list[Check]]:
    """The outcome of an evaluation that passes, and what the check says."""
    outcome = judging.outcome(**inputs)
    assert outcome.verdict is not None and outcome.verdict.passed, outcome.verdict
    said = [check for check in outcome.verdict.checks if check.name == name]
    assert said
    return outcome, said


def grouped_rows(count: int = 3000, gap: float = 2.0, seed: int = 0) -> pa.Table:
    """Rows in which carrier UA is late far more often than the others by `gap`, and distance says the rest."""
    random = np.random.default_rng(seed)
    table = rows(count, seed)
    carrier = np.array(table["carrier"].to_pylist())
    signal = random.normal(0, 1, count) + gap * (carrier == "UA")
    table = table.set_column(
        table.column_names.index("distance"), "distance", pa.array(signal + random.normal(0, 0.3, count))
    )
    return table.set_column(table.column_names.index("late"), "late", pa.array(signal > 0.5))
