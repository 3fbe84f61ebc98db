"""`millrace init` and `millrace new`: write a project, and a pipeline that works from the first minute."""

from __future__ import annotations

import csv
import io
import math
import random
import re
from datetime import date, timedelta
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from millrace.errors import SpecError
from millrace.spec import ProjectTree
from millrace.spec.pipeline import NAME

FIRST_DAY, DAYS, VISITS = date(2024, 1, 1), 20, 400
REGIONS = {"north": -0.8, "south": 0.9, "east": 0.0, "west": 0.4}


def init(folder: Path) -> list[Path]:
    """Write a new project into a folder that is new or empty. Raises SpecError otherwise."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SpecError(
            "a project is written into a new or empty folder",
            given=str(folder),
            next_step="Choose another folder, or 'millrace new' inside a project",
        )
    name = re.sub(r"[^a-z0-9_]+", "_", folder.resolve().name.lower()).strip("_")
    name = name if re.match(NAME, name) else f"project_{name}"[:63].rstrip("_")
    texts = {
        path.replace("gitignore", ".gitignore"): text.replace("__NAME__", name)
        for path, text in _texts(files("millrace") / "templates" / "project").items()
    }
    written = [_write(folder / path, text) for path, text in sorted(texts.items())]
    for empty in ("dags", "include/pipelines"):
        (folder / empty).mkdir(parents=True, exist_ok=True)
    return written


def new(tree: ProjectTree, name: str) -> list[Path]:
    """Write a pipeline with sample data into a project. Raises SpecError for a bad or taken name."""
    if not re.match(NAME, name):
        raise SpecError(
            "not a usable pipeline name",
            given=name,
            allowed="lower-case letters, digits and underscores, beginning with a letter, 63 at most",
        )
    places = {"dag.py": tree.root / "dags" / f"{name}.py", "features.py": tree.features_file(name)}
    folder = tree.root / "include" / "pipelines" / name
    data = tree.root / "data" / name
    taken = [path for path in (*places.values(), folder, data) if path.exists()]
    if taken:
        raise SpecError(
            "this is there already; nothing was written",
            given=str(taken[0]),
            next_step="Choose another name, or delete the old pipeline's files",
        )
    written = []
    for path, text in sorted(_texts(files("millrace") / "templates" / "pipeline").items()):
        text = text.replace("__NAME__", name).replace("__OWNER__", tree.project.owner)
        written.append(_write(places.get(path, folder / path), text))
    for number in range(DAYS):
        day = FIRST_DAY + timedelta(days=number)
        _write(data / f"{day}.csv", _sample(day))
    return [*written, data]


def _texts(folder: Traversable, prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for item in folder.iterdir():
        if item.is_dir() and item.name != "__pycache__":
            found |= _texts(item, f"{prefix}{item.name}/")
        elif item.is_file():
            found[prefix + item.name] = item.read_text(encoding="utf-8")
    return found


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _sample(day: date) -> str:
    """Made-up visits of a day, the same every time, whose orders depend on region, pages and minutes."""
    chance = random.Random(day.toordinal())
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["visit_id", "time", "region", "pages", "minutes", "ordered"])
    for number in range(VISITS):
        seconds = number * 86400 // VISITS
        region = chance.choice(list(REGIONS))
        pages = 1 + int(chance.expovariate(0.3))
        minutes = round(pages * chance.uniform(0.3, 2.5), 2)
        score = REGIONS[region] + 0.25 * pages - 0.08 * minutes - 0.8
        ordered = int(chance.random() < 1 / (1 + math.exp(-score)))
        clock = f"{seconds // 3600:02d}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}"
        writer.writerow([f"{day:%Y%m%d}-{number:04d}", f"{day}T{clock}Z", region, pages, minutes, ordered])
    return out.getvalue()
