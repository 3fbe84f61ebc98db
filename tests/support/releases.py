"""A project whose versions are registered with complete Evidence, for the tasks of the release DAG."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import approval as waiting
from millrace.airflow.tasks import release as tasks
from millrace.airflow.tasks.approval import ReleaseApproval
from millrace.contract import Artifact
from millrace.core.canonical import canonical_json, digest
from millrace.ledger import Champion, Registered, Source
from millrace.rules.evidence import Evidence
from millrace.store import bundles, layout
from support.ledger import verdict
from support.project import DAYS, PIPELINE, features, stored
from support.provenance import PROVENANCE
from support.task import running

CODE = "sha256:" + "c" * 64


class House:
    """A project whose versions are registered with complete Evidence; the MLflow alias is kept in a list."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Site.at.cache_clear()
        self.site = Site.at(str(root), PIPELINE)
        self.here = {"root": str(root), "pipeline": PIPELINE}
        self.alias: list[int] = []
        self.withdrawn: list[int] = []
        monkeypatch.setattr(tasks, "crown", lambda site, version, model: self.alias.append(version))
        monkeypatch.setattr(waiting, "withdraw", lambda site, version: self.withdrawn.append(version))

    @property
    def ledger(self) -> Any:
        return self.site.ledger

    def evidence(self, version: int, **changes: Any) -> Evidence:
        champion = self.ledger.champion(PIPELINE)
        duel = {"difference": -0.1, "champion": champion.model_digest} if champion else None
        passed = verdict(version, pipeline=PIPELINE, partition=DAYS[0])
        self.ledger.record(passed)
        gate = passed.model_dump(exclude={"pipeline", "made_of"})
        return Evidence.read(
            {
                "evidence_version": 3,
                **PROVENANCE,
                "pipeline": PIPELINE,
                "model": stored(self.site, "model", f"model {version}").model_dump(),
                "training_set": stored(self.site, "snapshot", f"data {version}").model_dump(),
                "evaluation": stored(self.site, "evaluation", judged(version, duel)).model_dump(),
                "evaluation_outcome": CODE, "evaluation_passed": True, "spec_digest": CODE, "code_digest": CODE,
                "gates": [gate], "duel": duel, "decision": "manual", "reason": "drift", "trained_to": DAYS[0],
                "partitions": [DAYS[0]], "feature_service": "s", "mlflow_run": "r", **changes,
            }
        )  # fmt: skip

    def register(self, version: int, requester: str | None = None, **changes: Any) -> Evidence:
        """What the training DAG leaves of a challenger: stored Evidence, and the entry in the ledger."""
        evidence = self.evidence(version, **changes)
        key = f"evidence/{PIPELINE}/{evidence.digest.removeprefix('sha256:')}/evidence.json"
        self.site.objects.put(key, canonical_json(evidence))
        stored_as = Artifact(uri=key, digest=evidence.digest, kind="evidence")
        self.ledger.record(
            Registered(
                pipeline=PIPELINE, version=version, model=evidence.model, evidence=stored_as, decision=None,
                requester=requester,
            )
        )  # fmt: skip
        return evidence

    def whole(self, version: int, **changes: Any) -> Evidence:
        """A registered version of which everything that its Evidence names lies in the store, by its digest."""
        site = self.site
        weights = f"weights {version}".encode()
        card = canonical_json({"number": version, "weights": {"file": "model.ubj", "digest": digest(weights)}})
        model = Artifact(uri=layout.model(PIPELINE, digest(card)), digest=digest(card), kind="model")
        site.objects.put(model.uri + "model.ubj", weights)
        site.objects.put(model.uri + "model.json", card)
        data = features(site, DAYS[0])
        raw = features(site, DAYS[0], rows=2, dataset="raw.visits")
        source = Source(dataset="raw.visits", partition=DAYS[0], snapshot=raw.digest)
        passed = [
            verdict(1, pipeline=PIPELINE, dataset="raw.visits", partition=DAYS[0], snapshot=raw.digest),
            verdict(2, pipeline=PIPELINE, partition=DAYS[0], snapshot=data.digest, made_of=(source,)),
        ]
        parity = verdict(3, pipeline=PIPELINE, dataset="parity", partition=DAYS[0], snapshot=data.digest)
        for each in (*passed, parity):
            self.ledger.record(each)
        bundles.keep(site.objects, site.bundle)
        champion = self.ledger.champion(PIPELINE)
        duel = {"difference": -0.1, "champion": champion.model_digest} if champion else None
        evaluation = canonical_json({"passed": True, "model": model.digest, **json.loads(judged(version, duel))})
        return self.register(
            version,
            model=model.model_dump(),
            training_set=features(site, DAYS[0], dataset="training_set").model_dump(),
            evaluation=stored(site, "evaluation", evaluation.decode()).model_dump(),
            spec_digest=site.bundle.digest,
            gates=[each.model_dump(mode="json", exclude={"pipeline"}) for each in passed],
            parity=[parity.model_dump(mode="json", exclude={"pipeline", "made_of"})],
            **changes,
        )

    def task(
        self, function: Any, version: Any, run_id: str = "", xcoms: Any = None, user: str | None = None, **params: Any
    ) -> Any:
        form = {"version": str(version) if version else None, "evidence": None, "reason": None, **params}
        name = run_id or f"release__v{version}"
        with running(f"{PIPELINE}__release", run_id=name, params=form, xcoms=xcoms, user=user):
            return function(**self.here)

    def open(self, version: Any, **more: Any) -> str:
        return self.task(tasks.open_release, version, **more)

    def promote(self, version: Any, **more: Any) -> dict[str, Any]:
        return self.task(tasks.promote, version, **more)

    def approve(self, version: int, event: Any = None, run_id: str = "", **more: Any) -> Any:
        """Run the waiting task, or wake it with an event."""
        task = ReleaseApproval(task_id="approve", **self.here)
        with running(f"{PIPELINE}__release", "approve", run_id=run_id or f"release__v{version}", **more) as context:
            context["ti"].id = "x"
            context["task"] = task
            return task.execute(context) if event is None else task.execute_complete(context, event)

    def answer(self, version: int, approved: bool = True, run_id: str = "", by: str = "ann") -> Any:
        return self.approve(version, said(approved, by), run_id)

    def release(self, version: int, **more: Any) -> dict[str, Any]:
        self.open(version, **more)
        return self.promote(version, **more)

    def champion(self) -> int | None:
        champion: Champion | None = self.ledger.champion(PIPELINE)
        return champion.version if champion else None

    def states(self) -> dict[int, str]:
        newest = {e.subject: e.event for e in self.ledger.entries(PIPELINE, "approval")}
        return {r.version: r.state for r in newest.values()}


def judged(version: int, duel: Any) -> str:
    """An evaluation document."""
    metric = {"value": 0.5 - version / 100, "low": 0.4, "high": 0.6, "rows": 90}
    checks = [{"name": "log_loss", "passed": True, "message": f"log_loss of version {version} is fine"}]
    return canonical_json({"metrics": {"log_loss": metric}, "checks": checks, "duel": duel}).decode()


def said(approved: bool = True, by: str | None = "ann") -> dict[str, Any]:
    """What Airflow resumes a waiting task with: a person's answer, or without one the end of a slice."""
    return {
        "chosen_options": ["Approve" if approved else "Reject"],
        "params_input": {},
        "responded_at": datetime.now(UTC),
        "responded_by_user": {"id": f"{by}-id", "name": by} if by else None,
        "timedout": by is None,
    }


SLICE = said(approved=False, by=None)
