"""Rules for functions of texts and of numbers."""

from __future__ import annotations

from sqlglot import exp

from millrace.sql.dialect.table import Writer, construct, rule
from millrace.sql.dialect.words import SPARK, WHOLE, Refused, text

_HUGE = "4503599627370496D"
"""2^52: from here on every double is whole."""


@rule("this expression", exp.DPipe)
def _join_texts(w: Writer, node: exp.Expr) -> str:
    return f"({w.of(node.this, 'VARCHAR')} || {w.of(node.expression, 'VARCHAR')})"


@rule("expressions", exp.Concat)
def _concat(w: Writer, node: exp.Expr) -> str:
    """DuckDB leaves nulls out, Spark makes the whole null."""
    parts = [f"coalesce({w.of(part, 'VARCHAR')}, '')" for part in node.expressions]
    return f"concat({', '.join(parts)})"


@rule("expressions", exp.ConcatWs)
def _concat_ws(w: Writer, node: exp.Expr) -> str:
    return f"concat_ws({', '.join(w.of(part, 'VARCHAR') for part in node.expressions)})"


@rule("this expression fill_pattern is_left", exp.Pad)
def _pad(w: Writer, node: exp.Expr) -> str:
    width = w.count(node, node.expression, 0)
    fill = node.args.get("fill_pattern")
    if not isinstance(fill, exp.Literal) or not text(fill):
        raise Refused(node, construct(node), "The text to fill with as a literal, '0'")
    call = "lpad" if node.args.get("is_left") else "rpad"
    return f"{call}({w.of(node.this, 'VARCHAR')}, {width}, {w.write(fill)})"


@rule("this start length", exp.Substring)
def _substring(w: Writer, node: exp.Expr) -> str:
    """In DuckDB a start of 0 is the place before the first letter, in Spark the first letter."""
    start, length = w.count(node, node.args["start"], None), node.args.get("length")
    of = w.of(node.this, "VARCHAR")
    if length is None:
        return f"substr({of}, {start or 1})"
    count = w.count(node, length, 0)
    return f"substr({of}, {start or 1}, {count if start else max(count - 1, 0)})"


@rule("this expression", exp.Left, exp.Right)
def _end(w: Writer, node: exp.Expr) -> str:
    return f"{node.key}({w.of(node.this, 'VARCHAR')}, {w.count(node, node.expression, 0)})"


@rule("this", exp.Length)
def _length(w: Writer, node: exp.Expr) -> str:
    return f"CAST(length({w.of(node.this, 'VARCHAR')}) AS BIGINT)"


@rule("this position", exp.Trim)
def _trim(w: Writer, node: exp.Expr) -> str:
    call = {None: "trim", "LEADING": "ltrim", "TRAILING": "rtrim"}[node.args.get("position")]
    return f"{call}({w.of(node.this, 'VARCHAR')})"


@rule("this expression replacement", exp.Replace)
def _replace(w: Writer, node: exp.Expr) -> str:
    parts = [node.this, node.expression, node.args["replacement"]]
    return f"replace({', '.join(w.of(part, 'VARCHAR') for part in parts)})"


@rule("this expression", exp.StartsWith, exp.EndsWith, exp.Contains)
def _holds(w: Writer, node: exp.Expr) -> str:
    return f"{node.key}({w.of(node.this, 'VARCHAR')}, {w.of(node.expression, 'VARCHAR')})"


@rule("this expression negate", exp.Like)
def _like(w: Writer, node: exp.Expr) -> str:
    if not isinstance(node.expression, exp.Literal) or "\\" in text(node.expression):
        raise Refused(node, "LIKE with a computed pattern or a backslash", "A literal pattern of letters, % and _")
    word = "NOT LIKE" if node.args.get("negate") else "LIKE"
    return f"({w.of(node.this, 'VARCHAR')} {word} {w.write(node.expression)})"


@rule("this", exp.Abs, exp.Sqrt, exp.Exp)
def _math(w: Writer, node: exp.Expr) -> str:
    return f"{node.key}({w.number(node.this)})"


@rule("this expression", exp.Pow)
def _power(w: Writer, node: exp.Expr) -> str:
    return f"pow({w.number(node.this)}, {w.number(node.expression)})"


@rule("this expression", exp.Ln, exp.Log)
def _log(w: Writer, node: exp.Expr) -> str:
    """The logarithm of 0 is minus infinity and of less not a number; Spark says null to both."""
    base, of = (node.this, node.expression) if node.args.get("expression") else (None, node.this)
    if base is not None and not (isinstance(base, exp.Literal) and text(base) in ("2", "10")):
        raise Refused(node, "log() to another base", "ln(x) / ln(b)")
    call = "ln" if isinstance(node, exp.Ln) else "log2" if base is not None and text(base) == "2" else "log10"
    x = f"CAST({w.number(of)} AS DOUBLE)"
    return (
        f"(CASE WHEN {x} = 0D THEN CAST('-Infinity' AS DOUBLE) WHEN {x} < 0D THEN CAST('NaN' AS DOUBLE) "
        f"ELSE {call}({x}) END)"
    )


@rule("this", exp.Floor, exp.Ceil)
def _whole(w: Writer, node: exp.Expr) -> str:
    """Spark's answer is a BIGINT, which holds neither 1e300 nor what is not a number."""
    x = w.number(node.this)
    if w.kind(node.this) in WHOLE:
        return f"CAST({x} AS {SPARK[w.kind(node)]})"
    return f"(CASE WHEN abs({x}) < {_HUGE} THEN CAST({node.key}({x}) AS DOUBLE) ELSE {x} END)"


@rule("this decimals", exp.Round)
def _round(w: Writer, node: exp.Expr) -> str:
    digits = node.args.get("decimals")
    places = 0 if digits is None else w.count(node, digits, 0)
    if places and w.kind(node.this) not in WHOLE:
        raise Refused(node, "round() to a place after the point", "Keep the number as it is, or round(x)")
    return f"round({w.number(node.this)}, {places})"


@rule("this", exp.IsNan)
def _nan(w: Writer, node: exp.Expr) -> str:
    x = w.of(node.this, "number")
    return f"(CASE WHEN {x} IS NOT NULL THEN isnan({x}) END)"
