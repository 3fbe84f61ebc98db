"""trainer.py: the code of a pipeline with the learner `custom`, and what can be known of it without running it."""

from __future__ import annotations

import ast

from millrace.core.errors import SpecError

TRAINER = "trainer.py"
FUNCTIONS = {"fit": ("train", "params", "settings"), "predict": ("weights", "rows", "params", "settings")}
"""Functions of trainer.py -> what they are called with, in order."""


def check_trainer(text: str, where: str) -> dict[str, int]:
    """Lines of the functions in a trainer's text, which is parsed and never run. `where` names the file.

    A function may be imported from an installed package. Raises SpecError with the line for text that is no Python, a
    function that is missing, and one that cannot be called with what it is called with.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as err:
        line = getattr(err, "lineno", None) or 1
        raise SpecError(f"not Python: {getattr(err, 'msg', err)}", where=f"{where}:{line}") from err
    found: dict[str, ast.stmt] = {}
    for statement in tree.body:
        found |= dict.fromkeys(_names(statement), statement)
    for name, arguments in FUNCTIONS.items():
        called = f"{name}({', '.join(arguments)})"
        if name not in found:
            raise SpecError(f"there is no function '{name}'", where=f"{where}:1", allowed=called,
                            next_step="docs/trainer.md has an example")  # fmt: skip
        statement = found[name]
        if isinstance(statement, ast.AsyncFunctionDef | ast.ClassDef):
            raise SpecError(f"'{name}' is no plain function", where=f"{where}:{statement.lineno}", allowed=called)
        if isinstance(statement, ast.FunctionDef) and not _takes(statement.args, len(arguments)):
            raise SpecError(f"'{name}' cannot be called with {len(arguments)} arguments",
                            where=f"{where}:{statement.lineno}", given=f"{name}({ast.unparse(statement.args)})",
                            allowed=called)  # fmt: skip
    return {name: found[name].lineno for name in FUNCTIONS}


def _names(statement: ast.stmt) -> list[str]:
    """Names that a top-level statement binds, as far as functions come about."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.ImportFrom):
        return [alias.asname or alias.name for alias in statement.names]
    if isinstance(statement, ast.Assign):
        return [target.id for target in statement.targets if isinstance(target, ast.Name)]
    return []


def _takes(arguments: ast.arguments, count: int) -> bool:
    """Whether a function can be called with `count` arguments in order."""
    places = [*arguments.posonlyargs, *arguments.args]
    needed = len(places) - len(arguments.defaults)
    if any(default is None for default in arguments.kw_defaults):
        return False
    return needed <= count and (count <= len(places) or arguments.vararg is not None)
