"""The tasks of the DAGs of a new project, one after another in contexts of their own, with all that they really do:
data through the gates, a training, a registration in MLflow, a promotion. Only Airflow is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from millrace.airflow.runtime.run import JobTask, in_process
from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import features, landing, online, registration, release, training
from millrace.cli.scaffold import init, new
from millrace.core.settings import Settings
from millrace.feast_stores.apply import apply
from millrace.mlflow.registry import ensure_database
from millrace.spec import ProjectTree
from support.project import PIPELINE
from support.task import running
from support.trainings import FORM


class Whole:
    """A project, and runs of its DAGs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.here = {"root": str(root), "pipeline": PIPELINE}

    @classmethod
    def made(cls, root: Path) -> Whole:
        """A new project with sample data."""
        init(root)
        tree = ProjectTree(root)
        new(tree, PIPELINE)
        settings = Settings.load(root)
        apply(tree, settings)
        ensure_database(settings.mlflow)
        return cls(root)

    @property
    def site(self) -> Site:
        return Site.at(str(self.root), PIPELINE)

    def _task(
        self, dag: str, run_id: str, task: Any, key: str | None = None, form: Any = None, **arguments: Any
    ) -> Any:
        function = in_process(task) if isinstance(task, JobTask) else task
        with running(f"{PIPELINE}__{dag}", "task", run_id=run_id, partition_key=key, params=form, user="ann"):
            return function(**arguments, **self.here)

    def features(self, day: str) -> None:
        """A run of the features DAG without scoring."""
        run = ("features", f"run__{day}")
        landed = {name: self._task(*run, landing.land, day, source=name) for name in self.site.spec.sources}
        gated = self._task(*run, features.gate_raw, day, landed=landed)
        self._task(*run, features.transform, day, sources=gated)
        for task in (features.gate_features, features.publish, online.materialize):
            self._task(*run, task, day)

    def training(self, run_id: str = "manual__1", **form: Any) -> int:
        """A run of the training DAG; the version that it registers."""
        given = FORM | form
        for task in (training.claim, training.training_set, training.train, training.evaluate):
            self._task("training", run_id, task, form=given)
        return int(self._task("training", run_id, registration.register, form=given)["version"])

    def release(self, version: int, reason: str = "") -> dict[str, Any]:
        """A run of the release DAG where the environment approves."""
        form = {"version": str(version), "evidence": None, "reason": reason}
        self._task("release", f"release__v{version}", release.open_release, form=form)
        return dict(self._task("release", f"release__v{version}", release.promote, form=form))
