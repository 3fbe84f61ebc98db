"""Suites of a proposal: columns, nulls and keys. Bounds and sets would be values of the data, so they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from millrace.proposal.delivery import Delivery
from millrace.proposal.guess import EVENT_TIME, Guess, key_of
from millrace.proposal.texts import guessed, words


def suites(guess: Guess) -> dict[str, str]:
    """File -> text: one suite for each source, and one for the features."""
    made = {delivery.name: _source(delivery, guess) for delivery in guess.deliveries}
    name = "features" if "features" not in made else "made"
    return {f"suites/{key}.yaml": text for key, text in (made | {name: _features(guess)}).items()}


def features_suite(guess: Guess) -> str:
    """File of the suite of the features: another name where a source has that one."""
    return list(suites(guess))[-1]


def _source(delivery: Delivery, guess: Guess) -> str:
    key: Sequence[str] = key_of(delivery) or ()
    if delivery is guess.main:
        beside = [] if delivery.unique(*guess.entity) or not guess.moment.column else [guess.moment.column]
        key = [*guess.entity, *beside]
    full = [column for column in delivery.kinds if delivery.full(column)]
    return _text(delivery.name, list(delivery.kinds), key, full)


def _features(guess: Guess) -> str:
    entity = [guess.names[c] for c in guess.entity]
    key = entity if guess.main.unique(*guess.entity) else [*entity, EVENT_TIME]
    full = [name for column, name in guess.names.items() if guess.main.full(column)]
    return _text("features", [*entity, EVENT_TIME, *guess.features], key, [*full, EVENT_TIME])


def _text(name: str, columns: Sequence[str], key: Sequence[str], full: Sequence[str]) -> str:
    return "\n".join([f"name: {name}", "expectations:", *_expectations(columns, key, full), *_HINT]) + "\n"


def _expectations(columns: Sequence[str], key: Sequence[str], full: Sequence[str]) -> Iterator[str]:
    yield "  - type: expect_table_row_count_to_be_between"
    yield f"    kwargs: {{min_value: 1}}{guessed('an empty delivery is a mistake; say how many rows are usual')}"
    yield "  - type: expect_table_columns_to_match_set"
    yield f"    kwargs: {{column_set: {words(columns)}, exact_match: true}}"
    if len(key) == 1:
        yield "  - type: expect_column_values_to_be_unique"
        yield f"    kwargs: {{column: {words(key)[1:-1]}}}{guessed('no value stands twice')}"
    elif key:
        yield "  - type: expect_compound_columns_to_be_unique"
        yield f"    kwargs: {{column_list: {words(key)}}}{guessed('no two rows are alike in these')}"
    for column in full:
        yield "  - type: expect_column_values_to_not_be_null"
        yield f"    kwargs: {{column: {words([column])[1:-1]}}}{guessed('no null was seen')}"


_HINT = (
    "  # Bounds and sets of values are yours to say; none are taken from the data, so that none stand in this file:",
    "  # - type: expect_column_values_to_be_between",
    "  #   kwargs: {column: .., min_value: .., max_value: ..}",
    "  # - type: expect_column_values_to_be_in_set",
    "  #   kwargs: {column: .., value_set: [.., ..]}",
)
