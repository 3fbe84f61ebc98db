"""`millrace init` and `millrace new`: write a project, and a pipeline that works from the first minute."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import date, timedelta
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

from millrace.cli import sample
from millrace.cli.schemas import folder as schema_folder
from millrace.core.errors import SpecError
from millrace.spec import ProjectTree, schema
from millrace.spec.base import NAME, NAME_IN_WORDS

EMPTY = ("dags/.gitkeep", "include/pipelines/.gitkeep")
"""Folders that Airflow and git should find before there is a pipeline."""


def init(folder: Path) -> list[Path]:
    """Write a new project into a folder. Raises SpecError, and writes nothing, when a file of it is there already."""
    name = re.sub(r"[^a-z0-9_]+", "_", folder.resolve().name.lower()).strip("_")
    name = (name if re.match("[a-z]", name) else f"project_{name}")[:63].rstrip("_")
    texts = {
        folder / path.replace("gitignore", ".gitignore"): text.replace("__NAME__", name)
        for path, text in _texts(files("millrace") / "templates" / "project").items()
    }
    texts |= dict.fromkeys((folder / path for path in EMPTY), "")
    for kind, model in schema.MODELS.items():
        texts[schema.path(kind, folder / "include" / "schemas")] = schema.render(model)
    return _write(texts, "Choose another folder; inside a project, 'millrace new' adds a pipeline")


class New(NamedTuple):
    """Files of a pipeline that was written, and a partition that can be tried."""

    paths: list[Path]
    partition: str


def new(tree: ProjectTree, name: str, data: Sequence[Path] = ()) -> New:
    """Write a pipeline into a project: one proposed from files of data, or with none a sample with data of its own.

    For a bad or taken name raises SpecError, writing nothing; so with what `propose` raises for the files.
    """
    if not re.fullmatch(NAME, name):
        raise SpecError("not a usable pipeline name", given=name, allowed=NAME_IN_WORDS)
    pipeline = tree.root / "include" / "pipelines" / name
    places = {"dag.py": tree.root / "dags" / f"{name}.py", "features.py": tree.features_file(name)}
    words = {
        "__NAME__": name,
        "__OWNER__": tree.project.owner,
        "__REVIEW__": (date.today() + timedelta(days=365)).isoformat(),
        "__SCHEMA__": os.path.relpath(schema.path("pipeline", schema_folder(tree)), pipeline),
    }
    if data:
        from millrace.proposal.pipeline import propose

        proposed, partition = propose(tree.root, data, words)
        texts = {places.get(path, pipeline / path): text for path, text in proposed.items()}
    else:
        words |= {"__FIRST__": str(sample.days()[0]), "__LAST__": str(sample.days()[-1])}
        texts, partition = {}, words["__FIRST__"]
        for path, text in _texts(files("millrace") / "templates" / "pipeline").items():
            for word, meant in words.items():
                text = text.replace(word, meant)
            texts[places.get(path, pipeline / path)] = text
        texts |= {tree.root / "data" / name / f"{day}.csv": sample.visits(day) for day in sample.days()}
    return New(_write(texts, "Choose another name, or delete the old pipeline's files"), partition)


def _texts(folder: Traversable, prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for item in folder.iterdir():
        if item.is_dir() and item.name != "__pycache__":
            found |= _texts(item, f"{prefix}{item.name}/")
        elif item.is_file():
            found[prefix + item.name] = item.read_text(encoding="utf-8")
    return found


def _write(texts: dict[Path, str], otherwise: str) -> list[Path]:
    """Write all files or, when one is there, none."""
    for path in sorted(texts):
        if path.exists() or path.is_symlink():
            raise SpecError("this is there already; nothing was written", given=str(path), next_step=otherwise)
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return sorted(texts)
