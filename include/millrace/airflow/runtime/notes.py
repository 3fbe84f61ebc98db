"""Why a run ended as it did, in one line, as the note of the run: in Airflow's UI beside its state.

A task has no way to write it; the scheduler does when the run ends, from what its tasks left. Nothing is decided by it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.sdk import get_current_context

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

KEY = "millrace_note"
"""XCom key of a task's line."""
LONGEST = 1000
log = logging.getLogger(__name__)


def note(why: str) -> str:
    """Leave a line for the run's note, say it in the log, and return it."""
    log.info("%s", why)
    get_current_context()["ti"].xcom_push(key=KEY, value=why)
    return why


def write(dag_run: DagRun) -> None:
    """Make the tasks' lines the note of a run that ends; a note that somebody wrote stays above them."""
    from airflow.models.xcom import XComModel
    from sqlalchemy import select
    from sqlalchemy.orm import object_session

    session = object_session(dag_run)
    if session is None:
        return
    query = select(XComModel).where(
        XComModel.dag_id == dag_run.dag_id, XComModel.run_id == dag_run.run_id, XComModel.key == KEY
    )
    left = [XComModel.deserialize_value(entry) for entry in session.scalars(query.order_by(XComModel.timestamp))]
    written = dag_run.note or ""
    new = [line for line in dict.fromkeys(str(value) for value in left) if line and line not in written]
    if new:
        dag_run.note = "\n".join([*([written] if written else []), *new])[:LONGEST]
