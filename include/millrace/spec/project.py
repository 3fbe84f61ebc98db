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
from millrace.spec.compute import Compute
from millrace.spec.environment import Environment, Project
from millrace.spec.pipeline import PipelineSpec
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
        path = folder / f"{name}.yaml"
        environment = load(Environment, path)
        _check_name(path, environment.name, name, "the file's name and the environment's differ")
        return environment

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
        _check_name(path, spec.name, pipeline, "the folder's name and the pipeline's differ")
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


def _check_name(path: Path, given: str, name: str, message: str) -> None:
    """Raise SpecError where a file says another name than that of its place."""
    if given != name:
        raise SpecError(message, where=f"{path}:{line_of(path, 'name')}", given=given, allowed=[name])
