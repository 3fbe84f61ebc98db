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
    """(keys, what is wrong) for each column of `evaluation.checks`. None where it is not known what there is."""
    checks = spec.evaluation.checks if spec.evaluation else ()
    for loc, column in grouped(checks) if made is not None else ():
        if column not in made:  # type: ignore[operator]
            yield ("evaluation", "checks", *loc), f"transform.sql does not make column '{column}'{near(column, made)}"
    for loc, column, kind in perturbed(checks) if served is not None else ():
        where: tuple[str | int, ...] = ("evaluation", "checks", *loc)
        if column not in served:  # type: ignore[operator]
            text = f"FeatureService '{spec.features.service}' does not serve '{column}'{near(column, served)}"
            yield where, text
        elif kind and (given := (made or {}).get(column, UNKNOWN)) != UNKNOWN:
            found = "category" if given.split("(")[0] in CATEGORIES else "number"
            if found != kind:
                yield where, f"'{column}' is {given} in transform.sql, and this perturbation is of a {kind}"
