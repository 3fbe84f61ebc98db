"""transform.sql for Spark: DuckDB's SQL, of which a listed part is allowed, written so that Spark gives the same rows.

sqlglot parses; DuckDB tells the type of every expression; the rules of `table` write it. What has no rule is
refused, in `millrace check` and in the transform job alike: there is one list, and it is what runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from millrace.core.errors import SpecError
from millrace.sql.dialect import functions, groups, values  # noqa: F401  (they put their rules on the list)
from millrace.sql.dialect.groups import frame
from millrace.sql.dialect.table import INSTEAD, Writer, construct
from millrace.sql.dialect.types import Types
from millrace.sql.dialect.words import SPARK, Problem, Refused, name, text

FILE = "transform.sql"
_SELECT = {"expressions", "from_", "joins", "where", "group", "having", "qualify", "windows", "distinct", "order",
           "with_"}  # fmt: skip
_JOINS = {"", "INNER", "CROSS", "SEMI", "ANTI"}


@dataclass(frozen=True)
class Translation:
    """A query for Spark, or what stands in its way."""

    sql: str
    problems: tuple[Problem, ...]

    def checked(self) -> str:
        """The query. Raises SpecError for the first problem, with its line."""
        for problem in self.problems:
            raise SpecError(
                f"{problem.construct} does not mean the same on Spark",
                where=f"{FILE}:{problem.line}",
                next_step=problem.instead,
            )
        return self.sql


def translate(connection: duckdb.DuckDBPyConnection, sql: str) -> Translation:
    """Write one SELECT for Spark. `connection` holds every source, and `scope`, as a table or view; rows are not read.
    Its clocks are those of the connection's zone, whatever Spark's are: sessions there are in UTC (ADR 0025).

    The SQL must be one that DuckDB binds (`sources.sql.check_select`). Sources are views of the same names in Spark.
    """
    try:
        (tree,) = sqlglot.parse(sql, read="duckdb")
    except (SqlglotError, ValueError) as err:
        return Translation("", (Problem(1, "SQL that cannot be read", str(err).splitlines()[0]),))
    assert tree is not None
    types, problems = Types(), list[Problem]()
    for select in tree.find_all(exp.Select):
        types.learn(connection, select)
    (zone,) = connection.execute("SELECT current_setting('TimeZone')").fetchall()[0]
    query = _Query(Writer(types, zone), problems)
    written = query.write(tree)
    described = connection.execute(f"DESCRIBE {sql.strip().rstrip(';')}").fetchall()
    columns = []
    for column, kind, *_ in described:
        if kind not in SPARK:
            problems.append(Problem(1, f"column '{column}' of type {kind}", "CAST it"))
        columns.append(f"CAST({name(column)} AS {SPARK.get(kind, kind)}) AS {name(column)}")
    return Translation(f"SELECT {', '.join(columns)} FROM (\n{written}\n)", tuple(_once(problems)))


class _Query:
    """Writes queries; a part that is refused becomes a problem, and the next part is tried."""

    def __init__(self, writer: Writer, problems: list[Problem]) -> None:
        self.w, self.problems = writer, problems

    def write(self, node: exp.Expr) -> str:
        try:
            with_ = node.args.get("with_")
            return (self._ctes(with_) if with_ is not None else "") + self._body(node)
        except Refused as err:
            self.problems.append(err.problem)
            return "SELECT NULL"

    def _ctes(self, with_: exp.Expr) -> str:
        if with_.args.get("recursive"):
            raise Refused(with_, "WITH RECURSIVE", "A window, or a table of dates as a source")
        parts = []
        for cte in with_.expressions:
            alias = cte.args["alias"]
            columns = ", ".join(name(column.name) for column in alias.args.get("columns") or ())
            parts.append(f"{name(alias.name)}{f' ({columns})' if columns else ''} AS (\n{self.write(cte.this)}\n)")
        return f"WITH {', '.join(parts)}\n"

    def _body(self, node: exp.Expr) -> str:
        if isinstance(node, exp.Subquery):
            return f"({self.write(node.this)})"
        if isinstance(node, exp.SetOperation):
            return self._both(node)
        if isinstance(node, exp.Select):
            return self._select(node)
        raise Refused(node, construct(node), "SELECT")

    def _both(self, node: exp.SetOperation) -> str:
        self._only(node, {"this", "expression", "distinct", "with_", "order"})
        if not isinstance(node, exp.Union):
            raise Refused(node, construct(node), "SEMI JOIN or ANTI JOIN")
        left, right = (query.unnest() for query in (node.this, node.expression))
        while isinstance(left, exp.SetOperation):
            left = left.this.unnest()
        if isinstance(right, exp.Select) and isinstance(left, exp.Select):
            for one, other in zip(left.expressions, right.expressions, strict=False):
                if not (one.is_star or other.is_star):
                    self._try(self._same, one, other)
        word = "UNION" if node.args.get("distinct") else "UNION ALL"
        return f"{self.write(node.this)}\n{word}\n{self.write(node.expression)}"

    def _same(self, one: exp.Expr, other: exp.Expr) -> str:
        self.w.same(other, one.unalias(), other.unalias())
        return ""

    def _select(self, node: exp.Select) -> str:
        self._try(self._only, node, _SELECT)
        w, parts = self.w, []
        distinct = node.args.get("distinct")
        if distinct is not None and distinct.args.get("on"):
            raise Refused(node, "DISTINCT ON", "QUALIFY row_number() OVER (PARTITION BY .. ORDER BY ..) = 1")
        items = [self._try(self._item, node, item) for item in node.expressions]
        parts.append(f"SELECT {'DISTINCT ' if distinct is not None else ''}{', '.join(items)}")
        if source := node.args.get("from_"):
            parts.append("FROM " + self._try(self._table, source.this))
            parts += [self._try(self._join, join) for join in node.args.get("joins") or ()]
        if where := node.args.get("where"):
            parts.append("WHERE " + self._try(w.of, where.this, "BOOLEAN"))
        if group := node.args.get("group"):
            parts.append("GROUP BY " + self._try(self._group, node, group))
        if having := node.args.get("having"):
            parts.append("HAVING " + self._try(w.of, having.this, "BOOLEAN"))
        if qualify := node.args.get("qualify"):
            parts.append("QUALIFY " + self._try(w.of, qualify.this, "BOOLEAN"))
        if windows := node.args.get("windows"):
            named = [f"{name(window.name)} AS ({self._try(frame, w, window)})" for window in windows]
            parts.append("WINDOW " + ", ".join(named))
        return "\n".join(parts)  # ORDER BY is left out: a query's rows are a set, and the job orders them

    def _item(self, select: exp.Select, item: exp.Expr) -> str:
        if isinstance(item, exp.Alias):
            return f"{self.w.write(item.this)} AS {name(item.alias)}"
        if item.is_star:
            if any(join.args.get("using") for join in select.args.get("joins") or ()):
                raise Refused(item, "* after USING", "Name the columns: their order differs")
            if isinstance(item, exp.Star) and any(item.args.values()):
                raise Refused(item, "* with exceptions", "Name the columns")
            return "*" if isinstance(item, exp.Star) else self.w.write(item)
        second = isinstance(select.parent, exp.SetOperation) and select.arg_key == "expression"
        outside = select.parent.args.get("alias") if select.parent is not None else None
        named = second or (outside is not None and outside.args.get("columns"))
        if not isinstance(item, exp.Column) and not named:
            raise Refused(item, "a column without a name", f"{item.sql('duckdb')[:30]} AS name")
        return self.w.write(item)

    def _table(self, node: exp.Expr) -> str:
        alias = node.args.get("alias")
        named = ""
        if alias is not None:
            self._only(alias, {"this", "columns"})
            columns = ", ".join(name(column.name) for column in alias.args.get("columns") or ())
            named = f" AS {name(alias.name)}{f' ({columns})' if columns else ''}"
        if isinstance(node, exp.Subquery):
            self._only(node, {"this", "alias"})
            return f"(\n{self.write(node.this)}\n){named}"
        if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
            raise Refused(node, "a table function", "A source, scope, or a query in brackets")
        self._only(node, {"this", "alias"})
        return name(node.name) + named

    def _join(self, join: exp.Expr) -> str:
        self._only(join, {"this", "side", "kind", "on", "using", "method"})
        kind, side, method = (join.text(key).upper() for key in ("kind", "side", "method"))
        if method == "ASOF":
            raise Refused(
                join, "ASOF JOIN", "Give each row its end by lead(time) OVER (..), and join on start <= t AND t < end"
            )
        if method or kind not in _JOINS:
            raise Refused(join, f"{method or kind} JOIN", "JOIN .. ON or USING")
        table, on, using = self._table(join.this), join.args.get("on"), join.args.get("using")
        if not (kind or side or on is not None or using):
            return f", {table}"
        if not (kind == "CROSS" or on is not None or using):
            raise Refused(join, "JOIN without a condition", "CROSS JOIN")
        words = " ".join(word for word in (side, kind, "JOIN") if word)
        condition = f" ON {self.w.of(on, 'BOOLEAN')}" if on is not None else ""
        if using:
            condition = f" USING ({', '.join(name(column.name) for column in using)})"
        return f"{words} {table}{condition}"

    def _group(self, select: exp.Select, group: exp.Expr) -> str:
        self._only(group, {"expressions", "all"})
        plain = [item for item in select.expressions if not item.find(exp.AggFunc, exp.Window)]
        if group.args.get("all"):
            if any(item.is_star for item in plain):
                raise Refused(group, "GROUP BY ALL with *", "Name the columns")
            return ", ".join(self.w.write(item.unalias()) for item in plain) or "()"
        named = {item.alias.lower(): item.this for item in select.expressions if isinstance(item, exp.Alias)}
        found = []
        for item in group.expressions:
            if isinstance(item, exp.Literal) and not item.is_string:
                item = select.expressions[int(text(item)) - 1].unalias()
            elif isinstance(item, exp.Column) and not item.table and named.get(item.name.lower(), item) != item:
                raise Refused(item, "GROUP BY an alias", "The expression itself, or its number")
            found.append(self.w.write(item))
        return ", ".join(found)

    def _only(self, node: exp.Expr, allowed: set[str]) -> None:
        for key, value in node.args.items():
            if value and key not in allowed:
                inner = value if isinstance(value, exp.Expr) else node
                raise Refused(inner, key.strip("_").upper(), INSTEAD.get(type(inner), "See docs/scale.md"))

    def _try(self, write: Callable[..., str | None], *parts: object) -> str:
        try:
            return write(*parts) or ""
        except Refused as err:
            self.problems.append(err.problem)
            return "NULL"


def _once(problems: list[Problem]) -> list[Problem]:
    return sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.construct))
