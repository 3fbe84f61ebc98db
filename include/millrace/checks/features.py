"""Feature definitions against the spec and the columns that the SQL makes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from millrace.checks.readable import Readable
from millrace.checks.sql import UNKNOWN
from millrace.checks.words import attempt, near
from millrace.spec import PipelineSpec, ProjectTree
from millrace.spec.yaml_file import read_text

if TYPE_CHECKING:
    from millrace.checks.feast_files import FeastFiles
    from millrace.spec.feast_file import Definitions

_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT")
COMPATIBLE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("VARCHAR", "ENUM", "UUID", "JSON"), ("String",)),
    "BOOLEAN": ("Bool",),
    **dict.fromkeys(_INTEGERS, ("Int64", "Int32")),
    **dict.fromkeys(("BIGINT", "UINTEGER", "HUGEINT"), ("Int64",)),
    "FLOAT": ("Float32", "Float64"),
    "DOUBLE": ("Float64", "Float32"),
}
"""DuckDB type -> Feast types that can hold it, as the transform job writes it."""


def check_features(
    tree: ProjectTree, pipeline: str, read: Readable, files: FeastFiles, made: dict[str, str] | None
) -> tuple[list[str], list[str] | None]:
    """One line for each mistake, and the features that the spec's service serves, None when that is not known."""
    path, spec = tree.features_file(pipeline), read.spec
    if not path.is_file():
        return [], None  # said once, with the other files that a pipeline needs
    problems: list[str] = []
    text = attempt(problems, lambda: read_text(path))
    found = attempt(problems, lambda: files.describe(path))
    if text is None or found is None or spec is None:
        return problems, None
    if all(read.knows("features", key) for key in ("entity", "event_time", "created_time")):
        problems += [f"{path}:{_line(text, word)}: {problem}" for word, problem in _views(spec, found, made)]
    service = spec.features.service
    if not read.knows("features", "service"):
        return problems, None
    if service not in found.services:
        problems.append(
            f"{path}:1: no FeatureService '{service}', which features.service in pipeline.yaml names"
            + near(service, list(found.services))
        )
        return problems, None
    return problems, [ref.partition(":")[2] for ref in found.services[service]]


def _views(spec: PipelineSpec, definitions: Definitions, made: dict[str, str] | None) -> Iterator[tuple[str, str]]:
    """(word whose line is meant, problem) for the views over this pipeline's features."""
    wanted = f"millrace://{spec.name}/features"
    ours = [view for view, source in definitions.sources.items() if source.path == wanted]
    if not ours:
        paths = [source.path for source in definitions.sources.values()]
        yield (paths or [""])[0], f"no feature view reads {wanted}" + near(wanted, paths)
    for view in ours:
        source = definitions.sources[view]
        if set(definitions.join_keys[view]) != set(spec.features.entity):
            yield (
                view,
                (
                    f"view '{view}' joins on {_words(definitions.join_keys[view])}; features.entity in pipeline.yaml "
                    f"says {_words(spec.features.entity)}"
                ),
            )
        for key, said, asked in (
            ("event_time", source.timestamp_field, spec.features.event_time),
            ("created_time", source.created_timestamp_column, spec.features.created_time),
        ):
            if said != asked:
                yield (
                    said or view,
                    (
                        f"view '{view}' takes its {key} from {_words([said] if said else [])}; features.{key} in "
                        f"pipeline.yaml says {_words([asked] if asked else [])}"
                    ),
                )
        for feature, declared in {**definitions.views[view], **definitions.join_keys[view]}.items():
            if made is not None and (problem := _type(feature, declared, made)):
                yield feature, problem


def _type(feature: str, declared: str, made: dict[str, str]) -> str | None:
    kind = made.get(feature)
    if kind is None:
        return f"feature '{feature}' is no column that transform.sql makes{near(feature, list(made))}"
    if not declared or kind == UNKNOWN:  # left to Feast, which takes the column's
        return None
    if kind.startswith("DECIMAL"):
        allowed: tuple[str, ...] = ("Int64",) if kind.endswith(",0)") else ("Float64",)
    elif kind.startswith("TIMESTAMP"):
        allowed = ("UnixTimestamp",)
    else:
        allowed = COMPATIBLE.get(kind.split("(")[0], ())
    if not allowed:
        return f"feature '{feature}' is {kind} in transform.sql, which Feast cannot serve; cast it there"
    if declared not in allowed:
        return f"feature '{feature}' is {declared}, transform.sql makes {kind}; allowed: {', '.join(allowed)}"
    return None


def _words(names: object) -> str:
    listed = sorted(names)  # type: ignore[call-overload]
    return ", ".join(f"'{name}'" for name in listed) or "nothing"


def _line(text: str, word: str) -> int:
    """First line of a Feast file that has the word in quotes; 1 when none has."""
    for number, line in enumerate(text.splitlines(), start=1):
        if word and re.search(rf"""(['"]){re.escape(word)}\1""", line):
            return number
    return 1
