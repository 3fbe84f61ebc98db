"""What of transform.sql does not mean the same on Spark; asked only of a pipeline whose engine is Spark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from millrace.core.errors import SpecError


def refuse(connection: Any, sql: str, path: Path) -> None:
    """Raise SpecError naming every construct outside of the part that both engines have, one line for each.

    `connection` is a DuckDB that has the sources and `scope` as empty tables. The list is the one by which the
    transform job writes the SQL for Spark, so what passes here runs there.
    """
    from millrace.sql.dialect.translate import translate

    problems = translate(connection, sql).problems
    if problems:
        lines = [f"{path}:{p.line}: {p.construct} does not mean the same on Spark. {p.instead}" for p in problems]
        raise SpecError("\n".join(lines))
