"""Tracking: one MLflow run per attempt at a training, found again by its tags when the same attempt starts twice."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millrace.contract import JobRequest
from millrace.core import interruption
from millrace.core.errors import MillraceError, Unavailable

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from millrace.models.metrics import Point

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # nothing calls home
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # minutes of silent retries otherwise; the orchestrator retries too
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # the result has the link
}
_BATCH = 1000  # most metrics that MLflow takes at once
_REFUSED = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "PERMISSION_DENIED", "UNAUTHENTICATED", "BAD_REQUEST")


@dataclass
class Tracked:
    """A run that is being written."""

    client: MlflowClient
    uri: str
    experiment: str
    run: str
    started: int

    @property
    def link(self) -> str | None:
        """Address of the run in MLflow's UI, None where the service is a database and not a server."""
        if not self.uri.startswith(("http://", "https://")):
            return None
        return f"{shown(self.uri).rstrip('/')}/#/experiments/{self.experiment}/runs/{self.run}"

    def points(self, curve: list[Point]) -> None:
        """Log points of the learning curve. Times follow the step, so that logging a point twice changes nothing."""
        metrics = [
            (f"curve/{side}", value, self.started + step, step)
            for step, values in curve
            for side, value in values.items()
        ]
        self._metrics(metrics)

    def metrics(self, values: dict[str, float]) -> None:
        """Log final numbers."""
        self._metrics([(name, value, self.started, 0) for name, value in values.items()])

    def params(self, values: dict[str, Any]) -> None:
        """Log parameters."""
        from mlflow.entities import Param

        with reaching(self.uri):
            self.client.log_batch(self.run, params=[Param(k, str(v)[:6000]) for k, v in values.items()])

    def tags(self, values: dict[str, str | None]) -> None:
        """Set tags; those without a value are left out."""
        from mlflow.entities import RunTag

        with reaching(self.uri):
            self.client.log_batch(self.run, tags=[RunTag(k, v) for k, v in values.items() if v])

    def dataset(self, name: str, digest: str, address: str, columns: dict[str, str]) -> None:
        """Log the training set as an input: name, digest (its first 36 digits, all that MLflow keeps) and columns."""
        from mlflow.data.dataset_source_registry import resolve_dataset_source
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, InputTag

        with reaching(self.uri), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a local path has two spellings of one and the same source
            dataset = MetaDataset(resolve_dataset_source(address), name, _hex(digest)[:36], _schema(columns))
            tags = [InputTag("mlflow.data.context", "training")]
            self.client.log_inputs(self.run, [DatasetInput(dataset._to_mlflow_entity(), tags)])

    def files(self, files: dict[str, bytes], folder: str) -> None:
        """Store files below a folder of the run's artifacts, as they are."""
        with tempfile.TemporaryDirectory(prefix="millrace-") as place, reaching(self.uri):
            for name, data in files.items():
                Path(place, name).write_bytes(data)
            self.client.log_artifacts(self.run, place, folder)

    def end(self, status: str) -> None:
        """Close the run as FINISHED, FAILED or KILLED."""
        with reaching(self.uri):
            self.client.set_terminated(self.run, status)

    def _metrics(self, values: list[tuple[str, float, int, int]]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(name, value, moment, step) for name, value, moment, step in values]
        with reaching(self.uri):
            for first in range(0, len(metrics), _BATCH):
                self.client.log_batch(self.run, metrics=metrics[first : first + _BATCH])


@contextmanager
def tracked(
    uri: str, request: JobRequest, *, experiment: str, name: str, tags: dict[str, str | None], resumed: bool = False
) -> Iterator[Tracked]:
    """One attempt's run in the experiment (named like the pipeline): FINISHED at the end of the block, FAILED on error,
    KILLED where the process was asked to leave.

    The run of the same try is found and continued, and that of an earlier try where the training is `resumed` from a
    checkpoint; other runs that killed tries left open are closed. Raises Unavailable when MLflow does not answer.
    """
    client = connect(uri)
    run = request.run
    with reaching(uri):
        number = _experiment(client, uri, experiment)
        attempt = "/".join((run.dag_id, run.run_id, run.task_id))
        tags = {"millrace.request_digest": request.request_digest, "millrace.attempt": attempt, **tags}
        same = " and ".join(
            f"tags.`{k}` = '{_quoted(tags[k])}'" for k in ("millrace.request_digest", "millrace.attempt")
        )
        # newest first, which is MLflow's own order
        earlier = list(client.search_runs([number], same, max_results=100))
        mine = next((r for r in earlier if r.data.tags.get("millrace.try") == str(run.try_number)), None)
        if mine is None and resumed and earlier:
            mine = earlier[0]
        for other in earlier:
            if other is not mine and other.info.status == "RUNNING":
                client.set_terminated(other.info.run_id, "KILLED")
        if mine is None:
            given = {**tags, "millrace.try": str(run.try_number)}
            mine = client.create_run(number, tags={k: v for k, v in given.items() if v}, run_name=name)
        else:
            client.update_run(mine.info.run_id, status="RUNNING")
            client.set_tag(mine.info.run_id, "millrace.try", str(run.try_number))
    found = Tracked(client, uri, number, mine.info.run_id, mine.info.start_time)
    try:
        yield found
    except BaseException as err:
        try:
            found.end("KILLED" if isinstance(err, interruption.Interrupted | interruption.Left) else "FAILED")
        except MillraceError:
            pass  # the error that ended the training is the one to tell
        raise
    found.end("FINISHED")


def run_of_id(uri: str, run: str) -> Tracked:
    """A run by its id. Raises MillraceError where there is none."""
    client = connect(uri)
    with reaching(uri):
        info = client.get_run(run).info
    return Tracked(client, uri, info.experiment_id, run, info.start_time)


def run_of_model(uri: str, pipeline: str, model: str) -> Tracked | None:
    """The newest run that made a model, None when there is none."""
    client = connect(uri)
    with reaching(uri):
        experiment = client.get_experiment_by_name(pipeline)
        if experiment is None:
            return None
        wanted = f"tags.`millrace.model_digest` = '{_quoted(model)}'"
        runs = client.search_runs([experiment.experiment_id], wanted, max_results=1)
    if not runs:
        return None
    return Tracked(client, uri, experiment.experiment_id, runs[0].info.run_id, runs[0].info.start_time)


def connect(uri: str) -> MlflowClient:
    """A client of a tracking server or database; telemetry off."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _without_feast()
    with reaching(uri):
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _without_feast() -> None:
    """Load MLflow's providers of request headers, but for Feast's: ADR 0020.

    Feast registers one for its own server. To load it MLflow imports all of Feast and, through it, torch: in a process
    of its own more than a small training takes.
    """
    if "mlflow.tracking.request_header.registry" in sys.modules:
        return
    from mlflow.utils import plugins

    found = plugins.get_entry_points
    plugins.get_entry_points = lambda group: [each for each in found(group) if not each.value.startswith("feast.")]
    try:
        importlib.import_module("mlflow.tracking.request_header.registry")
    finally:
        plugins.get_entry_points = found


@contextmanager
def reaching(uri: str) -> Iterator[None]:
    """Turn MLflow's errors into Unavailable, or into MillraceError where trying again cannot help."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as err:
        if err.error_code in _REFUSED:
            raise MillraceError(f"MLflow refused: {shown(str(err))[:300]}", where=shown(uri)) from err
        raise Unavailable(f"MLflow did not answer ({type(err).__name__}, {err.error_code})", where=shown(uri)) from err
    except (OSError, SQLAlchemyError) as err:
        raise Unavailable(f"MLflow did not answer ({type(err).__name__})", where=shown(uri)) from err


def shown(text: str) -> str:
    """The text without passwords in addresses."""
    return re.sub(r"(\w://)[^/@\s]+@", r"\1***@", text)


@cache
def lock_digest() -> str:
    """Digest of the packages installed here, `name==version` a line, sorted: what a lock file pins, as it is."""
    names = sorted({f"{d.name.lower().replace('_', '-')}=={d.version}" for d in distributions() if d.name})
    return "sha256:" + hashlib.sha256("\n".join(names).encode()).hexdigest()


def _experiment(client: MlflowClient, uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    place = None
    if uri.startswith("sqlite:///"):  # MLflow's own default is ./mlruns of whoever asks first
        place = (Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlflow" / name).as_uri()
    try:
        return str(client.create_experiment(name, artifact_location=place))
    except MlflowException:
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)  # somebody else was faster


def _schema(columns: dict[str, str]) -> Any:
    from mlflow.types import ColSpec, Schema

    return Schema([ColSpec(_data_type(kind), name) for name, kind in columns.items()])


def _data_type(kind: str) -> str:
    """MLflow's name of an Arrow type."""
    if kind == "bool":
        return "boolean"
    if kind.startswith(("int", "uint")):
        return "long"
    if kind.startswith(("timestamp", "date")):
        return "datetime"
    if kind in ("float", "halffloat"):
        return "float"
    return "double" if kind == "double" or kind.startswith("decimal") else "string"


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _quoted(value: str | None) -> str:
    return (value or "").replace("'", "")
