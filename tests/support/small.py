"""A project so small that a training takes seconds, for what starts a real Airflow and is about something else."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from millrace.cli.scaffold import init, new
from millrace.spec import ProjectTree

HEADER = "visit_id,time,region,pages,minutes,ordered\n"
REGIONS = ("east", "north", "south", "west")


def small(root: Path, days: Sequence[str], pipeline: str = "orders", approval: str = "auto", **spec: str) -> Path:
    """A new project whose data of these days show what the label depends on so clearly that two days make a model that
    wins its duel; returns the folder of the data. `spec`: text -> what stands there instead."""
    init(root)
    new(ProjectTree(root), pipeline)
    data = root / "data" / pipeline
    for file in data.iterdir():
        file.unlink()
    for day in days:
        (data / f"{day}.csv").write_text(visits(day))
    changes = {"rounds: 60": "rounds: 12", "minimum_rows: 1000": "minimum_rows: 400", "block: day": "block: hour",
               "learning_rate: 0.1": "learning_rate: 0.4", "end: 2024-01-20": "end: 2024-12-31", **spec}  # fmt: skip
    change(root / "include" / "pipelines" / pipeline / "pipeline.yaml", changes)
    change(root / "include" / "environments" / "dev.yaml", {"by: auto": f"by: {approval}"})
    return data


def visits(day: str, rows: int = 600, salt: int = 0) -> str:
    """A day's file; another salt gives other bytes of the same kind."""
    chance, start = random.Random(f"{day} {salt}"), datetime.fromisoformat(day)
    lines = []
    for number in range(rows):
        pages, moment = chance.randint(1, 20), start + timedelta(days=number / rows)
        ordered = int(chance.random() < (0.9 if pages > 10 else 0.1))
        lines.append(f"{day.replace('-', '')}-{number:04d},{moment:%Y-%m-%dT%H:%M:%SZ},{chance.choice(REGIONS)},"
                     f"{pages},{chance.uniform(0.5, 40):.2f},{ordered}\n")  # fmt: skip
    return HEADER + "".join(lines)


def change(path: Path, changes: Mapping[str, str]) -> None:
    """Put other text in place of what stands in a file."""
    text = path.read_text()
    for old, new_ in changes.items():
        assert old in text, f"{path.name} says nothing of {old!r}"
        text = text.replace(old, new_)
    path.write_text(text)


def clean() -> dict[str, str]:
    """The environment of this process without what belongs to another project."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("MILLRACE_", "AIRFLOW", "MLFLOW"))}
