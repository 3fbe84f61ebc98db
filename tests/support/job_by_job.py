"""A pipeline's jobs, one after another, in a store of its own: what its DAGs do, without Airflow."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from millrace.contract import Artifact, JobResult, Outcome
from millrace.core.settings import Settings
from millrace.spec import Placed, ProjectTree
from support.requests import Given, digest_of, request

ROOT = Path(__file__).resolve().parents[2]
CODE = digest_of("0")


def project(root: Path, *pipelines: str) -> ProjectTree:
    """A copy of the reference project with these pipelines only."""
    shutil.copytree(ROOT / "include" / "environments", root / "include" / "environments")
    shutil.copy(ROOT / "include" / "project.yaml", root / "include")
    for name in pipelines:
        shutil.copytree(ROOT / "include" / "pipelines" / name, root / "include" / "pipelines" / name)
        for folder in ("feature_repo", "dags"):
            (root / folder).mkdir(exist_ok=True)
            shutil.copy(ROOT / folder / f"{name}.py", root / folder)
    shutil.copy(ROOT / "feature_repo" / "feature_store.yaml", root / "feature_repo")
    return ProjectTree(root)


@dataclass
class JobByJob:
    """One pipeline of a project."""

    tree: ProjectTree
    name: str
    mlflow: str | None = None
    published: dict[str, Artifact] = field(default_factory=dict)
    """Partition -> features."""
    means: dict[str, Any] = field(default_factory=dict)
    """Of requests: profile, limits."""

    def __post_init__(self) -> None:
        from millrace.store import SnapshotStore, open_store

        self.settings = Settings.load(self.tree.root, {})
        self.objects = open_store(self.settings.store)
        self.snapshots = SnapshotStore(self.objects)
        self.reload()

    def reload(self) -> None:
        """Take the pipeline's folder as it is now."""
        from millrace.store import bundles

        self.spec, self.bundle = self.tree.spec(self.name), self.tree.bundle(self.name)
        bundles.keep(self.objects, self.bundle)

    @property
    def incoming(self) -> Path:
        return self.tree.root / ".millrace" / "incoming"

    @property
    def source(self) -> str:
        (name,) = self.spec.sources
        return name

    def result(self, job: str, scope: list[str], inputs: list[Given], **params: Any) -> JobResult:
        from millrace.jobs.runner import run

        training = self.spec.training
        services = {"registry": self.settings.feast_registry, "online": self.settings.feast_online}
        if self.mlflow:
            services["mlflow"] = self.mlflow
        asked = request(
            job, store=self.settings.store, spec_digest=self.bundle.digest, code=CODE, scope=scope, inputs=inputs,
            params=params, seed=training.seed, threads=training.threads, services=services,
            locations=Placed.of(self.tree, "dev", self.name).locations(), **self.means,
        )  # fmt: skip
        return run(asked)

    def job(self, job: str, scope: list[str], inputs: list[Given], **params: Any) -> Outcome:
        result = self.result(job, scope, inputs, **params)
        assert result.error is None, f"{job}: {result.error.message}"
        assert result.outcome is not None
        return result.outcome

    def land(self, key: str) -> Artifact:
        return self.job("land", [key], [], source=self.source).outputs["data"]

    def gate(self, key: str, data: Artifact, dataset: str) -> list[str]:
        """Failed checks with examples, one a line, with the published partitions before this one beside it."""
        raw = dataset.startswith("raw.")
        known = self.spec.sources[self.source]
        suite, event_time = (
            (known.gate, known.event_time) if raw else (self.spec.features.gate, self.spec.features.event_time)
        )
        before = []
        for other in self.tables.partitions(f"{self.name}/{dataset}"):
            if other < key:
                moved = self.tables.resolve(f"{self.name}/{dataset}", other)
                before.append(("trailing", self.snapshots.artifact(self.name, dataset, moved.snapshot), other))
        found = self.job("validate", [key], [("data", data, key), *before], suite=suite, event_time=event_time)
        assert found.verdict is not None
        return [" ".join([check.message, *check.examples]) for check in found.verdict.failures]

    @property
    def tables(self) -> Any:
        from millrace.store import Tables

        return Tables(self.objects)

    def take(self, key: str) -> Artifact:
        """land, gate, publish raw."""
        raw = self.land(key)
        assert not (failed := self.gate(key, raw, f"raw.{self.source}")), failed
        self.tables.move(f"{self.name}/raw.{self.source}", key, raw)
        return raw

    def features(self, key: str, raw: Artifact | None = None) -> Artifact:
        """take, transform, gate, publish."""
        raw = raw or self.take(key)
        made = self.job("transform", [key], [(self.source, raw, key)]).outputs["data"]
        assert not (failed := self.gate(key, made, "features")), failed
        self.tables.move(f"{self.name}/features", key, made)
        self.published[key] = made
        return made

    def training_set(self, keys: list[str]) -> Outcome:
        assert self.spec.label is not None
        as_of = self.spec.label.known_after.after(self.spec.partitioning.end(keys[-1])).isoformat()
        return self.job("build_training_set", keys, [("features", self.published[k], k) for k in keys], as_of=as_of)

    def read(self, artifact: Artifact) -> Any:
        return self.snapshots.read(artifact.uri, artifact.digest)
