"""Modules that a pipeline's jobs import in the task's process, and that are not installed on this machine."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from millrace.checks.readable import Readable
from millrace.spec import Placed, ProjectTree
from millrace.spec.compute import PROCESS
from millrace.spec.model_checks import CustomCheck
from millrace.spec.yaml_file import line_of

_EXTRA = {"pyspark": "millrace[spark]"}
"""Library -> what brings it, where that is not millrace[jobs]."""


def check_installed(tree: ProjectTree, readable: Readable, placed: list[Placed]) -> list[str]:
    """One line for each library that a job would miss. What runs in pods in every environment is left to its image."""
    spec = readable.spec
    assert spec is not None
    path = tree.folder(spec.name) / "pipeline.yaml"
    needed: list[tuple[str, tuple[str | int, ...], tuple[str, ...]]] = []
    if spec.training is not None and readable.knows("training", "learner"):
        needed.append(("train", ("training", "learner", "kind"), _engine(spec.training.learner)))
    for number, check in enumerate(spec.evaluation.checks if spec.evaluation else ()):
        if isinstance(check, CustomCheck) and readable.knows("evaluation", "checks", number):
            loc: tuple[str | int, ...] = ("evaluation", "checks", number, "check", "kind")
            needed.append(("evaluate", loc, _engine(check.check)))
    if spec.features.embedding is not None and readable.knows("features", "embedding"):
        needed.append(("transform", ("features", "embedding", "kind"), _engine(spec.features.embedding)))
    if spec.features.engine == "spark":
        needed.append(("transform", ("features", "engine"), ("pyspark",)))
    for name, source in spec.sources.items():
        if readable.knows("sources", name):
            needed.append(("land", ("sources", name, "kind"), _engine(source)))
    problems = []
    for job, loc, modules in needed:
        if placed and all(where.profile(job) != PROCESS for where in placed):
            continue
        for name in modules:
            if not _is_installed(name):
                where = f"{path}:{line_of(path, *loc)}: {'.'.join(map(str, loc))}"
                problems.append(
                    f"{where}: job '{job}' needs the module '{name}', which is not "
                    f"installed here; install {_EXTRA.get(name, 'millrace[jobs]')}, or run the job in pods"
                )
    return problems


def _engine(model: Any) -> tuple[str, ...]:
    """Modules that the engine of a kind imports as it is loaded, told from its text alone: loading takes seconds."""
    return tuple(sorted(_imports(str(model.engine).partition(":")[0])))


@cache
def _imports(module: str) -> frozenset[str]:
    if not _is_installed(module):
        return frozenset({module})
    found, seen, waiting = set[str](), set[str](), [module]
    while waiting:
        name = waiting.pop()
        spec = None if name in seen else find_spec(name)
        seen.add(name)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            continue
        for other in _named(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))):
            top = other.partition(".")[0]
            if top == module.partition(".")[0]:
                waiting.append(other)
            else:
                found.add(top)
    return frozenset(found)


def _named(tree: ast.Module) -> Iterator[str]:
    """Modules that a file imports at its top; those of TYPE_CHECKING, and of what it tries, are not needed."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False
