"""The jobs there are, by name."""

from __future__ import annotations

from typing import Literal, get_args

TaskJob = Literal[
    "land",
    "validate",
    "transform",
    "materialize",
    "parity",
    "score",
    "build_training_set",
    "train",
    "evaluate",
    "register",
    "promote",
    "drift",
    "performance",
]
"""Jobs that Airflow's tasks run."""
JOBS: tuple[str, ...] = (*get_args(TaskJob), "fit_embedding")
"""All of them; the embedding is fitted by the command line."""
