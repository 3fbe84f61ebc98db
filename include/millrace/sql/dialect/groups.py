"""Rules for aggregates and windows."""

from __future__ import annotations

from sqlglot import exp

from millrace.sql.dialect.table import Writer, construct, rule
from millrace.sql.dialect.times import exact, interval
from millrace.sql.dialect.words import TIMES, WHOLE, Refused, name, text

_STATISTICS: dict[type[exp.Expr], str] = {
    exp.Avg: "avg", exp.Stddev: "stddev_samp", exp.StddevSamp: "stddev_samp", exp.StddevPop: "stddev_pop",
    exp.Variance: "var_samp", exp.VariancePop: "var_pop",
}  # fmt: skip
_LOGIC: dict[type[exp.Expr], str] = {
    exp.CountIf: "count_if", exp.LogicalAnd: "bool_and", exp.LogicalOr: "bool_or",
}  # fmt: skip
_CALLS: dict[type[exp.Expr], str] = {
    exp.RowNumber: "row_number", exp.Rank: "rank", exp.DenseRank: "dense_rank", exp.FirstValue: "first_value",
    exp.LastValue: "last_value",
}  # fmt: skip
_ORDERED: tuple[type[exp.Expr], ...] = (*_CALLS, exp.Lag, exp.Lead)


@rule("this", exp.Sum)
def _sum(w: Writer, node: exp.Expr) -> str:
    if w.kind(node.this) == "BOOLEAN":
        raise Refused(node, "sum() of truth values", "count_if(x)")
    return f"sum({w.number(node.this)})"


@rule("this", *_STATISTICS)
def _statistic(w: Writer, node: exp.Expr) -> str:
    if isinstance(node.this, exp.Distinct):
        raise Refused(node, f"{construct(node)} of distinct values", "SELECT DISTINCT first")
    return f"{_STATISTICS[type(node)]}(CAST({w.number(node.this)} AS DOUBLE))"


@rule("this", exp.Min, exp.Max)
def _extreme(w: Writer, node: exp.Expr) -> str:
    return f"{node.key}({w.of(node.this, 'number', 'VARCHAR', *TIMES)})"


@rule("this", exp.Count)
def _count(w: Writer, node: exp.Expr) -> str:
    if isinstance(node.this, exp.Star) or node.this is None:
        return "count(*)"
    if isinstance(node.this, exp.Distinct):
        if len(node.this.expressions) != 1:
            raise Refused(node, "count(DISTINCT ..) of several columns", "SELECT DISTINCT first, then count(*)")
        return f"count(DISTINCT {w.write(node.this.expressions[0])})"
    return f"count({w.write(node.this)})"


@rule("this", *_LOGIC)
def _logic(w: Writer, node: exp.Expr) -> str:
    return f"{_LOGIC[type(node)]}({w.of(node.this, 'BOOLEAN')})"


@rule("this", exp.Median)
def _median(w: Writer, node: exp.Expr) -> str:
    return f"percentile(CAST({w.number(node.this)} AS DOUBLE), 0.5D)"


@rule("this expression", exp.PercentileCont)
def _quantile(w: Writer, node: exp.Expr) -> str:
    if not isinstance(node.expression, exp.Literal):
        raise Refused(node, "quantile_cont() of a computed share", "A literal such as 0.9")
    return f"percentile(CAST({w.number(node.this)} AS DOUBLE), {text(node.expression)}D)"


@rule("this expression", exp.Filter)
def _filter(w: Writer, node: exp.Expr) -> str:
    if isinstance(node.parent, exp.Window):
        raise Refused(node, "FILTER in a window", "sum(CASE WHEN .. THEN x END) OVER ..")
    return f"{w.write(node.this)} FILTER (WHERE {w.of(node.expression.this, 'BOOLEAN')})"


@rule("", exp.RowNumber, exp.Rank, exp.DenseRank)
def _number(w: Writer, node: exp.Expr) -> str:
    return f"{_CALLS[type(node)]}()"


@rule("this offset default", exp.Lag, exp.Lead)
def _neighbour(w: Writer, node: exp.Expr) -> str:
    offset, default = node.args.get("offset"), node.args.get("default")
    if offset is not None and not (isinstance(offset, exp.Literal) and text(offset).isdigit()):
        raise Refused(node, f"{construct(node)} by a computed or negative number of rows", "A literal; lag() or lead()")
    parts = [w.write(node.this), *([w.write(offset)] if offset is not None else [])]
    if default is not None:
        w.same(node, node.this, default)
        parts.append(w.write(default))
    return f"{node.key}({', '.join(parts)})"


@rule("this", exp.FirstValue, exp.LastValue)
def _end(w: Writer, node: exp.Expr) -> str:
    return f"{_CALLS[type(node)]}({w.write(node.this)})"


@rule("this partition_by order spec alias over", exp.Window)
def _window(w: Writer, node: exp.Expr) -> str:
    called: exp.Expr = node.this
    w.kind(node)
    if not isinstance(called, (*_ORDERED, exp.AggFunc, exp.Filter)) or isinstance(
        called, exp.PercentileCont | exp.Median
    ):
        raise Refused(node, f"{construct(called)} over a window", "sum, avg, min, max, count, rank, lag, lead ..")
    if isinstance(called.this, exp.Distinct):
        raise Refused(node, f"{construct(called)} of distinct values over a window", "Make them distinct first")
    if alias := node.args.get("alias"):
        return f"{w.write(called)} OVER {name(alias.name)}"
    if isinstance(called, _ORDERED) and not node.args.get("order"):
        raise Refused(node, f"{construct(called)} without an order", "OVER (.. ORDER BY a key)")
    return f"{w.write(called)} OVER ({frame(w, node)})"


def frame(w: Writer, node: exp.Expr) -> str:
    """What stands in the brackets of a window, or of a named window's definition."""
    parts = []
    if by := node.args.get("partition_by"):
        parts.append(f"PARTITION BY {', '.join(map(w.write, by))}")
    order = node.args["order"].expressions if node.args.get("order") else []
    if order:
        parts.append(f"ORDER BY {', '.join(_ordered(w, item) for item in order)}")
    if spec := node.args.get("spec"):
        if spec.args.get("exclude"):
            raise Refused(node, "EXCLUDE in a frame", "Subtract the row itself")
        kind = spec.text("kind").upper()
        start = _bound(w, node, kind, order, spec.args.get("start"), spec.args.get("start_side"))
        end = _bound(w, node, kind, order, spec.args.get("end") or "CURRENT ROW", spec.args.get("end_side"))
        parts.append(f"{kind} BETWEEN {start} AND {end}")
    return " ".join(parts)


def _ordered(w: Writer, item: exp.Expr) -> str:
    nulls = "FIRST" if item.args.get("nulls_first") else "LAST"
    return f"{w.write(item.this)} {'DESC' if item.args.get('desc') else 'ASC'} NULLS {nulls}"


def _bound(w: Writer, node: exp.Expr, kind: str, order: list[exp.Expr], bound: object, side: object) -> str:
    if isinstance(bound, str):
        return f"{bound} {side}" if side else bound
    assert isinstance(bound, exp.Expr)
    if isinstance(bound, exp.Literal) and not bound.is_string and text(bound).isdigit():
        if kind == "ROWS" or (kind == "RANGE" and len(order) == 1 and w.kind(order[0].this) in WHOLE):
            return f"{text(bound)} {side}"
    elif kind == "RANGE" and len(order) == 1 and w.kind(order[0].this) in TIMES[1:] and isinstance(bound, exp.Interval):
        exact(w, bound, w.kind(order[0].this))
        return f"{interval(w, bound)} {side}"
    raise Refused(
        node, f"a {kind} frame of this kind", "ROWS n PRECEDING; RANGE n over whole numbers, RANGE INTERVAL over times"
    )
