"""A store with models in it, and a real MLflow that has their runs."""

from __future__ import annotations

import multiprocessing
from typing import Any

from millrace.contract import Artifact, JobRequest, JobResult
from millrace.core.canonical import canonical_json, digest
from millrace.jobs.runner import run
from millrace.mlflow.registry import alias_versions
from millrace.mlflow.runs import connect
from support.learning import CODE, PARTITIONS, World
from support.provenance import PROVENANCE

PIPELINE = "flights"
OTHER = {"uri": "snapshots/x/", "digest": CODE, "kind": "snapshot"}
ELSEWHERE = {"uri": "snapshots/y/", "digest": digest("data 1"), "kind": "snapshot"}
FORK = multiprocessing.get_context("fork")


class Registry(World):
    """A store with models in it, and an MLflow that has their runs; models are small documents without weights."""

    @property
    def client(self) -> Any:
        return connect(self.mlflow)

    def model(self, number: int = 1, passed: bool = True) -> tuple[dict[str, Artifact], str]:
        """A model, its training set and evaluation, and the MLflow run that holds its files."""
        card = canonical_json({"pipeline": PIPELINE, "number": number})
        name = digest(card)
        prefix = f"models/{PIPELINE}/{name.removeprefix('sha256:')}/"
        self.objects.put(prefix + "model.json", card)
        judged = canonical_json({"model": name, "passed": passed})
        key = f"evaluations/{PIPELINE}/{digest(judged).removeprefix('sha256:')}/evaluation.json"
        self.objects.put(key, judged)
        client = self.client
        found = client.get_experiment_by_name(PIPELINE)
        place = (self.root / "mlflow").as_uri()
        experiment = found.experiment_id if found else client.create_experiment(PIPELINE, artifact_location=place)
        run_id = client.create_run(experiment).info.run_id
        client.log_text(run_id, card.decode(), "model/model.json")
        inputs = {
            "model": Artifact(uri=prefix, digest=name, kind="model"),
            "training_set": Artifact(uri="snapshots/x/", digest=digest(f"data {number}"), kind="snapshot"),
            "evaluation": Artifact(uri=key, digest=digest(judged), kind="evaluation"),
        }
        return inputs, run_id

    def evidence(self, inputs: dict[str, Artifact], run_id: str, **changes: Any) -> dict[str, Any]:
        gates = [
            {"dataset": "features", "partition": p, "snapshot": CODE, "outcome": CODE, "passed": True}
            for p in PARTITIONS
        ]
        return {
            "evidence_version": 3, **PROVENANCE, "pipeline": PIPELINE, "evaluation_outcome": CODE,
            **{role: artifact.model_dump(mode="json") for role, artifact in inputs.items()},
            "evaluation_passed": True, "spec_digest": self.bundle.digest, "code_digest": CODE, "gates": gates,
            "duel": None, "decision": "manual", "reason": "by hand", "trained_to": PARTITIONS[-1],
            "partitions": list(PARTITIONS), "feature_service": "flights_v1", "mlflow_run": run_id, **changes,
        }  # fmt: skip

    def registration(self, number: int = 1, passed: bool = True, **changes: Any) -> JobRequest:
        inputs, run_id = self.model(number, passed)
        params = {"mlflow_run": run_id, "evidence": self.evidence(inputs, run_id, **changes)}
        return self.request("register", inputs, params)

    def registered(self, number: int = 1) -> int:
        result = run(self.registration(number))
        assert result.outcome is not None, result.error
        return int(result.outcome.facts["version"])

    def promote(self, version: int, model: int) -> JobResult:
        name = digest(canonical_json({"pipeline": PIPELINE, "number": model}))
        return self.run("promote", {}, {"version": version, "model_digest": name}, scope=())

    def aliases(self) -> dict[str, int]:
        return alias_versions(self.client, PIPELINE)


def error(result: JobResult) -> tuple[str, str]:
    """Type and message of a job's error."""
    assert result.error is not None, result.outcome
    return result.error.type, result.error.message
