"""Words that the dialect modules share: types by their two names, quoting, and what a refusal says."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
TIMES = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
SPARK = {
    "BOOLEAN": "BOOLEAN", "TINYINT": "TINYINT", "SMALLINT": "SMALLINT", "INTEGER": "INT", "BIGINT": "BIGINT",
    "HUGEINT": "BIGINT", "DOUBLE": "DOUBLE", "VARCHAR": "STRING", "DATE": "DATE", "TIMESTAMP": "TIMESTAMP_NTZ",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMP",
}  # fmt: skip
"""DuckDB's type -> Spark's. A HUGEINT is what DuckDB's sum makes; a Snapshot holds 64 bits, and Spark fails beyond."""


@dataclass(frozen=True)
class Problem:
    """A construct of transform.sql that does not mean the same on Spark."""

    line: int
    construct: str
    instead: str


class Refused(Exception):
    """Raised at the node that cannot be written for Spark; `Translation` makes a Problem of it."""

    def __init__(self, node: exp.Expr, construct: str, instead: str) -> None:
        super().__init__(construct)
        self.problem = Problem(line_of(node), construct, instead)


def line_of(node: exp.Expr) -> int:
    """The line on which a node begins, as near as the parser kept it: its own, else of what it holds or is part of."""
    here: exp.Expr | None = node
    while here is not None:
        for inner in here.walk(bfs=False):
            if line := inner.meta.get("line"):
                return int(line)
        here = here.parent
    return 1


def text(literal: exp.Expr) -> str:
    """The text of a literal."""
    return str(literal.this)


def name(identifier: str) -> str:
    """A quoted identifier of Spark."""
    return "`" + identifier.replace("`", "``") + "`"


def quoted(value: str) -> str:
    """A text as Spark writes it: there a backslash escapes."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
