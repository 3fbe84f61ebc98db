"""transform.sql of a proposal: the main source's usable columns passed through, and joins as a comment."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from millrace.proposal.delivery import Delivery
from millrace.proposal.guess import EVENT_TIME, Guess, key_of
from millrace.proposal.texts import keywords, sql, word


def sql_file(guess: Guess) -> str:
    """The text of transform.sql."""
    reserved = keywords()
    main = sql(guess.main.name, reserved)

    def column(name: str) -> str:
        return f"{main}.{sql(name, reserved)}"

    def made(name: str, called: str) -> str:
        return column(name) + ("" if name == called else f" AS {sql(called, reserved)}")

    lines = [*_head(guess), "SELECT"]
    items = [made(name, guess.names[name]) for name in guess.entity]
    items.append(f"{_moment(guess, column)} AS {EVENT_TIME}")
    items += [made(name, called) for name, called in guess.names.items() if name not in guess.entity]
    lines.append(",\n".join(f"    {item}" for item in items))
    lines.append(f"FROM {main}")
    lines.append("CROSS JOIN scope")
    for other in guess.others:
        lines += _join(guess, other, reserved)
    if guess.moment.column is not None:
        time = _moment(guess, column)
        lines.append(f"WHERE {time} >= scope.start_time AND {time} < scope.end_time")
    return "\n".join(lines) + "\n"


def _head(guess: Guess) -> Iterator[str]:
    views = [f"{d.name} ({'this partition' if d.named.key else 'static'})" for d in guess.deliveries]
    yield f"-- One row per {' and '.join(guess.names[name] for name in guess.entity)} of the partition."
    yield f"-- Views: {', '.join(views)}, scope (one row: partition_key, start_time, end_time)."
    yield "-- Hours, weekdays and dates are on the clocks of partition.timezone."
    if guess.moment.column is None:
        yield f"-- guessed: no column has times in the partition, so {EVENT_TIME} is its start; edit"
    else:
        yield f"-- guessed: {word(guess.moment.column)} dates a row, the first column with times in the partition; edit"
    yield "-- guessed: all texts, numbers and booleans are features. Leave out what is not known at that time; edit"
    left = [c for c in guess.main.of("timestamp", "date", "time") if c != guess.moment.column]
    if left:
        yield f"-- Times are no features by themselves: {', '.join(map(word, left))}. Take date_part of them."


def _moment(guess: Guess, column: Callable[[str], str]) -> str:
    moment = guess.moment
    if moment.column is None:
        return "scope.start_time"
    return f"CAST({column(moment.column)} AS TIMESTAMPTZ)" if moment.type == "date" else column(moment.column)


def _join(guess: Guess, other: Delivery, reserved: frozenset[str]) -> Iterator[str]:
    """How another source would be joined: by its key, where the main source has columns of those names."""
    name, main = sql(other.name, reserved), sql(guess.main.name, reserved)
    key = next((key for key in _keys(other) if all(c in guess.main.kinds for c in key)), None)
    if key is None:
        yield f"-- LEFT JOIN {name} ON ..  (no column that tells its rows apart is one of {main} too)"
        return
    on = " AND ".join(f"{name}.{sql(c, reserved)} = {main}.{sql(c, reserved)}" for c in key)
    yield f"-- LEFT JOIN {name} ON {on}  -- guessed: a key of {name} that {main} has too; edit"


def _keys(other: Delivery) -> Iterator[tuple[str, ...]]:
    yield from ((column,) for column in other.of("string", "integer") if other.unique(column))
    if key := key_of(other):
        yield key
