"""Runs of the training DAG by hand: its tasks one after another, each as if its job had done it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from millrace.airflow.runtime.site import Site
from millrace.airflow.tasks import training as tasks
from millrace.contract import Check, Outcome, Verdict
from millrace.ledger import Registered
from support.ledger import artifact
from support.project import DAYS, PIPELINE, features, stored
from support.task import asked, running

FORM = {"reason": "by hand", "until": None, "window": "P28D", "learner": {}, "source": None, "decision": None}
PASSED = Verdict(passed=True, checks=(Check(name="log_loss", passed=True, message="log_loss is 0.5"),))
FAILED = Verdict(passed=False, checks=(Check(name="log_loss", passed=False, message="log_loss is 0.9, above 0.68"),))


def here(site: Site) -> dict[str, str]:
    return {"root": str(site.tree.root), "pipeline": site.name}


def claim(
    site: Site,
    run_id: str = "manual__1",
    run_type: str = "manual",
    user: str | None = None,
    run_after: datetime | None = None,
    **form: Any,
) -> dict[str, Any]:
    """Take up a run, started with this form; `run_after`: when it was asked for, just now if left out."""
    with at("claim", run_id, run_type=run_type, params=FORM | form, user=user, run_after=run_after):
        return tasks.claim(**here(site))


def at(task_id: str, run_id: str = "manual__1", **more: Any) -> Any:
    """Be in a task of a run of the training DAG."""
    return running(f"{PIPELINE}__training", task_id, run_id=run_id, **more)


def joined(site: Site) -> Any:
    """The run's training set, as if its job had made it."""
    data = features(site, DAYS[0], dataset="training_set")
    with at("training_set"):
        asked(tasks.training_set, **here(site)).answered(Outcome(outputs={"data": data}))
    return data


def trained(site: Site, model: Any) -> None:
    """The run's model, as if its job had trained it."""
    with at("train"):
        asked(tasks.train, **here(site)).answered(Outcome(outputs={"model": model}), mlflow_run="r")


def again(site: Site, model: Any, decision: str | None) -> None:
    """A run that trained and judged a model well."""
    claim(site, decision=decision), joined(site), trained(site, model)
    with at("evaluate"):
        outcome = Outcome(outputs={"evaluation": stored(site, "evaluation", "judged")}, verdict=PASSED)
        asked(tasks.evaluate, **here(site)).answered(outcome)


def version(number: int, decision: str | None) -> Registered:
    """A registered version."""
    return Registered(
        pipeline=PIPELINE, version=number, model=artifact("model", number), evidence=artifact("evidence", number),
        decision=decision,
    )  # fmt: skip
