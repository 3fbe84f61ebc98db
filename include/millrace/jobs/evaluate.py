"""evaluate: judge a challenger on held out rows, by the model checks of its pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from millrace.contract import Metric, Outcome, Verdict
from millrace.core.canonical import canonical_json
from millrace.core.errors import ContractError
from millrace.evaluation.checks import Judged, Subject, TrainingSet, judge
from millrace.evaluation.measure import Measured, measure
from millrace.jobs.work import Work
from millrace.mlflow.runs import run_of_model
from millrace.models.files import Model
from millrace.models.metrics import LOSS, Floats
from millrace.models.recency import weights
from millrace.store import layout


class Params(BaseModel):
    """No parameters: the spec's `evaluation` says what is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def run(work: Work, params: Params) -> Outcome:
    """Measure the `model` on the rows of `training_set` that it held out, and pair it there with the `champion`, of
    which `champion_training_set` says what it was trained on.

    A failed verdict is an outcome. Without a champion the Duel is with a constant.
    """
    rules = work.spec.evaluation
    if rules is None:
        raise ContractError(f"pipeline '{work.spec.name}' has no evaluation")
    seed, item = work.request.identity.seed, work.request.input("training_set")
    model = work.model("model")
    champion = work.model("champion") if work.request.inputs("champion") else None
    table = work.read(item)
    measured = measure(model, table, seed=seed)
    judged = judge(rules.asked, _subject(work, model, measured, champion, TrainingSet(item.digest, table)))
    verdict = Verdict(passed=bool(judged.checks) and all(c.passed for c in judged.checks), checks=judged.checks)
    facts: dict[str, Any] = {
        "duel": None,
        **judged.facts,
        "model": model.digest,
        "training_set": item.digest,
        "rows": len(measured.label),
        "champion": champion.digest if champion else None,
    }
    files = {
        name: work.put("evaluations", name, data, Path(name).stem, "application/json")
        for name, data in judged.files.items()
    }
    document = {
        **facts,
        "files": {name: artifact.digest for name, artifact in files.items()},
        "task": model.card.task,
        "classes": list(model.card.classes),
        "loss": LOSS[model.card.task],
        "metrics": {name: metric.model_dump(mode="json") for name, metric in measured.metrics.items()},
        "block": model.card.holdout.block,
        "timezone": model.card.holdout.timezone,
        "blocks": measured.block_sums(),
        "passed": verdict.passed,
        "checks": [check.model_dump(mode="json") for check in judged.checks],
    }
    stored = work.put("evaluations", "evaluation.json", canonical_json(document), "evaluation", "application/json")
    work.notes += judged.notes
    work.times.update(judged.times)
    for name, picture in judged.plots.items():  # its place follows from the request, as it is no part of the outcome
        key = layout.document("reports", work.spec.name, work.request.request_digest, name)
        work.objects.put(key, picture)
        work.links[Path(name).stem] = work.objects.url(key)
    _track(work, model, measured.metrics, verdict, judged)
    outputs = {"evaluation": stored, **{Path(name).stem: artifact for name, artifact in files.items()}}
    return Outcome(outputs=outputs, facts=facts, metrics=measured.metrics, verdict=verdict)


def _subject(
    work: Work, model: Model, measured: Measured, champion: Model | None, training_set: TrainingSet
) -> Subject:
    item = work.request.input("model")
    return Subject(
        model=model,
        measured=measured,
        champion=champion,
        seed=work.request.identity.seed,
        objects=work.objects,
        place=work.request.key(item).rstrip("/") + "/",
        public=lambda column: work.spec.classification(column) == "public",
        means=work.request.means,
        training_set=training_set,
        weight=_weight(work, model, measured),
        champion_training_set=_trained_on(work, champion) if champion else None,
    )


def _weight(work: Work, model: Model, measured: Measured) -> Floats | None:
    """Of each held out row, as the challenger's training weighed its like; None where all counted alike."""
    card = model.card
    if card.half_life is None:
        return None
    return weights(measured.rows[card.event_time], work.spec.partitioning, card.partitions[-1], card.half_life)


def _trained_on(work: Work, champion: Model) -> TrainingSet | None:
    """Keys and event times of the champion's training set, None where the request has none; no rows of another set."""
    import pyarrow as pa

    for item in work.request.inputs("champion_training_set"):
        mine = item.digest == champion.card.training_set
        keys = [*champion.card.entity, champion.card.event_time]
        return TrainingSet(item.digest, work.read(item, keys) if mine else pa.table({}))
    return None


def _track(work: Work, model: Model, metrics: dict[str, Metric], verdict: Verdict, judged: Judged) -> None:
    """Show the metrics, the verdict, times and plots in the MLflow run that made the model."""
    if "mlflow" not in work.request.means.services:
        work.notes.append("No MLflow service was given: this evaluation is not tracked")
        return
    run = run_of_model(work.service("mlflow"), work.spec.name, model.digest)
    if run is None:
        work.notes.append("MLflow has no run of this model: this evaluation is not tracked")
        return
    values = {
        f"evaluation/{name}{suffix}": value
        for name, metric in metrics.items()
        for suffix, value in (("", metric.value), ("_low", metric.low), ("_high", metric.high))
        if value is not None
    }
    run.metrics({**values, **{f"evaluation/{name}": value for name, value in judged.times.items()}})
    if judged.plots:
        run.files(dict(judged.plots), "plots")
    run.tags({"millrace.evaluation": "passed" if verdict.passed else "failed"})
    work.mlflow_run = run.run
    if run.link:
        work.links["mlflow"] = run.link
