"""Rules for times: intervals, parts of a moment, differences, time zones.

DuckDB reads a moment on the clocks of the pipeline's zone. Spark's session is in UTC, where every conversion is exact,
and the zone is written out: of two moments with one clock Spark's own casts take the earlier, DuckDB the later.
"""

from __future__ import annotations

from sqlglot import exp

from millrace.sql.dialect.table import INSTEAD, Writer, construct, rule
from millrace.sql.dialect.words import SPARK, TIMES, WHOLE, Refused, quoted, text

ZONED = "TIMESTAMP WITH TIME ZONE"
_MICROS = {
    "MICROSECOND": 1, "MILLISECOND": 1000, "SECOND": 1_000_000, "MINUTE": 60_000_000, "HOUR": 3_600_000_000,
    "DAY": 86_400_000_000, "WEEK": 604_800_000_000,
}  # fmt: skip
_PARTS = {
    "YEAR": "year({})", "QUARTER": "quarter({})", "MONTH": "month({})", "DAY": "day({})", "DOY": "dayofyear({})",
    "WEEK": "weekofyear({})", "DOW": "(dayofweek({}) - 1)", "ISODOW": "(weekday({}) + 1)", "HOUR": "hour({})",
    "MINUTE": "minute({})", "SECOND": "second({})",
}  # fmt: skip
"""Part -> Spark's. DuckDB counts Sunday as 0 and gives whole seconds."""
_FUNCTIONS: dict[type[exp.Expr], str] = {
    exp.Year: "YEAR", exp.Quarter: "QUARTER", exp.Month: "MONTH", exp.Day: "DAY", exp.DayOfMonth: "DAY",
    exp.DayOfYear: "DOY", exp.Week: "WEEK", exp.WeekOfYear: "WEEK", exp.DayOfWeek: "DOW", exp.DayOfWeekIso: "ISODOW",
    exp.Hour: "HOUR", exp.Minute: "MINUTE", exp.Second: "SECOND",
}  # fmt: skip


@rule("this expression", exp.Add, exp.Sub)
def _add(w: Writer, node: exp.Expr) -> str:
    left, right, sign = node.this, node.expression, "+" if isinstance(node, exp.Add) else "-"
    if sign == "+" and w.kind(left) == "INTERVAL":
        left, right = right, left
    kinds = w.kind(left), w.kind(right)
    if kinds[1] == "INTERVAL" and kinds[0] in TIMES:
        exact(w, right, kinds[0])
        moment = f"CAST({w.write(left)} AS TIMESTAMP_NTZ)" if kinds[0] == "DATE" else w.write(left)
        return f"({moment} {sign} {interval(w, right)})"
    if kinds == ("DATE", "DATE") and sign == "-":
        return f"CAST(datediff({w.write(left)}, {w.write(right)}) AS BIGINT)"
    if kinds[0] == "DATE" and kinds[1] in WHOLE:
        call = "date_add" if sign == "+" else "date_sub"
        return f"{call}({w.write(left)}, CAST({w.write(right)} AS INT))"
    if kinds[0] in TIMES:
        raise Refused(node, f"{sign} of {kinds[0]} and {kinds[1]}", "epoch(a) - epoch(b), or date_diff('hour', b, a)")
    w.kind(node)
    return f"({w.number(left)} {sign} {w.number(right)})"


def interval(w: Writer, node: exp.Expr) -> str:
    """An interval as Spark has it: one literal of one unit, or a whole number times one."""
    node = node.unnest()
    if isinstance(node, exp.Mul):
        one, many = (node.this, node.expression) if w.kind(node.this) == "INTERVAL" else (node.expression, node.this)
        return f"{_times(w, many)} * {interval(w, one)}"
    if isinstance(node, exp.Interval) and isinstance(node.args.get("unit"), exp.Var):
        unit = node.args["unit"].name.upper().removesuffix("S")
        if unit in (*_MICROS, "MONTH", "YEAR"):
            if isinstance(node.this, exp.Literal) and text(node.this).isdigit():
                return _interval(int(text(node.this)), unit)
            if not isinstance(node.this, exp.Literal):
                return f"{_times(w, node.this)} * {_interval(1, unit)}"
    raise Refused(node, "an interval of several units, or computed", INSTEAD[exp.Interval])


def exact(w: Writer, node: exp.Expr, kind: str) -> None:
    """Refuse days and longer added to a moment, where its zone's days may have 23 or 25 hours."""
    unit = next((i.text("unit").upper().removesuffix("S") for i in node.find_all(exp.Interval)), "")
    if kind == ZONED and unit in ("DAY", "WEEK", "MONTH", "YEAR") and not _fixed(w.zone):
        raise Refused(
            node, f"{unit.lower()}s added to a moment in {w.zone}",
            f"24 * INTERVAL 1 HOUR for a length of time; by the calendar (t AT TIME ZONE '{w.zone}' + INTERVAL 1 DAY) "
            f"AT TIME ZONE '{w.zone}'",
        )  # fmt: skip


def _fixed(zone: str) -> bool:
    """Whether a zone never had another offset."""
    return zone == "UTC" or zone.startswith("Etc/")


def local(zone: str, x: str) -> str:
    """The clock of a zone at a moment."""
    clock = f"CAST({x} AS TIMESTAMP_NTZ)"
    return clock if zone == "UTC" else f"convert_timezone('UTC', {quoted(zone)}, {clock})"


def moment(zone: str, x: str) -> str:
    """The moment at which a zone's clocks show `x`, a TIMESTAMP_NTZ; the later one, where they show it twice."""
    if zone == "UTC":
        return f"CAST({x} AS TIMESTAMP)"
    there = quoted(zone)
    found = f"convert_timezone({there}, 'UTC', {x})"
    whens = "".join(
        f"WHEN convert_timezone('UTC', {there}, {found} + INTERVAL '{minutes}' MINUTE) = {x} "
        f"THEN {found} + INTERVAL '{minutes}' MINUTE "
        for minutes in (120, 60, 30)  # how far clocks go back: Troll, nearly everywhere, Lord Howe
    )
    return f"CAST(CASE {whens}ELSE {found} END AS TIMESTAMP)"


def _interval(count: int, unit: str) -> str:
    """All of one of Spark's two interval types, because the bounds of a frame must be."""
    if unit in ("MONTH", "YEAR"):
        return f"INTERVAL '{count}' {unit}"
    seconds, micros = divmod(count * _MICROS[unit], 1_000_000)
    days, rest = divmod(seconds, 86_400)
    return f"INTERVAL '{days} {rest // 3600}:{rest // 60 % 60}:{rest % 60}.{micros:06d}' DAY TO SECOND"


def _times(w: Writer, node: exp.Expr) -> str:
    if w.kind(node) not in (*WHOLE, '"NULL"'):
        raise Refused(node, "an interval times a fraction", "Count in a smaller unit: x * INTERVAL 1 SECOND")
    return f"CAST({w.write(node)} AS BIGINT)"


def _part(w: Writer, node: exp.Expr, of: exp.Expr, part: str) -> str:
    kind, x = w.kind(of), w.of(of, *TIMES)
    if part == "EPOCH":
        return f"(CAST(unix_micros(CAST({x} AS TIMESTAMP)) AS DOUBLE) / 1000000D)"
    if part not in _PARTS or (kind == "DATE" and part in ("HOUR", "MINUTE", "SECOND")):
        raise Refused(node, f"{part.lower()} of {kind}", f"One of {', '.join(_PARTS).lower()}, epoch")
    return f"CAST({_PARTS[part].format(local(w.zone, x) if kind == ZONED else x)} AS BIGINT)"


@rule("this expression", exp.Extract)
def _extract(w: Writer, node: exp.Expr) -> str:
    part = node.name.upper()
    return _part(w, node, node.expression, part)


@rule("this", *_FUNCTIONS)
def _named_part(w: Writer, node: exp.Expr) -> str:
    return _part(w, node, node.this, _FUNCTIONS[type(node)])


@rule("this", exp.TimeToUnix)
def _epoch(w: Writer, node: exp.Expr) -> str:
    return _part(w, node, node.this, "EPOCH")


@rule("this expression unit", exp.DateDiff)
def _difference(w: Writer, node: exp.Expr) -> str:
    """DuckDB counts the boundaries that lie between, Spark the whole units that passed."""
    until, since, unit = node.this, node.expression, node.text("unit").upper().removesuffix("S")
    if w.kind(until) != w.kind(since) or w.kind(until) not in TIMES:
        raise Refused(node, "date_diff() of two types", "CAST one to the other's type")
    b, a, zoned = w.write(until), w.write(since), w.kind(until) == ZONED
    if unit in ("SECOND", "MINUTE", "HOUR") and w.kind(until) != "DATE":
        late, soon = (_floor(w.zone if zoned else "UTC", unit, f"CAST({x} AS TIMESTAMP)") for x in (b, a))
        return f"((unix_micros({late}) - unix_micros({soon})) DIV {_MICROS[unit]})"
    if unit == "DAY" and zoned and not _fixed(w.zone):
        raise Refused(node, f"date_diff() in days of moments in {w.zone}", "date_diff('day', a::DATE, b::DATE)")
    if zoned:
        b, a = local(w.zone, b), local(w.zone, a)
    if unit == "DAY":
        return f"CAST(datediff(CAST({b} AS DATE), CAST({a} AS DATE)) AS BIGINT)"
    if unit == "MONTH":
        return f"CAST((year({b}) - year({a})) * 12 + month({b}) - month({a}) AS BIGINT)"
    if unit == "YEAR":
        return f"CAST(year({b}) - year({a}) AS BIGINT)"
    raise Refused(node, f"date_diff() in {unit.lower()}s", "second, minute, hour (of timestamps), day, month, year")


@rule("this unit", exp.TimestampTrunc, exp.DateTrunc)
def _truncate(w: Writer, node: exp.Expr) -> str:
    unit = node.text("unit").upper()
    if unit not in ("SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "QUARTER", "YEAR"):
        raise Refused(
            node, f"date_trunc() to '{unit.lower()}'", "second, minute, hour, day, week, month, quarter, year"
        )
    x = w.of(node.this, *TIMES)
    if w.kind(node.this) == ZONED:
        return _floor(w.zone, unit, x)
    return f"CAST(date_trunc('{unit}', {x}) AS {SPARK[w.kind(node)]})"


def _floor(zone: str, unit: str, x: str) -> str:
    """The moment at which a unit began on a zone's clocks; of an hour that comes twice the later one, as in DuckDB."""
    if zone == "UTC":
        return f"date_trunc('{unit}', {x})"
    if unit in ("SECOND", "MINUTE"):
        past = f"pmod(unix_micros(CAST({local(zone, x)} AS TIMESTAMP)), {_MICROS[unit]})"
        return f"timestamp_micros(unix_micros({x}) - {past})"
    return moment(zone, f"CAST(date_trunc('{unit}', {local(zone, x)}) AS TIMESTAMP_NTZ)")


@rule("year month day", exp.DateFromParts)
def _date(w: Writer, node: exp.Expr) -> str:
    parts = [node.args[part] for part in ("year", "month", "day")]
    if any(w.kind(part) not in (*WHOLE, '"NULL"') for part in parts):
        raise Refused(node, "make_date() of fractions", "CAST them AS BIGINT")
    return f"make_date({', '.join(f'CAST({w.write(part)} AS INT)' for part in parts)})"


@rule("this zone", exp.AtTimeZone)
def _zone(w: Writer, node: exp.Expr) -> str:
    """A clock that stands twice when clocks go back is the later moment in DuckDB, the earlier one in Spark."""
    zone, kind = node.args["zone"], w.kind(node.this)
    if not isinstance(zone, exp.Literal) or ("/" not in text(zone) and text(zone) != "UTC"):
        raise Refused(node, "AT TIME ZONE with a short or computed name", "'Europe/Rome', or 'UTC'")
    x = w.of(node.this, "TIMESTAMP", ZONED)
    return local(text(zone), x) if kind == ZONED else moment(text(zone), x)


@rule("this unit", exp.Interval)
def _bare(w: Writer, node: exp.Expr) -> str:
    raise Refused(node, f"{construct(node)} by itself", INSTEAD[exp.Interval])
