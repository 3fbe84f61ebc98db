"""What marks the pods of a DAG run."""

from __future__ import annotations

from millrace.canonical import digest

RUN_LABEL = "millrace.io/run"


def run_label(dag_id: str, run_id: str) -> str:
    """What marks all pods of a DAG run; a run's id may hold what a label may not."""
    return digest([dag_id, run_id]).removeprefix("sha256:")[:32]
