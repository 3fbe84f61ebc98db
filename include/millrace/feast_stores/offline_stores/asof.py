"""The point-in-time join: for every entity row the feature row that was the latest known at its moment.

Two steps. The first joins keys and times only, by DuckDB's ASOF join, and so decides *which* row is meant; the second
fetches the features of just these rows. That is less to sort than a join of whole rows, and ties need to be settled
only among rows that matter. Nothing here depends on the order in which rows are read or on the number of threads.

Which row is meant, of those with equal keys and a time not after the moment: latest event time, then latest created
time (an unknown one is the earliest), then the greatest by all columns in the order of their names. With
`known_only` a row counts from its created time on, and one without a created time never.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import duckdb

from millrace.core.errors import SpecError
from millrace.feast_stores.offline_stores.scan import Scan
from millrace.sql.duck import name

ROW, MOMENT = "__millrace_row", "__millrace_moment"
"""Columns of the table `asked`: number of the entity row, and its moment as TIMESTAMPTZ."""

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT")
_FLOATS = ("FLOAT", "DOUBLE")
_HALF = 2**62
_WIDTH = 2**63
_EARLIEST = -(2**61)
"""Microseconds; some 70,000 years before all data, where a time to live may reach."""


@dataclass(frozen=True)
class View:
    """One feature view as the join sees it; columns are those of the scan."""

    scan: Scan
    keys: Sequence[tuple[str, str]]
    """(column of the entity rows, column of the source); none for a view without entities."""
    event: str
    created: str | None
    features: Sequence[tuple[str, str]]
    """(name in the result, column of the source)"""
    ttl: timedelta | None
    """None: a value lives for ever."""


def join(
    connection: duckdb.DuckDBPyConnection, views: Sequence[View], columns: Sequence[str], *, known_only: bool
) -> str:
    """Prepare the join of the table `asked` with these views and return the query of its result, in `asked`'s order.

    `columns` are those of `asked` that the result begins with. Raises SpecError for keys that cannot be compared.
    """
    select = [f"asked.{name(column)}" for column in columns]
    joins = []
    for number, view in enumerate(views):
        created = view.created if known_only else None
        _hits(connection, number, view, created)
        _rows(connection, number, view, created)
        on = " AND ".join(f"r{number}.{column} = h{number}.{column}" for column in _identity(view, created))
        joins.append(f"LEFT JOIN hits_{number} AS h{number} USING ({ROW}) LEFT JOIN rows_{number} AS r{number} ON {on}")
        select += [f"r{number}.f{index} AS {name(out)}" for index, (out, _) in enumerate(view.features)]
    return f"SELECT {', '.join(select)} FROM asked {' '.join(joins)} ORDER BY {ROW}"


def latest(
    connection: duckdb.DuckDBPyConnection,
    scan: Scan,
    keys: Sequence[str],
    event: str,
    created: str | None,
    columns: Sequence[str],
    where: str,
) -> str:
    """Query of the latest row per key among the rows that `where` keeps; ties are settled as in the join."""
    moment, expressions = scan.moment(event), [scan.value(key) for key in keys]
    grouped = "".join(f"{key} AS k{n}, " for n, key in enumerate(expressions))
    connection.execute(
        f"CREATE TEMP TABLE newest AS SELECT {grouped}max({moment}) AS event FROM {scan.sql} AS s WHERE {where}"
        + (" GROUP BY ALL" if keys else "")
    )
    same = [f"{key} IS NOT DISTINCT FROM w.k{n}" for n, key in enumerate(expressions)] + [f"{moment} = w.event"]
    found = (
        f"SELECT {', '.join(map(scan.value, columns))} FROM {scan.sql} AS s "
        f"SEMI JOIN newest AS w ON {' AND '.join(same)} WHERE {where}"
    )
    connection.execute(f"CREATE TEMP TABLE latest AS {found}")
    counted = "SELECT (SELECT count(*) FROM latest), (SELECT count(*) FROM newest WHERE event IS NOT NULL)"
    rows, groups = connection.execute(counted).fetchall()[0]
    if rows != groups:
        once = found + _first([*expressions, moment], scan, created)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE latest AS {once}")
    return "SELECT * FROM latest"


def _hits(connection: duckdb.DuckDBPyConnection, number: int, view: View, created: str | None) -> None:
    """Table hits_<number>: entity row -> keys, event time (and created time) of the row that is meant.

    Given `created`, the right side of the ASOF join is, for every moment at which a row becomes known, the best row
    known by then: a running maximum of (event, created), packed into one integer.
    """
    scan, keys = view.scan, [f"k{n}" for n in range(len(view.keys))]
    asked = {row[0]: row[1] for row in connection.execute("DESCRIBE asked").fetchall()}
    bounds = connection.execute(f"SELECT epoch_us(min({MOMENT})), epoch_us(max({MOMENT})) FROM asked").fetchall()[0]
    if bounds[0] is None:
        bounds = (0, 0)  # no entity row has a moment, so none is joined
    left = [f"{_comparable(view, mine, theirs, asked)} AS k{n}" for n, (mine, theirs) in enumerate(view.keys)]
    event = scan.moment(view.event)
    kept = [f"{event} <= make_timestamptz({bounds[1]})", *(f"{scan.value(key)} IS NOT NULL" for _, key in view.keys)]
    live = ""
    if view.ttl is not None:
        span = view.ttl // timedelta(microseconds=1)
        kept.append(f"{event} >= make_timestamptz({max(bounds[0] - span, _EARLIEST)})")
        live = f" WHERE epoch_us({MOMENT}) - epoch_us(event) <= {span}"
    right = ", ".join([*(f"{scan.value(key)} AS k{n}" for n, (_, key) in enumerate(view.keys)), f"{event} AS event"])
    carried = ", ".join([f"a.{ROW}", f"a.{MOMENT}", *(f"a.{key}" for key in keys)])
    if created is None:
        known = f"SELECT {right} FROM {scan.sql} AS s WHERE {' AND '.join(kept)}"
        found, when = f"{carried}, f.event", "f.event"
    else:
        kept.append(f"{scan.moment(created)} <= make_timestamptz({bounds[1]})")
        packed = f"(epoch_us(event) + {_HALF})::HUGEINT * {_WIDTH} + (epoch_us(created) + {_HALF})"
        within = f"PARTITION BY {', '.join(keys)} " if keys else ""
        known = (
            f"SELECT {''.join(key + ', ' for key in keys)}greatest(event, created) AS known, max({packed}) OVER "
            f"({within}ORDER BY greatest(event, created) RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS best "
            f"FROM (SELECT {right}, {scan.moment(created)} AS created FROM {scan.sql} AS s WHERE {' AND '.join(kept)})"
        )
        found = (
            f"{carried}, make_timestamptz((f.best // {_WIDTH} - {_HALF})::BIGINT) AS event, "
            f"make_timestamptz((f.best % {_WIDTH} - {_HALF})::BIGINT) AS created"
        )
        when = "f.known"
    on = " AND ".join([*(f"a.{key} = f.{key}" for key in keys), f"a.{MOMENT} >= {when}"])
    # Materialized, or the ASOF join computes the window anew for every part of its left side.
    connection.execute(
        f"CREATE TEMP TABLE hits_{number} AS WITH f AS MATERIALIZED ({known}), hit AS (SELECT {found} FROM "
        f"(SELECT {', '.join([ROW, MOMENT, *left])} FROM asked) AS a ASOF JOIN f ON {on}) "
        f"SELECT * EXCLUDE ({MOMENT}) FROM hit{live}"
    )


def _rows(connection: duckdb.DuckDBPyConnection, number: int, view: View, created: str | None) -> None:
    """Table rows_<number>: keys, times and features of the rows that are meant, each identity once."""
    scan = view.scan
    identity = {**{f"k{n}": scan.value(key) for n, (_, key) in enumerate(view.keys)}, "event": scan.moment(view.event)}
    if created is not None:
        identity["created"] = scan.moment(created)
    features = {f"f{n}": scan.value(column) for n, (_, column) in enumerate(view.features)}
    select = ", ".join(f"{expression} AS {column}" for column, expression in {**identity, **features}.items())
    same = " AND ".join(f"{expression} = w.{column}" for column, expression in identity.items())
    found = f"SELECT {select} FROM {scan.sql} AS s SEMI JOIN hits_{number} AS w ON {same}"
    connection.execute(f"CREATE TEMP TABLE rows_{number} AS {found}")
    counted = (
        f"SELECT (SELECT count(*) FROM rows_{number}), "
        f"(SELECT count(*) FROM (SELECT DISTINCT {', '.join(identity)} FROM hits_{number}))"
    )
    rows, identities = connection.execute(counted).fetchall()[0]
    if rows != identities:
        once = found + _first(list(identity.values()), scan, view.created)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE rows_{number} AS {once}")


def _identity(view: View, created: str | None) -> list[str]:
    return [*(f"k{n}" for n in range(len(view.keys))), "event", *(["created"] if created is not None else [])]


def _first(identity: Sequence[str], scan: Scan, created: str | None) -> str:
    """Keep, of rows that share an identity, the one that counts."""
    order = [f"{scan.moment(created)} DESC NULLS LAST"] if created else []
    order += [f"{scan.value(column)} DESC NULLS LAST" for column in sorted(scan.types)]
    return f" QUALIFY row_number() OVER (PARTITION BY {', '.join(identity)} ORDER BY {', '.join(order)}) = 1"


def _comparable(view: View, mine: str, theirs: str, asked: dict[str, str]) -> str:
    """A key of the entity rows as the source's type; a number with a fraction, or none, is no key of whole numbers."""
    have, want, column = asked[mine], view.scan.types[theirs], name(mine)
    if have == want:
        return column
    if want == "VARCHAR" and have.startswith("ENUM"):
        return f"{column}::VARCHAR"
    if want in _NUMBERS and have in _NUMBERS:
        return f"TRY_CAST({column} AS {want})"
    if want in _NUMBERS and have in _FLOATS:  # what pandas makes of whole numbers with a gap
        return f"CASE WHEN isfinite({column}) AND {column} = trunc({column}) THEN TRY_CAST({column} AS {want}) END"
    if want in _FLOATS and have in (*_NUMBERS, *_FLOATS):
        return f"{column}::{want}"
    if have == '"NULL"':
        return f"NULL::{want}"
    raise SpecError(
        f"join key '{mine}' is of another type in the entity rows than in the data",
        where=view.scan.where,
        given=have,
        allowed=want,
        next_step="Convert the entity rows",
    )
