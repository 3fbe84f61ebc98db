"""The deploy job: one document says all that a server needs, and says the same at every run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.feast_project import FEATURE_NAMES, SCHEMA, SPEC, FeastProject, row
from support.learning import FAST

from millrace.contract import Artifact, JobResult
from millrace.jobs.runner import run
from millrace.models.deployment import load_deployment
from millrace.models.files import load

DAY = "2024-01-01"
TRAINING = {"learner": FAST, "window": "P2D", "minimum_rows": 10, "seed": 7}
EVALUATION = {"thresholds": {"log_loss": {"max": 10}}}


class Trips:
    """A project whose newest partition has features, and models that were trained on them."""

    def __init__(self, project: FeastProject) -> None:
        self.project = project
        self.spec(label=project.spec["label"])
        moments = [f"2024-01-{n % 5 + 1:02d} {n % 24:02d}:00" for n in range(300)]
        made = [row(f"v{n}", at, n, speed=n / 3, weight=n % 7, late=n % 5 // 3) for n, at in enumerate(moments)]
        self.table = pa.Table.from_pylist(made, SCHEMA)
        self.features = project.snapshot(DAY, self.table)

    def spec(self, **changes: Any) -> None:
        self.project.spec = {**self.project.spec, "training": TRAINING, "evaluation": EVALUATION,
                             "columns": {"distance": "public", "driver": "personal"}, **changes}  # fmt: skip

    def trained(self, seed: int = 7) -> Artifact:
        keep = ["vehicle", "event_timestamp", *FEATURE_NAMES, "late"]
        data = self.project.snapshot(DAY, self.table.select(keep), publish=False)
        asked = self.project.request("train", "training_set", {DAY: data}, {"learner": {**FAST, "rounds": seed}})
        identity = asked.identity.model_copy(update={"scope": tuple(f"2024-01-{day:02d}" for day in range(1, 6))})
        done = run(asked.model_copy(update={"identity": identity}))
        assert done.outcome is not None, done.error
        return done.outcome.outputs["model"]

    def deploy(self, models: dict[str, Artifact]) -> JobResult:
        versions = {role: number for number, role in enumerate(models, 7)}
        asked = self.project.request("deploy", "features", {DAY: self.features}, {"versions": versions})
        inputs = [*asked.identity.inputs]
        for role, model in models.items():
            inputs.append(inputs[0].model_copy(update={"role": role, "kind": "model", "digest": model.digest,
                                                       "partition": None}))  # fmt: skip
        identity = asked.identity.model_copy(update={"inputs": tuple(inputs)})
        places = {**asked.place.inputs, **{model.digest: model.uri for model in models.values()}}
        place = asked.place.model_copy(update={"inputs": places})
        return run(asked.model_copy(update={"identity": identity, "place": place}))


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("deploy") / "p"
    FeastProject.applied(root)
    return root


@pytest.fixture
def trips(applied: Path, tmp_path: Path) -> Trips:
    shutil.copytree(applied, tmp_path / "p")
    return Trips(FeastProject(tmp_path / "p", dict(SPEC)))


def test_a_deployment_says_what_a_server_needs_of_challenger_and_champion(trips: Trips) -> None:
    models = {"model": trips.trained(5), "champion": trips.trained(9)}

    outcome = trips.deploy(models).outcome

    assert outcome is not None and set(outcome.outputs) == {"model", "champion"}
    for number, (role, model) in enumerate(models.items(), 7):
        made = load_deployment(trips.project.objects, outcome.outputs[role])
        assert (made.pipeline, made.version, made.model) == ("trips", number, model.model_copy(
            update={"media_type": made.model.media_type, "classification": made.model.classification}))  # fmt: skip
        assert made.entity == ("vehicle",) and made.code is False
        assert [f.name for view in made.views for f in view.features] == FEATURE_NAMES
        assert made.views[0].ttl_s == 36 * 3600
        predicted = load(trips.project.objects, model.uri, model.digest).predict(trips.table)
        np.testing.assert_allclose(made.bins, np.quantile(predicted, np.arange(1, 10) / 10))


def test_the_same_request_gives_the_same_bytes(trips: Trips) -> None:
    models = {"model": trips.trained()}
    first = trips.deploy(models)
    (kept,) = first.outcome.outputs.values()
    trips.project.objects.delete(kept.uri)

    again = trips.deploy(models)

    assert again.outcome == first.outcome and again.outcome_digest == first.outcome_digest
    assert load_deployment(trips.project.objects, kept).version == 7


def test_features_that_the_service_lacks_are_refused(trips: Trips) -> None:
    model = trips.trained()
    fewer = trips.project.features.replace('[["speed", "distance", ', '[["distance", ')
    assert fewer != trips.project.features
    trips.project.write("trips", fewer)
    trips.project.apply()

    done = trips.deploy({"model": model})

    assert done.error is not None and "has no feature 'speed', which version 7 takes" in done.error.message


def test_of_a_multiclass_model_the_classes_are_the_bins(trips: Trips) -> None:
    trips.spec(label={**trips.project.spec["label"], "task": "multiclass"})
    late = pa.array([("early", "late", "on time")[n % 3] for n in range(300)])
    trips.table = trips.table.set_column(trips.table.column_names.index("late"), "late", late)

    (kept,) = trips.deploy({"model": trips.trained()}).outcome.outputs.values()

    assert load_deployment(trips.project.objects, kept).bins == ()
