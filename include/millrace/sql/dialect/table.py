"""The allow-list: a construct is allowed because there is a function here that writes it for Spark.

Each function states what it takes (`takes`, the arguments of the syntax node) and is tested on the same rows in both
engines. A node, or an argument of a node, that nobody wrote a function for is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from sqlglot import exp

from millrace.sql.dialect.types import Types, family
from millrace.sql.dialect.words import SPARK, Refused, text

Rule = Callable[["Writer", exp.Expr], str]
RULES: dict[type[exp.Expr], tuple[frozenset[str], Rule]] = {}
_NOTES = {"safe", "coalesce", "big_int", "date_part_boundary"}
"""Arguments by which the parser notes what DuckDB's function does anyway."""

INSTEAD: dict[type[exp.Expr], str] = {
    exp.Upper: "Case rules differ beyond ASCII: change the case before the data are landed",
    exp.Lower: "Case rules differ beyond ASCII: change the case before the data are landed",
    exp.ILike: "Case rules differ beyond ASCII: use LIKE",
    exp.ArgMax: "Of ties it takes any: QUALIFY row_number() OVER (PARTITION BY .. ORDER BY .. DESC, a key) = 1",
    exp.ArgMin: "Of ties it takes any: QUALIFY row_number() OVER (PARTITION BY .. ORDER BY .., a key) = 1",
    exp.First: "Which row is first is not said: first_value(..) OVER (ORDER BY ..)",
    exp.Last: "Which row is last is not said: last_value(..) OVER (ORDER BY ..)",
    exp.Limit: "Which rows it keeps is not said: QUALIFY row_number() OVER (ORDER BY a key) <= n",
    exp.Subquery: "Join the query: JOIN, SEMI JOIN or ANTI JOIN",
    exp.Exists: "SEMI JOIN or ANTI JOIN",
    exp.Interval: "An interval only added to or taken from a time, or as a RANGE frame: time + n * INTERVAL 1 HOUR",
    exp.TimeToStr: "Formats differ: extract(.. FROM time) and lpad",
    exp.StrToTime: "Give the column `types: timestamp` in its source",
    exp.RegexpLike: "Regular expressions differ: LIKE, starts_with, contains",
    exp.GroupConcat: "The order of what it joins is not said; make one row per value",
    exp.ArrayAgg: "A Snapshot holds no lists; make one row per value",
    exp.UnixToTime: "extract(epoch FROM time)",
    exp.IgnoreNulls: "Leave the nulls out with WHERE",
}
_WORDS: dict[type[exp.Expr], str] = {
    exp.DPipe: "||", exp.Div: "/", exp.IntDiv: "//", exp.Mod: "%", exp.Mul: "*", exp.Add: "+", exp.Sub: "-",
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=", exp.Cast: "CAST",
    exp.TryCast: "TRY_CAST", exp.Case: "CASE", exp.And: "AND", exp.Or: "OR", exp.IgnoreNulls: "IGNORE NULLS",
}  # fmt: skip


class Writer:
    """Writes expressions of DuckDB's SQL as Spark's; `zone` is that of DuckDB's clocks, Spark's are in UTC."""

    def __init__(self, types: Types, zone: str) -> None:
        self.types, self.zone = types, zone

    def write(self, node: exp.Expr) -> str:
        """Spark's text for a node. Raises Refused for anything that is not on the list."""
        kind = type(node)
        if kind not in RULES:
            raise Refused(node, construct(node), INSTEAD.get(kind, "See the list of what is allowed in docs/scale.md"))
        takes, rule = RULES[kind]
        if more := sorted(key for key, value in node.args.items() if value and key not in takes | _NOTES):
            raise Refused(node, f"{construct(node)} with {', '.join(more)}", "See docs/scale.md")
        return rule(self, node)

    def kind(self, node: exp.Expr) -> str:
        """DuckDB's type of a node, one that both engines have. Raises Refused for another, decimals among them."""
        found = self.types[node]
        if found in SPARK or found in ('"NULL"', "INTERVAL") or found == "DECIMAL":  # DECIMAL: a literal
            return found
        more = "CAST one of its parts AS DOUBLE" if found.startswith("DECIMAL") else f"CAST it to {_allowed()}"
        raise Refused(node, f"{construct(node)} of type {found}", more)

    def same(self, node: exp.Expr, *parts: exp.Expr) -> None:
        """Refuse parts that are compared or mixed and not of one family of types."""
        kinds = {family(self.kind(part)): part for part in parts}
        kinds.pop('"NULL"', None)
        if len(kinds) > 1:
            raise Refused(node, f"{construct(node)} of {' and '.join(sorted(kinds))}", "CAST one to the other's type")
        if "INTERVAL" in kinds:
            raise Refused(kinds["INTERVAL"], "an interval", INSTEAD[exp.Interval])

    def of(self, node: exp.Expr, *families: str) -> str:
        """The text of a node that must be of one of these families of types."""
        found = self.kind(node)
        if family(found) not in families and found != '"NULL"':
            raise Refused(node, f"{construct(node)} of type {found} here", f"CAST it to {' or '.join(families)}")
        return self.write(node)

    def number(self, node: exp.Expr) -> str:
        """The text of a node that must be a number."""
        return self.of(node, "number")

    def count(self, node: exp.Expr, given: exp.Expr, least: int | None) -> int:
        """The value of a literal whole number, an argument of `node` that must be one and at least `least`."""
        negative = isinstance(given, exp.Neg)
        literal = given.this if negative else given
        if isinstance(literal, exp.Literal) and not literal.is_string and text(literal).isdigit():
            value = -int(text(literal)) if negative else int(text(literal))
            if least is None or value >= least:
                return value
        raise Refused(node, f"{construct(node)} with a computed or negative number", "A literal such as 2")


def rule(takes: str, *kinds: type[exp.Expr]) -> Callable[[Rule], Rule]:
    """Put a function on the list for these nodes, with these arguments (by name, spaces between) and no others."""

    def add(function: Rule) -> Rule:
        for kind in kinds:
            RULES[kind] = (frozenset(takes.split()), function)
        return function

    return add


def construct(node: exp.Expr) -> str:
    """What a person calls the node: its name in SQL."""
    if isinstance(node, exp.Anonymous):
        return f"{str(node.this).lower()}()"
    if type(node) in _WORDS:
        return _WORDS[type(node)]
    if isinstance(node, exp.Func) and (named := re.match(r"\w+(?=\()", node.sql("duckdb"))):
        return f"{named.group().lower()}()"
    return node.key.upper()


def _allowed() -> str:
    return "BOOLEAN, BIGINT, DOUBLE, VARCHAR, DATE, TIMESTAMP or TIMESTAMPTZ"
