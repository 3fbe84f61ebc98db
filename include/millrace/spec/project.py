"""ProjectTree: a team's tree on disk, found from its root and never from the package's place."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from millrace.core.errors import SpecError
from millrace.spec.bundle import Bundle
from millrace.spec.compute import PROCESS, TIME_LIMIT, Compute, ComputeProfile
from millrace.spec.environment import ApprovalSpec, Environment, PipelineOverlay, Project
from millrace.spec.jobs import CODE_JOBS, POD_JOBS
from millrace.spec.learner import LEARNERS, CustomLearner
from millrace.spec.pipeline import PipelineSpec
from millrace.spec.trainer import TRAINER, check_trainer
from millrace.spec.yaml_file import line_of, load, read_text, read_yaml

NEEDED = "Every pipeline needs it; 'millrace new' writes one"


def find_root(start: Path) -> Path:
    """Return the nearest folder at or above `start` that holds include/project.yaml. Raises SpecError."""
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / "include" / "project.yaml").is_file():
            return folder
    raise SpecError(
        "no project here: include/project.yaml was not found in this folder or above it",
        where=str(start),
        next_step="Go into a project, or make one with 'millrace init DIR'",
    )


@dataclass(frozen=True)
class ProjectTree:
    """Paths of a project, and its files read and validated on demand."""

    root: Path

    @classmethod
    def at(cls, start: Path | str | None = None) -> ProjectTree:
        """The project at or above `start`; default the working directory, then MILLRACE_PROJECT.

        The folder comes first: the variable of a shell stays when one goes into another project.
        """
        if start is not None:
            return cls(find_root(Path(start)))
        try:
            return cls(find_root(Path.cwd()))
        except SpecError:
            if named := os.environ.get("MILLRACE_PROJECT"):
                return cls(find_root(Path(named)))
            raise

    @cached_property
    def project(self) -> Project:
        """include/project.yaml."""
        return load(Project, self.root / "include" / "project.yaml")

    def environment(self, name: str) -> Environment:
        """include/environments/<name>.yaml. Raises SpecError naming those that exist."""
        folder = self.root / "include" / "environments"
        if name not in self.environments():
            raise SpecError("no such environment", where=str(folder), given=name, allowed=self.environments())
        found = load(Environment, folder / f"{name}.yaml")
        if found.name != name:
            path = folder / f"{name}.yaml"
            raise SpecError(
                "the file's name and the environment's differ",
                where=f"{path}:{line_of(path, 'name')}",
                given=found.name,
                allowed=[name],
            )
        return found

    @cached_property
    def compute(self) -> Compute:
        """include/compute.yaml; without the file there is only the profile `process`. Raises SpecError."""
        path = self.root / "include" / "compute.yaml"
        return load(Compute, path) if path.is_file() else Compute(version=1)

    def environments(self) -> list[str]:
        """Names of all environments, sorted."""
        return sorted(p.stem for p in (self.root / "include" / "environments").glob("*.yaml"))

    def pipelines(self) -> list[str]:
        """Names of all pipeline folders, sorted."""
        folder = self.root / "include" / "pipelines"
        if not folder.is_dir():
            return []
        return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "_")))

    def folder(self, pipeline: str) -> Path:
        """Folder of a pipeline. Raises SpecError naming the nearest one."""
        if pipeline not in self.pipelines():
            raise SpecError(
                "no such pipeline",
                where=str(self.root),
                given=pipeline,
                allowed=self.pipelines(),
                next_step=f"Make it with 'millrace new {pipeline}'",
            )
        return self.root / "include" / "pipelines" / pipeline

    def spec(self, pipeline: str) -> PipelineSpec:
        """The pipeline's spec as written. Raises SpecError with file and line."""
        path = self.folder(pipeline) / "pipeline.yaml"
        spec = load(PipelineSpec, path)
        if spec.name != pipeline:
            raise SpecError(
                "the folder's name and the pipeline's differ",
                where=f"{path}:{line_of(path, 'name')}",
                given=spec.name,
                allowed=[pipeline],
            )
        return spec

    def features_file(self, pipeline: str) -> Path:
        """The pipeline's Feast file."""
        return self.root / "feature_repo" / f"{pipeline}.py"

    def suite(self, pipeline: str, name: str) -> dict[str, Any]:
        """A GX suite as the file says it. Raises SpecError."""
        path = self.folder(pipeline) / name
        value = read_yaml(path)
        if not isinstance(value, dict) or not isinstance(value.get("expectations"), list):
            raise SpecError("a suite is a mapping with a list 'expectations'", where=f"{path}:1")
        return value

    def bundle(self, pipeline: str) -> Bundle:
        """All that the folder says, in one digested document; its digest is the spec digest."""
        spec, folder = self.spec(pipeline), self.folder(pipeline)
        suites = {spec.features.gate, *(s.gate for s in spec.sources.values())}
        return Bundle(
            spec=spec.model_dump(mode="json"),
            sql=read_text(folder / "transform.sql", NEEDED),
            suites={name: self.suite(pipeline, name) for name in sorted(suites)},
            features=read_text(self.features_file(pipeline), NEEDED),
            feature_store=read_text(self.root / "feature_repo" / "feature_store.yaml", NEEDED),
            files=self._fitted(spec, folder),
            code={p.name: read_text(p, NEEDED) for p in sorted(folder.glob("*.py"))},
        )

    def _fitted(self, spec: PipelineSpec, folder: Path) -> dict[str, str]:
        """The embedding's file; none before it was fitted."""
        embedding = spec.features.embedding
        if embedding is None or not (folder / embedding.file).is_file():
            return {}
        return {embedding.file: base64.b64encode((folder / embedding.file).read_bytes()).decode()}


@dataclass(frozen=True)
class Placed:
    """A pipeline in an environment: the spec untouched, and what the environment says beside it."""

    tree: ProjectTree
    environment: Environment
    spec: PipelineSpec

    @classmethod
    def of(cls, tree: ProjectTree, environment: str, pipeline: str) -> Placed:
        """Load both. Raises SpecError, also for an overlay of a source the pipeline does not have."""
        spec, env = tree.spec(pipeline), tree.environment(environment)
        overlay = env.pipelines.get(pipeline, PipelineOverlay())
        path = tree.root / "include" / "environments" / f"{environment}.yaml"
        for source, location in overlay.locations.items():
            where = f"{path}:{line_of(path, 'pipelines', pipeline, 'locations', source)}"
            if source not in spec.sources:
                raise SpecError(
                    f"environment '{environment}' places a source that pipeline '{pipeline}' does not have",
                    where=where,
                    given=source,
                    allowed=sorted(spec.sources),
                )
            if problem := spec.location_problem(source, location):
                raise SpecError(problem, where=where, given=location)
        placed = cls(tree, env, spec)
        placed._check_compute(path)
        placed._check_code(path)
        return placed

    def _check_compute(self, path: Path) -> None:
        """Every profile that is asked for exists, and for a job that can run there. Raises SpecError."""
        written = self.tree.folder(self.spec.name) / "pipeline.yaml"
        asked: list[tuple[Path, tuple[str, ...], str]]
        asked = [(written, ("compute",), job) for job in self.spec.compute if job not in self.overlay.compute]
        asked += [(path, ("pipelines", self.spec.name, "compute"), job) for job in self.overlay.compute]
        for file, keys, job in asked:
            name = self.profile(job)
            if name == PROCESS:
                continue
            where = f"{file}:{line_of(file, *keys, job)}"
            if job not in POD_JOBS:
                raise SpecError(f"job '{job}' runs in its task's process; it has no other compute profile",
                                where=where, given=name, allowed=[PROCESS],
                                next_step=f"Jobs that run in pods: {', '.join(POD_JOBS)}")  # fmt: skip
            if name not in self.tree.compute.profiles:
                raise SpecError("include/compute.yaml has no such compute profile", where=where, given=name,
                                allowed=[PROCESS, *sorted(self.tree.compute.profiles)])  # fmt: skip

    def _check_code(self, path: Path) -> None:
        """Custom code is there where the learner is `custom`, and runs only where the environment lets it. Raises
        SpecError; the code is not executed."""
        folder = self.tree.folder(self.spec.name)
        written, trainer = folder / "pipeline.yaml", folder / TRAINER
        learner = self.spec.training.learner if self.spec.training else None
        if not isinstance(learner, CustomLearner):
            if trainer.is_file():
                raise SpecError(f"nothing uses this file: the pipeline's learner is not 'custom' ({written.name}:"
                                f"{line_of(written, 'training', 'learner', 'kind')})", where=f"{trainer}:1",
                                given=learner.kind if learner else "no training", allowed=["custom"],
                                next_step="Set training.learner.kind to custom, or remove the file")  # fmt: skip
            return
        if not trainer.is_file():
            raise SpecError(f"learner 'custom' is the code in {TRAINER}, which is not there",
                            where=f"{written}:{line_of(written, 'training', 'learner', 'kind')}",
                            given="custom", allowed=LEARNERS.kinds(),
                            next_step=f"Write {TRAINER} beside {written.name} (docs/trainer.md)")  # fmt: skip
        check_trainer(read_text(trainer), str(trainer))
        if self.environment.custom_code == PROCESS:
            return
        here = [job for job in CODE_JOBS if self.profile(job) == PROCESS]
        if here:
            keys = next((("pipelines", self.spec.name, "compute", job) for job in here if job in self.overlay.compute),
                        ("custom_code",))  # fmt: skip
            raise SpecError(
                f"environment '{self.environment.name}' runs custom code in pods only, and pipeline "
                f"'{self.spec.name}' ({TRAINER}) has {', '.join(here)} in the task's process",
                where=f"{path}:{line_of(path, *keys)}",
                given=PROCESS,
                allowed=sorted(self.tree.compute.profiles) or "a compute profile of include/compute.yaml",
                next_step=f"Give each a compute profile here (pipelines: {self.spec.name}: compute: ..), or say "
                "'custom_code: process' where all who write pipelines are trusted with all that Airflow may do",
            )

    @property
    def overlay(self) -> PipelineOverlay:
        """The environment's words about this pipeline."""
        return self.environment.pipelines.get(self.spec.name, PipelineOverlay())

    @property
    def approval(self) -> ApprovalSpec:
        """Who approves a promotion here."""
        return self.overlay.approval or self.environment.approval

    @property
    def scheduled(self) -> bool:
        """Whether features run by the clock here."""
        overlay = self.overlay.scheduled
        return self.environment.scheduled if overlay is None else overlay

    def locations(self) -> dict[str, str]:
        """Source -> location pattern, made absolute against the project's root where it is a path."""
        found = {}
        for name, source in self.spec.sources.items():
            location = self.overlay.locations.get(name, source.location)
            found[name] = location if "://" in location else str(self.tree.root / os.path.expandvars(location))
        return found

    def profile(self, job: str) -> str:
        """Name of the ComputeProfile for a job."""
        return self.overlay.compute.get(job) or self.spec.compute.get(job) or PROCESS

    def time_limit(self, job: str) -> int:
        """Seconds that a job may run."""
        return next((limit for name, limit in self.spec.time_limits.items() if name == job), TIME_LIMIT).seconds

    def compute_profile(self, name: str) -> ComputeProfile | None:
        """A profile of include/compute.yaml, None for `process`."""
        if name == PROCESS:
            return None
        return self.tree.compute.profiles[name]
