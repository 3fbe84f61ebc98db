"""Rules for values: literals, columns, operators, conditions and casts."""

from __future__ import annotations

import re

from sqlglot import exp

from millrace.sql.dialect.table import Writer, construct, rule
from millrace.sql.dialect.times import ZONED, local, moment
from millrace.sql.dialect.words import SPARK, WHOLE, Refused, name, quoted, text

_ISO = {
    "DATE": r"\d{4}-\d\d-\d\d",
    "TIMESTAMP": r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d(\.\d{1,6})?)?",
    "TIMESTAMP WITH TIME ZONE": r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?",
}


@rule("this is_string", exp.Literal)
def _literal(w: Writer, node: exp.Expr) -> str:
    kind = w.kind(node)
    if kind == "VARCHAR":
        return quoted(text(node))
    return text(node) if kind in WHOLE else text(node) + "D"


@rule("this", exp.Null)
def _null(w: Writer, node: exp.Expr) -> str:
    return "NULL"


@rule("this", exp.Boolean)
def _boolean(w: Writer, node: exp.Expr) -> str:
    return "TRUE" if node.this else "FALSE"


@rule("this table", exp.Column)
def _column(w: Writer, node: exp.Expr) -> str:
    table = f"{name(node.text('table'))}." if node.args.get("table") else ""
    if isinstance(node.this, exp.Star):
        if any(node.this.args.values()):
            raise Refused(node, "* with exceptions", "Name the columns")
        return f"{table}*"
    w.kind(node)
    return table + name(node.name)


@rule("this", exp.Paren)
def _paren(w: Writer, node: exp.Expr) -> str:
    return f"({w.write(node.this)})"


@rule("this expression", exp.Mul)
def _multiply(w: Writer, node: exp.Expr) -> str:
    w.kind(node)
    return f"({w.number(node.this)} * {w.number(node.expression)})"


@rule("this expression typed", exp.Div)
def _divide(w: Writer, node: exp.Expr) -> str:
    by = node.expression.unnest()
    zero = isinstance(by, exp.Literal) and float(text(by)) == 0
    if not (isinstance(by, exp.Literal) and not zero or isinstance(by, exp.Nullif) and text(by.expression) == "0"):
        raise Refused(node, "/ by what may be zero", "x / nullif(y, 0)")
    return f"(CAST({w.number(node.this)} AS DOUBLE) / {w.number(node.expression)})"


@rule("this expression", exp.IntDiv, exp.Mod)
def _whole_divide(w: Writer, node: exp.Expr) -> str:
    if isinstance(node, exp.IntDiv) and not {w.kind(node.this), w.kind(node.expression)} <= {*WHOLE, '"NULL"'}:
        raise Refused(node, "// of fractions", "floor(x / nullif(y, 0))")
    sign = "DIV" if isinstance(node, exp.IntDiv) else "%"
    w.kind(node)
    return f"({w.number(node.this)} {sign} {w.number(node.expression)})"


@rule("this", exp.Neg)
def _negative(w: Writer, node: exp.Expr) -> str:
    w.kind(node)
    return f"(- {w.number(node.this)})"


_SIGNS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.NullSafeEQ: "<=>",
}


@rule("this expression", *_SIGNS)
def _compare(w: Writer, node: exp.Expr) -> str:
    w.same(node, node.this, node.expression)
    return f"({w.write(node.this)} {_SIGNS[type(node)]} {w.write(node.expression)})"


@rule("this expression", exp.NullSafeNEQ)
def _distinct_from(w: Writer, node: exp.Expr) -> str:
    w.same(node, node.this, node.expression)
    return f"(NOT ({w.write(node.this)} <=> {w.write(node.expression)}))"


@rule("this expression", exp.And, exp.Or)
def _logic(w: Writer, node: exp.Expr) -> str:
    sign = "AND" if isinstance(node, exp.And) else "OR"
    return f"({w.of(node.this, 'BOOLEAN')} {sign} {w.of(node.expression, 'BOOLEAN')})"


@rule("this", exp.Not)
def _not(w: Writer, node: exp.Expr) -> str:
    return f"(NOT {w.of(node.this, 'BOOLEAN')})"


@rule("this expression", exp.Is)
def _is(w: Writer, node: exp.Expr) -> str:
    if not isinstance(node.expression, exp.Null):
        w.of(node.this, "BOOLEAN")
    return f"({w.write(node.this)} IS {w.write(node.expression)})"


@rule("this low high", exp.Between)
def _between(w: Writer, node: exp.Expr) -> str:
    low, high = node.args["low"], node.args["high"]
    w.same(node, node.this, low, high)
    return f"({w.write(node.this)} BETWEEN {w.write(low)} AND {w.write(high)})"


@rule("this expressions", exp.In)
def _in(w: Writer, node: exp.Expr) -> str:
    w.same(node, node.this, *node.expressions)
    return f"({w.write(node.this)} IN ({', '.join(map(w.write, node.expressions))}))"


@rule("this ifs default", exp.Case)
def _case(w: Writer, node: exp.Expr) -> str:
    w.kind(node)
    arms, default, of = node.args["ifs"], node.args.get("default"), node.args.get("this")
    w.same(node, *(arm.args["true"] for arm in arms), *([default] if default else []))
    if of is not None:
        w.same(node, of, *(arm.this for arm in arms))
    whens = " ".join(
        f"WHEN {w.write(arm.this) if of is not None else w.of(arm.this, 'BOOLEAN')} THEN {w.write(arm.args['true'])}"
        for arm in arms
    )
    start = f"CASE {w.write(of)}" if of is not None else "CASE"
    return f"({start} {whens}{f' ELSE {w.write(default)}' if default is not None else ''} END)"


@rule("this true false", exp.If)
def _if(w: Writer, node: exp.Expr) -> str:
    w.kind(node)
    w.same(node, node.args["true"], node.args["false"])
    condition = w.of(node.this, "BOOLEAN")
    return f"if({condition}, {w.write(node.args['true'])}, {w.write(node.args['false'])})"


@rule("this expressions ignore_nulls", exp.Coalesce, exp.Least, exp.Greatest)
def _choose(w: Writer, node: exp.Expr) -> str:
    parts = [node.this, *node.expressions]
    w.kind(node)
    w.same(node, *parts)
    return f"{node.key}({', '.join(map(w.write, parts))})" if len(parts) > 1 else w.write(parts[0])


@rule("this expression", exp.Nullif)
def _nullif(w: Writer, node: exp.Expr) -> str:
    w.same(node, node.this, node.expression)
    return f"nullif({w.write(node.this)}, {w.write(node.expression)})"


@rule("this to safe", exp.Cast, exp.TryCast)
def _cast(w: Writer, node: exp.Expr) -> str:
    """A double becomes a whole number by rounding half to even, as in DuckDB; Spark would cut it off."""
    have, want = w.kind(node.this), w.kind(node)
    inner, target = node.this.unnest(), SPARK[want]
    call = "try_cast" if isinstance(node, exp.TryCast) else "CAST"
    if have == '"NULL"' or have == want:
        return f"CAST({w.write(node.this)} AS {target})"
    if want in _ISO and isinstance(inner, exp.Literal) and inner.is_string and re.fullmatch(_ISO[want], text(inner)):
        if want == ZONED and re.fullmatch(_ISO["TIMESTAMP"], text(inner)):  # a clock of the pipeline's zone
            return moment(w.zone, f"CAST({w.write(inner)} AS TIMESTAMP_NTZ)")
        return f"CAST({w.write(inner)} AS {target})"
    if want == ZONED and have in _ISO:
        return moment(w.zone, f"CAST({w.write(node.this)} AS TIMESTAMP_NTZ)")
    if have == ZONED and want in _ISO:
        return f"CAST({local(w.zone, w.write(node.this))} AS {target})"
    if have == "DOUBLE" and want in WHOLE:
        return f"{call}(rint({w.write(node.this)}) AS {target})"
    whole = (*WHOLE, "BOOLEAN")
    fine = (
        (have in whole and want in (*whole, "DOUBLE", "VARCHAR"))
        or (have == "DECIMAL" and want == "DOUBLE")
        or (have in _ISO and want in _ISO)
        or (have == "DATE" and want == "VARCHAR")
    )
    if not fine:
        more = "Give the column its type in its source" if have == "VARCHAR" else "See docs/scale.md"
        if want in _ISO and isinstance(inner, exp.Literal):
            more = "Write it as 2024-01-31, 2024-01-31 12:00:00 or, with a zone, 2024-01-31 12:00:00+00:00"
        raise Refused(node, f"{construct(node)} of {have} to {want}", more)
    return f"{call}({w.write(node.this)} AS {target})"
