"""What Millrace does when Airflow's scheduler ends a run: see `runtime.notes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.listeners import hookimpl

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:
    """A run has ended well."""
    from millrace.airflow.runtime.notes import write

    write(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:
    """A run has failed."""
    from millrace.airflow.runtime.notes import write

    write(dag_run)
