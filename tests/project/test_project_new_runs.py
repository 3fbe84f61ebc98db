"""What `millrace new` writes runs: job by job from its sample data to a judged model that scores the next day."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.requests import request

from millrace.contract import Artifact, Outcome
from millrace.core.settings import Settings
from millrace.spec import Placed, ProjectTree

DAYS = 15


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> ProjectTree:
    from millrace.cli import scaffold

    folder = tmp_path_factory.mktemp("new") / "shop"
    scaffold.init(folder)
    tree = ProjectTree(folder)
    scaffold.new(tree, "visits")
    return tree


@pytest.fixture(scope="module")
def job(tree):
    """A function that runs one job of the pipeline and returns its outcome."""
    from millrace.feast_stores.apply import apply
    from millrace.jobs.runner import run
    from millrace.store import bundles, open_store

    settings, bundle = Settings.load(tree.root, {}), tree.bundle("visits")
    bundles.keep(open_store(settings.store), bundle)
    apply(tree, settings)
    services = {"registry": settings.feast_registry, "online": settings.feast_online}
    locations = Placed.of(tree, "dev", "visits").locations()

    def call(name: str, scope: list[str], inputs: list[tuple[str, Artifact, str | None]], **params: object) -> Outcome:
        asked = request(
            name, store=settings.store, spec_digest=bundle.digest, scope=scope, inputs=inputs, params=params, seed=7,
            services=services, locations=locations,
        )  # fmt: skip
        result = run(asked)
        assert result.error is None, f"{name}: {result.error.message}"
        return result.outcome

    return call


def test_from_sample_data_to_a_model(tree, job):
    spec = tree.spec("visits")
    days = list(spec.partitioning.range(spec.partition.start, spec.partition.end))[:DAYS]
    features = {}
    for day in days:
        # When a day is landed, it passes its gate, and so do its features
        raw = job("land", [day], [], source="visits").outputs["data"]
        if day == days[0]:
            gate = job("validate", [day], [("data", raw, day)], suite="suites/visits.yaml", event_time="time")
            assert gate.verdict.passed, gate.verdict.failures
        features[day] = job("transform", [day], [("visits", raw, day)]).outputs["data"]
        if day == days[0]:
            gate = job("validate", [day], [("data", features[day], day)], suite="suites/features.yaml",
                       event_time="event_timestamp")  # fmt: skip
            assert gate.verdict.passed, gate.verdict.failures
    *history, last = days
    # Then the training window makes a model that reaches the thresholds
    as_of = spec.label.known_after.after(spec.partitioning.end(history[-1])).isoformat()
    rows = job("build_training_set", history, [("features", features[d], d) for d in history], as_of=as_of).outputs[
        "data"
    ]
    model = job("train", history, [("training_set", rows, None)], learner=None).outputs["model"]
    judged = job("evaluate", history, [("training_set", rows, None), ("model", model, None)])
    assert judged.verdict.passed, judged.verdict.failures
    assert judged.metrics["roc_auc"].low > 0.5, "there should be something to learn"
    # that scores the next day
    scored = job("score", [last], [("features", features[last], last), ("model", model, None)], version="1")
    assert scored.outputs["data"].rows == features[last].rows == 400
    assert not (Path(tree.root) / ".millrace" / "mlflow.db").exists()
