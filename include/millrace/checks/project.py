"""`millrace check`: each file of a project by itself, then against the others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from millrace.checks.columns import check_columns
from millrace.checks.sql import TYPES, sql_columns
from millrace.checks.triggers import check_triggers
from millrace.checks.words import attempt, near
from millrace.core.errors import SpecError
from millrace.spec import PipelineSpec, Placed, ProjectTree
from millrace.spec.project import NEEDED, find_root
from millrace.spec.yaml_file import line_of

T = TypeVar("T")


def choose(what: list[str], project: Path | None) -> tuple[ProjectTree, list[str]]:
    """The project and the pipelines that the words of a command line mean: pipeline names, or folders and files.

    Raises SpecError for a word that is neither, and for folders of two projects.
    """
    folders = [Path(word) for word in what if Path(word).exists()]
    tree = ProjectTree.at(project or (folders[0] if folders else None))
    names: set[str] = set()
    for word in what:
        if word in tree.pipelines():
            names.add(word)
            continue
        path = Path(word)
        if not path.exists():
            raise SpecError("no such pipeline or folder", given=word, allowed=tree.pipelines())
        if find_root(path) != tree.root:
            raise SpecError("folders of two projects; check one at a time", given=word, allowed=[tree.root])
        parts = path.resolve().relative_to(tree.root).parts
        inside = parts[2:3] if parts[:2] == ("include", "pipelines") else ()
        names |= set(inside or tree.pipelines())
    return tree, sorted(names) if what else tree.pipelines()


def check(tree: ProjectTree, pipelines: list[str]) -> list[str]:
    """Return every problem of the project and the pipelines, one line each, with file and line."""
    problems: list[str] = []
    attempt(problems, lambda: tree.project)
    placing: list[str] = []
    for name in tree.environments():
        if attempt(problems, lambda name=name: tree.environment(name)) is not None:  # type: ignore[misc]
            placing.append(name)
            problems += _environment(tree, name)
    for pipeline in pipelines:
        problems += _pipeline(tree, pipeline, placing)
    return [_near_here(tree.root, line) for line in dict.fromkeys(problems)]


def _environment(tree: ProjectTree, name: str) -> Iterator[str]:
    """What an environment says of pipelines and jobs that are not there."""
    from millrace.spec.jobs import JOBS

    path = tree.root / "include" / "environments" / f"{name}.yaml"
    known = tree.pipelines()
    for pipeline, overlay in tree.environment(name).pipelines.items():
        if pipeline not in known:
            line = line_of(path, "pipelines", pipeline)
            yield f"{path}:{line}: the project has no pipeline '{pipeline}'" + near(pipeline, known)
        for job in overlay.compute:
            if job not in JOBS:
                line = line_of(path, "pipelines", pipeline, "compute", job)
                yield f"{path}:{line}: no such job '{job}'; allowed: {', '.join(JOBS)}" + near(job, JOBS)


def _pipeline(tree: ProjectTree, pipeline: str, environments: list[str]) -> list[str]:
    from millrace.checks.features import check_features  # these two use what is defined here
    from millrace.checks.suites import check_suite_of

    problems: list[str] = []
    spec = attempt(problems, lambda: tree.spec(pipeline))
    if spec is None:
        return problems
    for name in environments:
        attempt(problems, lambda name=name: Placed.of(tree, name, pipeline))  # type: ignore[misc]
    problems += _rooms(tree, spec)
    problems += check_triggers(tree, spec)
    sql = tree.folder(pipeline) / "transform.sql"
    made = attempt(problems, lambda: sql_columns(sql, spec)) if sql.is_file() else None
    for source in spec.sources.values():
        columns = {c: TYPES[source.types.get(c, "string")] for c in source.columns}
        problems += check_suite_of(tree, spec, source.gate, columns, "the source does not have it")
    problems += check_suite_of(tree, spec, spec.features.gate, made, "transform.sql does not make it")
    found, served = check_features(tree, spec, made)
    problems += found
    problems += check_columns(tree, spec, made, served)
    return problems


def _rooms(tree: ProjectTree, spec: PipelineSpec) -> Iterator[str]:
    """What must stand elsewhere for the pipeline to run."""
    from millrace.spec.jobs import JOBS

    folder = tree.folder(spec.name)
    for file in (
        folder / "transform.sql",
        tree.features_file(spec.name),
        tree.root / "feature_repo" / "feature_store.yaml",
        tree.root / "dags" / f"{spec.name}.py",
    ):
        if not file.is_file():
            yield f"{file}:1: there is no such file; {NEEDED[0].lower()}{NEEDED[1:]}"
    path = folder / "pipeline.yaml"
    embedding = spec.features.embedding
    if embedding is not None and not (folder / embedding.file).is_file():
        line = line_of(path, "features", "embedding")
        yield f"{path}:{line}: {embedding.file} is not there; land some partitions, then 'millrace embed {spec.name}'"
    for job in spec.compute:
        if job not in JOBS:
            line = line_of(path, "compute", job)
            yield f"{path}:{line}: no such job '{job}'; allowed: {', '.join(JOBS)}" + near(job, JOBS)


def _near_here(root: Path, line: str) -> str:
    """Paths as a person in the project would type them."""
    here = Path.cwd()
    base = here if root.is_relative_to(here) else root if here.is_relative_to(root) else None
    if base is None:
        return line
    return re.sub(rf"{re.escape(str(root))}/[^\s:]*", lambda m: os.path.relpath(m.group(0), here), line)
