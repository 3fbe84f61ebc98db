"""Columns that pipeline.yaml names, against those that the SQL makes and the FeatureService serves."""

from __future__ import annotations

from collections.abc import Iterator

from millrace.checks.model_checks import unknown
from millrace.checks.readable import Readable
from millrace.checks.sql import UNKNOWN
from millrace.core.errors import nearest
from millrace.spec import PipelineSpec, ProjectTree
from millrace.spec.yaml_file import line_of

NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
           "FLOAT", "DOUBLE", "DECIMAL", "BOOLEAN")  # fmt: skip
CLASSES = ("VARCHAR", "ENUM", *(n for n in NUMBERS if n.endswith(("INT", "INTEGER"))))
"""Types of a multiclass label."""
STORED = (*NUMBERS, "UHUGEINT", "VARCHAR", "ENUM", "UUID", "JSON", "DATE")
"""Types that the transform job writes, with TIMESTAMPTZ; ENUM, UUID and JSON become text."""


def check_columns(
    tree: ProjectTree, readable: Readable, made: dict[str, str] | None, served: list[str] | None
) -> list[str]:
    """One line for each column that is not there. `made` or `served` None: not known, because that is wrong itself."""
    spec = readable.spec
    assert spec is not None
    path = tree.folder(spec.name) / "pipeline.yaml"
    sql = path.with_name("transform.sql")
    problems = [
        f"{sql}:1: column '{name}' is of type {kind}, which a Snapshot does not hold; cast it"
        for name, kind in (made or {}).items()
        if kind != UNKNOWN and kind.split("(")[0] not in STORED and not kind.startswith("TIMESTAMP")
    ] + [
        f"{sql}:1: column '{name}' is {kind}, a time without a zone, so nobody can tell which moment it is; allowed: "
        f"TIMESTAMPTZ. Say whose clock it is: {name} AT TIME ZONE '{spec.partition.timezone}'"
        for name, kind in (made or {}).items()
        if kind.startswith("TIMESTAMP") and not _zoned(kind)
    ]
    return problems + [
        f"{path}:{line_of(path, *loc)}: {'.'.join(map(str, loc))}: {text}"
        for loc, text in [
            *_made(spec, made),
            *_served(spec, served),
            *unknown(spec, made, served),
            *_classified(readable, made),
        ]
        if readable.knows(*loc)
    ]


def _zoned(kind: str) -> bool:
    return "TIME ZONE" in kind or kind.startswith("TIMESTAMPTZ")


def _made(spec: PipelineSpec, made: dict[str, str] | None) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if made is None:
        return
    times = [("features", "event_time", spec.features.event_time), ("features", "created_time", None)]
    times[1] = ("features", "created_time", spec.features.created_time)
    named: list[tuple[tuple[str | int, ...], str | None]] = [
        *((("features", "entity", n), column) for n, column in enumerate(spec.features.entity)),
        *(((group, key), column) for group, key, column in times),
        *([(("label", "column"), spec.label.column)] if spec.label else []),
    ]
    for loc, column in named:
        if column is not None and column not in made:
            yield loc, f"transform.sql does not make column '{column}'" + _near(column, made)
    for group, key, column in times:
        if made.get(column or "", UNKNOWN) != UNKNOWN and not made[str(column)].startswith("TIMESTAMP"):
            yield (group, key), f"'{column}' is {made[str(column)]} in transform.sql; allowed: TIMESTAMPTZ"
    if spec.label and made.get(spec.label.column, UNKNOWN) != UNKNOWN:
        kind = made[spec.label.column]
        allowed, words = (CLASSES, "text or an integer") if spec.label.task == "multiclass" else (
            NUMBERS, "a number or BOOLEAN")  # fmt: skip
        if kind.split("(")[0] not in allowed:
            yield ("label", "column"), f"'{spec.label.column}' is {kind} in transform.sql; allowed: {words}"


def _served(spec: PipelineSpec, served: list[str] | None) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if served is None:
        return
    if spec.label and spec.label.column in served:
        yield (
            ("label", "column"),
            (
                f"FeatureService '{spec.features.service}' serves '{spec.label.column}', the label: "
                "a model would learn the answer from itself"
            ),
        )
    for number, column in enumerate(spec.monitoring.columns if spec.monitoring else ()):
        if column not in served:
            yield (
                ("monitoring", "columns", number),
                (f"FeatureService '{spec.features.service}' does not serve '{column}'" + _near(column, served)),
            )


def _classified(readable: Readable, made: dict[str, str] | None) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """A misspelt column would keep the default classification without a word."""
    spec = readable.spec
    if made is None or spec is None or not readable.knows("sources"):
        return
    known = [*made, *(c for source in spec.sources.values() for c in source.columns)]
    for column in spec.columns:
        if column not in known:
            yield ("columns", column), "neither a source nor transform.sql has this column" + _near(column, known)


def _near(column: str, known: object) -> str:
    found = nearest(column, list(known))  # type: ignore[call-overload]
    return f"; did you mean '{found}'?" if found else ""
