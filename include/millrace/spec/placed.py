"""Placed: a pipeline where it runs, and whether what an environment says fits what the pipeline is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from millrace.core.errors import SpecError
from millrace.spec.compute import PROCESS, TIME_LIMIT, Compute, ProcessProfile, Profile
from millrace.spec.compute_overlay import overlaid
from millrace.spec.durations import Duration
from millrace.spec.environment import ApprovalSpec, Environment, Part, PipelineOverlay
from millrace.spec.jobs import CODE_JOBS, POD_JOBS
from millrace.spec.learner import LEARNERS, CustomLearner
from millrace.spec.model_checks import CustomCheck
from millrace.spec.pipeline import PipelineSpec
from millrace.spec.project import ProjectTree
from millrace.spec.trainer import TRAINER, check_trainer
from millrace.spec.yaml_file import line_of, read_text


@dataclass(frozen=True)
class Placed:
    """A pipeline in an environment: the spec untouched, and what the environment says beside it."""

    tree: ProjectTree
    environment: Environment
    spec: PipelineSpec

    @classmethod
    def of(cls, tree: ProjectTree, environment: str, pipeline: str, spec: PipelineSpec | None = None) -> Placed:
        """Load both, or the environment where the spec is given. Raises SpecError, also for an overlay of a source
        the pipeline does not have."""
        spec, env = spec or tree.spec(pipeline), tree.environment(environment)
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
        placed._check_custom_checks(path)
        return placed

    def _check_compute(self, path: Path) -> None:
        """Every profile that is asked for exists, and for a job that can run there. Raises SpecError."""
        known = self.tree.compute.profiles
        for name in self.environment.compute.profiles:
            if name not in known:
                raise SpecError("include/compute.yaml has no such compute profile", given=name, allowed=sorted(known),
                                where=f"{path}:{line_of(path, 'compute', 'profiles', name)}")  # fmt: skip
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
            if name not in known:
                raise SpecError("include/compute.yaml has no such compute profile", where=where, given=name,
                                allowed=[PROCESS, *sorted(known)])  # fmt: skip

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
        asked = {
            "probe": self.spec.monitoring is not None and self.spec.monitoring.probes,
            "deploy": self.spec.serving is not None,
        }
        here = [job for job in CODE_JOBS if self.profile(job) == PROCESS and asked.get(job, True)]
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

    def _check_custom_checks(self, path: Path) -> None:
        """Model checks of other packages run only where the environment lets custom code run. Raises SpecError."""
        checks = self.spec.evaluation.checks if self.spec.evaluation else ()
        named = [check.name for check in checks if isinstance(check, CustomCheck)]
        if not named or self.environment.custom_code == PROCESS or self.profile("evaluate") != PROCESS:
            return
        keys: tuple[str, ...] = ("custom_code",)
        if "evaluate" in self.overlay.compute:
            keys = ("pipelines", self.spec.name, "compute", "evaluate")
        raise SpecError(
            f"environment '{self.environment.name}' runs custom code in pods only, and pipeline '{self.spec.name}' has "
            f"the model check '{named[0]}' of another package with evaluate in the task's process",
            where=f"{path}:{line_of(path, *keys)}",
            given=PROCESS,
            allowed=sorted(self.tree.compute.profiles) or "a compute profile of include/compute.yaml",
            next_step="Give evaluate a compute profile, or say 'custom_code: process' where all who write pipelines "
            "are trusted with all that Airflow may do",
        )

    @property
    def overlay(self) -> PipelineOverlay:
        """The environment's words about this pipeline."""
        return self.environment.pipelines.get(self.spec.name, PipelineOverlay())

    @property
    def approval(self) -> ApprovalSpec:
        """Who approves a promotion here."""
        return self.overlay.approval or self.environment.approval

    def deadline(self, part: Part) -> Duration | None:
        """How long after it was queued a run of one of the pipeline's DAGs must be done here; None: no matter."""
        return self.overlay.deadlines.get(part) or self.environment.deadlines.get(part)

    @property
    def scheduled(self) -> bool:
        """Whether features run by the clock here."""
        overlay = self.overlay.scheduled
        return self.environment.scheduled if overlay is None else overlay

    @cached_property
    def compute(self) -> Compute:
        """include/compute.yaml with what the environment says over it."""
        return overlaid(self.tree.compute, self.environment.compute)

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

    def compute_profile(self, name: str) -> Profile:
        """A profile as it is here."""
        return ProcessProfile() if name == PROCESS else self.compute.profiles[name]
