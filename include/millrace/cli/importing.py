"""`millrace import`: a model that was trained elsewhere becomes a challenger, by the jobs that a trained one passes.

They run here, one after another, and what came of them is put on record as tasks would put it. The Evidence says that
the model was imported, by whom and which file, and claims no training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace.contract import (
    Artifact,
    Identity,
    Input,
    JobRequest,
    JobResult,
    Means,
    Outcome,
    Place,
    Run,
    Service,
    code_digest,
)
from millrace.core.canonical import digest
from millrace.core.errors import DataError, EvidenceError, MillraceError, NotFound
from millrace.core.settings import Settings
from millrace.ledger import JobDone, JobInput, Ledger, Registered, Source
from millrace.rules.labels import all_known
from millrace.spec import Placed, ProjectTree
from millrace.spec.compute import CUSTOM_CODE, PROCESS
from millrace.spec.jobs import TABLE
from millrace.spec.recipe import Recipe, listed
from millrace.store import Tables, bundles, layout, open_store

Given = tuple[str, Artifact, str | None]
Say = Callable[[str], None]
JOBS = ("build_training_set", "import_model", "evaluate")


@dataclass(frozen=True)
class Brought:
    """What an import came to: `version` is None where it did not pass."""

    version: int | None
    passed: bool


def bring(
    tree: ProjectTree,
    settings: Settings,
    ledger: Ledger,
    pipeline: str,
    file: Path,
    *,
    reason: str,
    by: str,
    card: Path | None,
    until: str | None,
    say: Say,
) -> Brought:
    """Judge a weights file as a trained model is judged, and register it where it passes.

    Raises DataError for a file that is none, or of features that the pipeline does not have; EvidenceError where data
    that it would be judged on has not passed its gate, or Evidence would not be whole.
    """
    if not reason.strip():
        raise MillraceError("an import needs a reason", next_step="Say why, with --reason")
    work = _Import.of(tree, settings, ledger, pipeline, digest([by, digest(file.read_bytes())])[7:19])
    form = file.suffix.removeprefix(".").lower()
    stored = work.keep("file", file)
    beside = [("card", work.keep("card", card), None)] if card else []
    features, gates, parity = work.features(until)
    scope = tuple(str(key) for _, _, key in features)
    assert work.placed.spec.label is not None
    known = all_known(work.placed.spec.partitioning.end(scope[-1]), work.placed.spec.label.known_after)
    data = work.job("build_training_set", scope, features, {"as_of": known.isoformat()}).outputs["data"]
    inputs: list[Given] = [("training_set", data, None), ("file", stored, None), *beside]
    model = work.job("import_model", scope, inputs, {"format": form}).outputs["model"]
    champion = ledger.champion(pipeline)
    inputs = [("training_set", data, None), ("model", model, None)]
    if champion is not None and champion.model_digest != model.digest:
        inputs += [("champion", champion.trained.model, None),
                   ("champion_training_set", champion.trained.training_set, None)]  # fmt: skip
    judged = work.job("evaluate", scope, inputs, {})
    assert judged.verdict is not None
    for check in judged.verdict.checks:
        say(f"{'passed' if check.passed else 'FAILED'}  {check.message}")
    if not judged.verdict.passed:
        return Brought(None, False)
    fought = champion.model_digest if len(inputs) > 2 and champion else None
    for version in ledger.versions(pipeline):
        if version.model.digest == model.digest and version.fought == fought:
            say(f"nothing new: version {version.version} is the same model, judged against the same champion")
            return Brought(version.version, True)
    artifacts = {"model": model, "training_set": data, "evaluation": judged.outputs["evaluation"]}
    duel = judged.facts.get("duel")
    evidence = {
        "evidence_version": 3,
        "pipeline": pipeline,
        **{role: artifact.model_dump(mode="json") for role, artifact in artifacts.items()},
        "evaluation_outcome": work.seen["evaluate"].outcome_digest,
        "evaluation_passed": True,
        "spec_digest": work.spec_digest,
        "code_digest": code_digest(),
        "gates": gates,
        "duel": {**duel, "champion": fought} if duel else None,
        "decision": "imported",
        "reason": f"imported: {reason}",
        "trained_to": scope[-1],
        "partitions": list(scope),
        "feature_service": work.placed.spec.features.service,
        "mlflow_run": work.seen["import_model"].observed.mlflow_run,
        "requester": by,
        "decided": None,
        "parity": parity,
        "training": None,
        "metrics": {name: metric.model_dump(mode="json") for name, metric in judged.metrics.items()},
        "checks": [c.model_dump(mode="json", include={"name", "passed", "message"}) for c in judged.verdict.checks],
        "cost": [_cost(job, work.seen[job]) for job in JOBS],
        "imported": {"file": stored.digest, "format": form, "by": by},
    }
    given: list[Given] = [(role, artifact, None) for role, artifact in artifacts.items()]
    params = {"mlflow_run": evidence["mlflow_run"], "evidence": evidence}
    outcome = work.job("register", scope, given, params)
    registered = Registered(pipeline=pipeline, version=int(outcome.facts["version"]), model=model,
                            evidence=outcome.outputs["evidence"], decision=None, run=work.run, requester=by,
                            fought=fought)  # fmt: skip
    ledger.record(registered)
    return Brought(registered.version, True)


def _cost(job: str, result: JobResult) -> dict[str, Any]:
    seen = result.observed
    return {"job": job, **{name: getattr(seen, name) for name in ("seconds", "cpu_seconds", "peak_memory_mb")}}


@dataclass(frozen=True)
class _Import:
    """One import: where it reads and writes, and what its jobs have left."""

    placed: Placed
    settings: Settings
    ledger: Ledger
    spec_digest: str
    run: str
    seen: dict[str, JobResult]

    @classmethod
    def of(cls, tree: ProjectTree, settings: Settings, ledger: Ledger, pipeline: str, run: str) -> _Import:
        placed = Placed.of(tree, settings.environment, pipeline)
        if placed.spec.training is None:
            raise DataError("a pipeline without training has no models", given=pipeline)
        bundle = tree.bundle(pipeline)
        bundles.keep(open_store(settings.store), bundle)
        # Named by who and which file, not by the clock: what a kill left before it was on record is taken up again.
        return cls(placed, settings, ledger, bundle.digest, f"{pipeline}__import/{run}", {})

    def keep(self, kind: str, path: Path) -> Artifact:
        """A given file in the store, by its digest."""
        data, objects = path.read_bytes(), open_store(self.settings.store)
        key = layout.document("imports", self.placed.spec.name, digest(data), f"{kind}{path.suffix.lower()}")
        if not objects.exists(key):
            objects.put(key, data)
        return Artifact(uri=key, digest=digest(data), kind=kind)

    def features(self, until: str | None) -> tuple[list[Given], list[dict[str, Any]], list[dict[str, Any]]]:
        """The window's published features, the verdicts behind them, and those on online against offline ones."""
        spec, name = self.placed.spec, self.placed.spec.name
        assert spec.training is not None
        tables = Tables(open_store(self.settings.store))
        published = tables.partitions(f"{name}/features")
        if not published or (until and until not in published):
            raise NotFound("no such partition is published" if until else "no partition is published yet",
                           given=until or name, allowed=published)  # fmt: skip
        window = spec.partitioning.window(until or published[-1], spec.training.window)
        found = {key: tables.resolve(f"{name}/features", key) for key in window if key in set(published)}
        recipe = Recipe.of(self.placed.tree.bundle(name))
        if stale := [key for key, current in found.items() if not recipe.takes(current.recipe)]:
            raise DataError(f"{len(stale)} partitions hold features that another recipe made ({listed(stale)})",
                            next_step=f"Make them anew: millrace rebuild {name}")  # fmt: skip
        snapshots = [Source(dataset="features", partition=k, snapshot=c.snapshot) for k, c in found.items()]
        verdicts = self._passed(snapshots)
        raw = list(dict.fromkeys(source for verdict in verdicts for source in verdict.made_of or ()))
        gates = sorted((*verdicts, *self._passed(raw)), key=lambda v: (v.dataset, v.partition, v.snapshot))
        parity = self.ledger.verdicts_on(name, [s.model_copy(update={"dataset": "parity"}) for s in snapshots])
        return (
            [("features", current.artifact, key) for key, current in found.items()],
            [_record(v) for v in gates],
            [_record(v) for v in parity.values()],
        )

    def _passed(self, snapshots: Sequence[Source]) -> list[Any]:
        found = self.ledger.verdicts_on(self.placed.spec.name, snapshots)
        for each in snapshots:
            if each not in found or not found[each].passed:
                raise EvidenceError(f"{each.dataset} of {each.partition} has no passed verdict on record")
        return [found[each] for each in snapshots]

    def job(self, job: str, scope: tuple[str, ...], inputs: Sequence[Given], params: dict[str, Any]) -> Outcome:
        """Run a job here, and put on record how it ended. Raises DataError for one that fails."""
        from millrace.jobs import guard

        spec = self.placed.spec
        assert spec.training is not None
        identity = Identity(
            job=job, params=params, scope=scope, spec_digest=self.spec_digest, code_digest=code_digest(),
            inputs=tuple(Input(role=r, kind=a.kind, digest=a.digest, partition=p) for r, a, p in inputs),
            seed=spec.training.seed, threads=spec.training.threads,
        )  # fmt: skip
        uris = {"mlflow": self.settings.mlflow, "registry": self.settings.feast_registry,
                "online": self.settings.feast_online}  # fmt: skip
        dag, run = self.run.split("/", 1)
        asked = JobRequest(
            identity=identity,
            place=Place(store=self.settings.store, inputs={a.digest: a.uri for _, a, _ in inputs}),
            run=Run(environment=self.settings.environment, pipeline=spec.name, dag_id=dag, run_id=run, task_id=job),
            means=Means(
                services={name: Service(uri=uris[name]) for name in TABLE[job].reaches},
                limits={CUSTOM_CODE: PROCESS} if self.placed.environment.custom_code == PROCESS else {},
            ),
        )
        place = asked.place.model_copy(update={"result": layout.result(spec.name, job, asked.request_digest)})
        asked = asked.model_copy(update={"place": place})
        result = guard.run(asked, fork=False)
        if result.outcome is None:
            raise DataError(f"{job} failed: {result.error.message if result.error else 'it left no result'}")
        self.seen[job] = result
        assert result.outcome_digest is not None
        verdict = result.outcome.verdict
        self.ledger.record(
            JobDone(
                pipeline=spec.name,
                run=self.run,
                job=job,
                request=asked.request_digest,
                outcome=result.outcome_digest,
                scope=scope,
                inputs=tuple(JobInput(role=i.role, digest=i.digest, partition=i.partition) for i in identity.inputs),
                outputs=dict(result.outcome.outputs),
                passed=verdict.passed if verdict else None,
            )
        )
        return result.outcome


def _record(verdict: Any) -> dict[str, Any]:
    left_out = {"pipeline"} if verdict.made_of else {"pipeline", "made_of"}
    return dict(verdict.model_dump(mode="json", exclude=left_out))
