"""The type of every expression in a query, as DuckDB binds it: what decides how an expression is written for Spark."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
from sqlglot import exp

from millrace.sql.dialect.words import WHOLE, Refused, text

QUERY = (exp.Select, exp.SetOperation)
_VALUES = (exp.Column, exp.Func, exp.Binary, exp.Unary, exp.Between, exp.In, exp.AtTimeZone, exp.Window, exp.Filter)
_CALLED = (exp.Window, exp.Filter, exp.IgnoreNulls, exp.RespectNulls)


class Types:
    """Types by node. A literal has its own, which needs no binding."""

    def __init__(self) -> None:
        self._known: dict[int, str] = {}

    def __getitem__(self, node: exp.Expr) -> str:
        """DuckDB's name of the type; `"NULL"` for a bare null. Raises Refused where DuckDB could not tell."""
        if isinstance(node, exp.Paren | exp.Distinct):
            return self[node.this if isinstance(node, exp.Paren) else node.expressions[0]]
        if isinstance(node, exp.Literal):
            return _literal(node)
        if isinstance(node, exp.Null):
            return '"NULL"'
        if isinstance(node, exp.Boolean):
            return "BOOLEAN"
        if isinstance(node, exp.Interval):
            return "INTERVAL"
        if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal):
            return _literal(node.this)
        try:
            return self._known[id(node)]
        except KeyError:
            if node.find(*QUERY):
                raise Refused(node, "a query inside an expression", "JOIN, SEMI JOIN or ANTI JOIN") from None
            raise Refused(
                node, "an expression whose type cannot be told", "Repeat it in full, names qualified"
            ) from None

    def learn(self, connection: duckdb.DuckDBPyConnection, select: exp.Select) -> None:
        """Bind all expressions of a SELECT, not those of queries inside it.

        What cannot be bound by itself (an alias of the same SELECT) gets no type, and is refused where it is used.
        """
        rows: list[exp.Expr] = []
        groups: list[exp.Expr] = []
        for node in _expressions(select):
            grouped = node.find(exp.AggFunc, exp.Window) is not None
            (groups if grouped else rows).append(node)
        prefix, tables = _ctes(select), _tables(select)
        self._ask(connection, rows, prefix, tables)
        tail = [part.sql("duckdb") for part in (select.args.get("group"),) if part]
        if windows := select.args.get("windows"):
            whole = exp.Select(expressions=[exp.Null()], windows=[window.copy() for window in windows])
            tail.append(whole.sql("duckdb").removeprefix("SELECT NULL"))
        self._ask(connection, groups, prefix, f"{tables} {' '.join(tail)}")

    def _ask(self, connection: duckdb.DuckDBPyConnection, nodes: list[exp.Expr], prefix: str, tables: str) -> None:
        if not nodes:
            return
        items = ", ".join(f"{node.sql('duckdb')} AS c{n}" for n, node in enumerate(nodes))
        try:
            described = connection.execute(f"DESCRIBE {prefix}SELECT {items} {tables}").fetchall()
        except duckdb.Error:
            half = len(nodes) // 2
            if half:
                self._ask(connection, nodes[:half], prefix, tables)
                self._ask(connection, nodes[half:], prefix, tables)
            return
        for node, row in zip(nodes, described, strict=True):
            self._known[id(node)] = str(row[1])


def _expressions(select: exp.Select) -> Iterator[exp.Expr]:
    """What has a type of its own in this SELECT."""
    seen: list[exp.Expr] = []
    parts = [*select.expressions, *(select.args.get("windows") or ()), *(select.args.get("joins") or ())]
    for key in ("where", "group", "having", "qualify"):
        parts += [select.args[key]] if select.args.get(key) else []
    for part in parts:
        seen += part.walk(prune=lambda node: isinstance(node, QUERY))
    for node in seen:
        if not isinstance(node, _VALUES) or isinstance(node.parent, _CALLED) and node.arg_key == "this":
            continue
        if isinstance(node, exp.If) and isinstance(node.parent, exp.Case):
            continue  # its WHEN, which is no function
        if isinstance(node, exp.Column) and isinstance(node.this, exp.Star):
            continue
        if isinstance(node, exp.Window) and node.arg_key == "windows" or node.find(*QUERY):
            continue  # the definition of a named window; a query inside an expression, refused later
        yield node


def _ctes(select: exp.Select) -> str:
    """WITH and the common tables that this SELECT can name: those defined before it, and around it."""
    found: list[exp.Expr] = []
    node: exp.Expr = select
    while node is not None:
        inside = node
        with_ = node.args.get("with_")
        if with_ is not None:
            found = [*with_.expressions, *found]
        node = node.parent  # type: ignore[assignment]
        if isinstance(node, exp.With):
            earlier = node.expressions[: node.expressions.index(inside)]
            found = [*earlier, *found]
            node = node.parent.parent if node.parent is not None else None  # type: ignore[assignment]
    return f"WITH {', '.join(cte.sql('duckdb') for cte in found)} " if found else ""


def _tables(select: exp.Select) -> str:
    source = select.args.get("from_")
    if source is None:
        return ""
    parts = [source.sql("duckdb")]
    for join in select.args.get("joins") or ():
        seen = join.copy()
        if seen.args.get("kind") in ("SEMI", "ANTI"):  # only here can the condition's right side be named
            seen.set("kind", "INNER")
        parts.append(seen.sql("duckdb"))
    return " ".join(part if part.startswith(",") else " " + part for part in parts)


def _literal(node: exp.Literal) -> str:
    if node.is_string:
        return "VARCHAR"
    if "e" in text(node).lower():
        return "DOUBLE"
    if not text(node).isdigit():
        return "DECIMAL"
    value = int(text(node))
    return "INTEGER" if value < 2**31 else "BIGINT" if value < 2**63 else "HUGEINT"


def family(kind: str) -> str:
    """Types whose values can be compared and mixed without a cast that the two engines do differently."""
    return "number" if kind in WHOLE or kind == "DOUBLE" or kind.startswith("DECIMAL") else kind
