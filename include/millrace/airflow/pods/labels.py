"""What marks the pods of a DAG run."""

from __future__ import annotations

import re

from millrace.core.canonical import digest

RUN_LABEL = "millrace.io/run"
VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
"""What the value of a label may be: kubernetes.io/docs/concepts/overview/working-with-objects/labels."""


def label(name: str) -> str:
    """A name as a label's value; hashed where a label cannot hold it."""
    return name if VALUE.fullmatch(name) else digest(name).removeprefix("sha256:")[:32]


def run_label(dag_id: str, run_id: str) -> str:
    """What marks all pods of a DAG run; a run's id may hold what a label may not."""
    return digest([dag_id, run_id]).removeprefix("sha256:")[:32]
