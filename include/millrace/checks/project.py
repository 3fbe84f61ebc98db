"""`millrace check`: each file of a project by itself, then against the others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from millrace.checks.columns import check_columns
from millrace.checks.feast_files import FeastFiles
from millrace.checks.installed import check_installed
from millrace.checks.on_demand import check_on_demand
from millrace.checks.readable import Readable, read_spec
from millrace.checks.sql import TYPES, sql_columns, sql_names, sql_syntax
from millrace.checks.triggers import check_triggers
from millrace.checks.words import attempt, near
from millrace.core.errors import SpecError
from millrace.spec import Placed, ProjectTree
from millrace.spec.project import NEEDED, find_root
from millrace.spec.yaml_file import line_of


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
    with FeastFiles(tree.features_file(pipeline) for pipeline in pipelines) as files:
        for pipeline in pipelines:
            problems += _pipeline(tree, pipeline, placing, files)
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


def _pipeline(tree: ProjectTree, pipeline: str, environments: list[str], files: FeastFiles) -> list[str]:
    from millrace.checks.features import check_features  # these two use what is defined here
    from millrace.checks.suites import check_suite_of

    problems: list[str] = []
    found = read_spec(tree, pipeline, problems)
    problems += _rooms(tree, pipeline, found)
    sql = tree.folder(pipeline) / "transform.sql"
    spec = found.spec
    if spec is None:  # what can be told of the other files by themselves
        if sql.is_file():
            attempt(problems, lambda: sql_syntax(sql))
        for suite in sorted((sql.parent / "suites").glob("*.yaml")):
            problems += check_suite_of(tree, pipeline, f"suites/{suite.name}")
        return problems + check_features(tree, pipeline, found, files, None)[0]
    placed: list[Placed] = []
    for name in environments if all(found.knows(key) for key in ("sources", "training", "compute")) else ():
        here = attempt(problems, lambda name=name: Placed.of(tree, name, pipeline, spec))  # type: ignore[misc]
        placed += [here] if here is not None else []
    problems += check_installed(tree, found, placed)
    if all(found.knows(key) for key in ("partition", "label", "training", "monitoring", "serving")):
        problems += check_triggers(tree, spec)
    made = _made(sql, found, problems) if sql.is_file() else None
    known = {name: source for name, source in spec.sources.items() if found.knows_columns(name)}
    others = {name: source.columns for name, source in known.items()} if len(known) == len(spec.sources) else None
    for name, source in spec.sources.items():
        columns = {c: TYPES[source.types.get(c, "string")] for c in source.columns} if name in known else None
        if found.knows("sources", name, "gate"):
            problems += check_suite_of(tree, pipeline, source.gate, columns, "the source does not have it", others)
    if found.knows("features", "gate"):
        why = "transform.sql does not make it"
        problems += check_suite_of(tree, pipeline, spec.features.gate, made, why, others)
    lines, served = check_features(tree, pipeline, found, files, made)
    if served is not None:
        lines += check_on_demand(tree, spec, files.describe(tree.features_file(pipeline)), made, placed)
    return problems + lines + check_columns(tree, found, made, served)


def _made(sql: Path, readable: Readable, problems: list[str]) -> dict[str, str] | None:
    """Columns that the SQL makes, None where nothing is known; only their names where it is wrong, or what it reads."""
    spec = readable.spec
    assert spec is not None
    keys = (("features", "embedding"), ("features", "engine"), ("partition", "timezone"))
    if not all(readable.knows(*key) for key in keys) or not all(readable.knows_columns(name) for name in spec.sources):
        attempt(problems, lambda: sql_syntax(sql))
        return sql_names(sql, spec)
    return attempt(problems, lambda: sql_columns(sql, spec)) or sql_names(sql, spec)


def _rooms(tree: ProjectTree, pipeline: str, readable: Readable) -> Iterator[str]:
    """What must stand elsewhere for the pipeline to run."""
    from millrace.spec.jobs import JOBS

    folder, spec = tree.folder(pipeline), readable.spec
    for file in (
        folder / "transform.sql",
        tree.features_file(pipeline),
        tree.root / "feature_repo" / "feature_store.yaml",
        tree.root / "dags" / f"{pipeline}.py",
    ):
        if not file.is_file():
            yield f"{file}:1: there is no such file; {NEEDED[0].lower()}{NEEDED[1:]}"
    if spec is None:
        return
    path = folder / "pipeline.yaml"
    embedding = spec.features.embedding
    if embedding is not None and not (folder / embedding.file).is_file():
        line = line_of(path, "features", "embedding")
        yield f"{path}:{line}: {embedding.file} is not there; land some partitions, then 'millrace embed {pipeline}'"
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
