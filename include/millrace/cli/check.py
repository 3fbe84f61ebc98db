"""`millrace check`: each file of a pipeline by itself, then against the others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from millrace.errors import MillraceError, nearest
from millrace.spec import PipelineSpec, Placed, ProjectTree

SQL_TYPES = {
    "string": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN", "timestamp": "TIMESTAMPTZ",
}  # fmt: skip
# DuckDB type -> Feast types that can hold it.
COMPATIBLE = {
    "VARCHAR": {"String"},
    "BOOLEAN": {"Bool"},
    **{t: {"Int64", "Int32"} for t in ("TINYINT", "SMALLINT", "INTEGER")},
    **{t: {"Int64"} for t in ("BIGINT", "UINTEGER", "USMALLINT", "UTINYINT", "HUGEINT")},
    "FLOAT": {"Float32", "Float64"},
    "DOUBLE": {"Float64", "Float32"},
    "DECIMAL": {"Float64"},
    "TIMESTAMP": {"UnixTimestamp"},
    "TIMESTAMP WITH TIME ZONE": {"UnixTimestamp"},
}


def check(tree: ProjectTree, pipelines: list[str]) -> list[str]:
    """Return every problem of the pipelines, a line or more each, with file and line where known."""
    problems: list[str] = []
    _collect(problems, lambda: tree.project)
    environments = sorted(p.stem for p in (tree.root / "include" / "environments").glob("*.yaml"))
    for name in environments:
        _collect(problems, partial(tree.environment, name))
    for pipeline in pipelines:
        problems += _pipeline(tree, pipeline, environments)
    return list(dict.fromkeys(problems))


def _pipeline(tree: ProjectTree, pipeline: str, environments: list[str]) -> list[str]:
    problems: list[str] = []
    spec = _collect(problems, lambda: tree.spec(pipeline))
    if spec is None:
        return problems
    for name in environments:
        _collect(problems, partial(Placed.of, tree, name, pipeline))
    folder = tree.folder(pipeline)
    made = _collect(problems, lambda: sql_columns(tree, spec))
    if made is not None:
        problems += [f"{folder / 'transform.sql'}: {text}" for text in _output(spec, made)]
    for name, source in spec.sources.items():
        problems += _suite(tree, spec, source.gate, list(source.columns), f"source '{name}'")
    problems += _suite(tree, spec, spec.features.gate, list(made) if made else None, "transform.sql")
    problems += _features(tree, spec, made)
    return problems


def sql_columns(tree: ProjectTree, spec: PipelineSpec) -> dict[str, str]:
    """Column -> DuckDB type of what transform.sql makes, bound against empty sources. Raises SpecError."""
    import duckdb

    from millrace.errors import SpecError

    path = tree.folder(spec.name) / "transform.sql"
    try:
        sql = path.read_text(encoding="utf-8")
    except OSError as err:
        raise SpecError("there is no such file", where=str(path)) from err
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET autoinstall_known_extensions = false")
    for name, source in spec.sources.items():
        columns = ", ".join(f'"{c}" {SQL_TYPES[source.types.get(c, "string")]}' for c in source.columns)
        connection.execute(f'CREATE TABLE "{name}" ({columns})')
    connection.execute("CREATE TABLE scope (partition_key VARCHAR, start_time TIMESTAMPTZ, end_time TIMESTAMPTZ)")
    try:
        relation = connection.sql(sql)
        return {name: str(kind) for name, kind in zip(relation.columns, relation.types, strict=True)}
    except duckdb.Error as err:
        text = str(err)
        line = re.search(r"LINE (\d+):", text)
        raise SpecError(text.splitlines()[0], where=f"{path}:{line.group(1)}" if line else str(path)) from None
    except AttributeError as err:
        raise SpecError("the file must hold one SELECT", where=str(path)) from err
    finally:
        connection.close()


def _output(spec: PipelineSpec, made: dict[str, str]) -> Iterator[str]:
    needed = {column: "features.entity" for column in spec.features.entity}
    needed[spec.features.event_time] = "features.event_time"
    if spec.features.created_time:
        needed[spec.features.created_time] = "features.created_time"
    if spec.label:
        needed[spec.label.column] = "label.column"
    for column, why in needed.items():
        if column not in made:
            yield f"the SQL does not make column '{column}' ({why})" + _near(column, made)
    for column in spec.monitoring.columns if spec.monitoring else ():
        if column not in made:
            yield f"monitoring.columns names '{column}', which the SQL does not make" + _near(column, made)
    kind = made.get(spec.features.event_time, "TIMESTAMP")
    if not kind.startswith("TIMESTAMP"):
        yield f"event time '{spec.features.event_time}' is {kind}; allowed: TIMESTAMPTZ"


def _suite(tree: ProjectTree, spec: PipelineSpec, name: str, columns: list[str] | None, what: str) -> list[str]:
    from millrace.gates.suite import check_suite

    path = tree.folder(spec.name) / name
    problems: list[str] = []
    named = _collect(problems, lambda: check_suite(tree.suite(spec.name, name), str(path)))
    for column in named or []:
        if columns is not None and column not in columns:
            problems.append(f"{path}:{_line(path, column)}: column '{column}' is not made by {what}"
                            + _near(column, columns))  # fmt: skip
    return problems


def _features(tree: ProjectTree, spec: PipelineSpec, made: dict[str, str] | None) -> list[str]:
    from millrace.feast_stores.apply import describe

    path = tree.features_file(spec.name)
    problems: list[str] = []
    if not path.is_file():
        return [f"{path}: there is no such file; it defines the pipeline's Feast objects"]
    found = _collect(problems, lambda: describe(path.read_text(encoding="utf-8"), str(path)))
    if found is None:
        return problems
    if spec.features.service not in found.services:
        return [f"{path}: no FeatureService '{spec.features.service}' (features.service in pipeline.yaml)"
                + _near(spec.features.service, found.services)]  # fmt: skip
    wanted = f"millrace://{spec.name}/features"
    for ref in found.services[spec.features.service]:
        view, _, feature = ref.partition(":")
        where = f"{path}:{_line(path, feature)}"
        source = found.sources.get(view)
        if source is None or source.path != wanted:
            continue  # another pipeline's view, or another source: it is checked there
        kind = (made or {}).get(feature)
        if made is not None and kind is None:
            problems.append(
                f"{where}: feature '{feature}' is a column that the SQL does not make" + _near(feature, made)
            )
        declared = found.views[view].get(feature, "")
        allowed = COMPATIBLE.get((kind or "").split("(")[0])
        if allowed and declared not in allowed:
            problems.append(f"{where}: feature '{feature}' is {declared}, the SQL makes {kind}; allowed: "
                            f"{', '.join(sorted(allowed))}")  # fmt: skip
    for view, source in found.sources.items():
        if source.path != wanted:
            continue
        if set(found.join_keys[view]) != set(spec.features.entity):
            problems.append(f"{path}: view '{view}' joins on {sorted(found.join_keys[view])}, features.entity says "
                            f"{sorted(spec.features.entity)}")  # fmt: skip
        if source.timestamp_field != spec.features.event_time:
            problems.append(f"{path}: view '{view}' takes its time from '{source.timestamp_field}', "
                            f"features.event_time says '{spec.features.event_time}'")  # fmt: skip
    if not any(s.path == wanted for s in found.sources.values()):
        problems.append(f"{path}: no feature view reads {wanted}")
    return problems


def _near(column: str, known: Any) -> str:
    near = nearest(column, list(known))
    return f"; did you mean '{near}'?" if near else ""


def _line(path: Any, word: str) -> int:
    """First line of a file that has the word; 1 when none has."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if re.search(rf"\b{re.escape(word)}\b", line):
            return number
    return 1


def _collect(problems: list[str], read: Callable[[], Any]) -> Any:
    """The value, or None after adding what is wrong with it."""
    try:
        return read()
    except MillraceError as err:
        problems += str(err).splitlines()
        return None
