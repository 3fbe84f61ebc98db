"""What a run did: the jobs that it has done, and what a training of it took up."""

from __future__ import annotations

from sqlalchemy import Connection

from millrace.ledger import chain
from millrace.ledger.events import JobDone, TrainingRun, run_key


def jobs(connection: Connection, pipeline: str, run: str) -> dict[str, JobDone]:
    """Job -> how it ended last in a run, `<dag id>/<run id>`."""
    return {done.job: done for done in chain.states(connection, JobDone, pipeline, f"{run_key(run)}/")}


def training(connection: Connection, pipeline: str, run: str) -> TrainingRun | None:
    """What a run of the training DAG took up last, None where it has not yet."""
    return chain.state(connection, TrainingRun, pipeline, run_key(run))
