"""Columns that model checks name, against those that the SQL makes and the FeatureService serves."""

from __future__ import annotations

from collections.abc import Iterator

from millrace.checks.sql import UNKNOWN
from millrace.checks.words import near
from millrace.spec import PipelineSpec
from millrace.spec.model_checks import grouped, perturbed

CATEGORIES = ("VARCHAR", "ENUM", "UUID", "JSON", "BOOLEAN")
"""Types whose values become categories of a model."""


def unknown(
    spec: PipelineSpec, made: dict[str, str] | None, served: list[str] | None
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """(keys, what is wrong) for each column of `evaluation`. None where it is not known what there is."""
    checks = spec.evaluation.checks if spec.evaluation else ()
    slices = spec.evaluation.duel.slices.columns if spec.evaluation else ()
    for place, column in enumerate(slices) if made is not None else ():
        if column not in made:  # type: ignore[operator]
            where = ("evaluation", "duel", "slices", "columns", place)
            yield where, f"transform.sql does not make column '{column}'{near(column, made)}"
    for loc, column in grouped(checks) if made is not None else ():
        if column not in made:  # type: ignore[operator]
            yield ("evaluation", "checks", *loc), f"transform.sql does not make column '{column}'{near(column, made)}"
    for loc, column, kind in perturbed(checks) if served is not None else ():
        below: tuple[str | int, ...] = ("evaluation", "checks", *loc)
        if column not in served:  # type: ignore[operator]
            text = f"FeatureService '{spec.features.service}' does not serve '{column}'{near(column, served)}"
            yield below, text
        elif kind and (given := (made or {}).get(column, UNKNOWN)) != UNKNOWN:
            found = "category" if given.split("(")[0] in CATEGORIES else "number"
            if found != kind:
                yield below, f"'{column}' is {given} in transform.sql, and this perturbation is of a {kind}"
