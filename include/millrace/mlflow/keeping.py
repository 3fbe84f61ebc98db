"""Runs behind versions in MLflow: those that must stay are found where somebody deleted them, others go for good.

`mlflow gc` removes every run and experiment in the state `deleted`, with its artifacts, whatever version rests on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Endangered:
    """A run that a kept version rests on, and that is gone or would go with the next `mlflow gc`."""

    version: int
    run: str
    how: Literal["run deleted", "experiment deleted", "gone"]

    def __str__(self) -> str:
        what = {
            "run deleted": "is deleted, and 'mlflow gc' would remove it for good",
            "experiment deleted": "is of a deleted experiment, and 'mlflow gc' would remove it for good",
            "gone": "is gone for good; the store and the Evidence still have the model",
        }
        return f"run {self.run} of version {self.version} {what[self.how]}"


def endangered(client: MlflowClient, runs: Mapping[int, str]) -> list[Endangered]:
    """Which of these runs, by version, must not be as they are."""
    return list(_look(client, runs))


def restore(client: MlflowClient, found: list[Endangered]) -> None:
    """Take them back from `deleted`; what is gone stays so."""
    for each in found:
        if each.how == "experiment deleted":
            client.restore_experiment(client.get_run(each.run).info.experiment_id)
            if client.get_run(each.run).info.lifecycle_stage == "deleted":  # they were deleted together
                client.restore_run(each.run)
        elif each.how == "run deleted":
            client.restore_run(each.run)


def forget(client: MlflowClient, name: str, version: int, run: str | None, keep: set[str]) -> bool:
    """Delete a registered version and its run; whether there was anything to delete. `mlflow gc` removes the run for
    good. A run that a kept version rests on, too, stays."""
    from mlflow.exceptions import MlflowException

    did = False
    try:
        client.delete_model_version(name, str(version))
        did = True
    except MlflowException as err:
        if err.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    if run is not None and run not in keep and _stage(client, run) == "active":
        client.delete_run(run)
        did = True
    return did


def _look(client: MlflowClient, runs: Mapping[int, str]) -> Iterator[Endangered]:
    for version, run in sorted(runs.items()):
        stage = _stage(client, run)
        if stage is None:
            yield Endangered(version, run, "gone")
        elif client.get_experiment(client.get_run(run).info.experiment_id).lifecycle_stage == "deleted":
            yield Endangered(version, run, "experiment deleted")
        elif stage == "deleted":
            yield Endangered(version, run, "run deleted")


def _stage(client: MlflowClient, run: str) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_run(run).info.lifecycle_stage)
    except MlflowException as err:
        if err.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
