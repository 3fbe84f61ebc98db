"""What check accepts, every job accepts: a spec written with its defaults filled in, as requests carry it, is the same.

The specs are made from the models: the reference pipelines with values of any field taken out, or put in by its type.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, JsonValue, ValidationError
from pydantic.fields import FieldInfo

from millrace.core.canonical import canonical_json
from millrace.spec import Environment, PipelineSpec
from millrace.spec.compute import Compute
from millrace.spec.durations import Duration
from millrace.spec.extension import Extensible
from millrace.spec.yaml_file import read_yaml

pytestmark = pytest.mark.fuzz
INCLUDE = Path(__file__).resolve().parents[2] / "include"
FILES: list[tuple[type[BaseModel], Path]] = [
    *((PipelineSpec, path) for path in sorted((INCLUDE / "pipelines").glob("*/pipeline.yaml"))),
    *((Environment, path) for path in sorted((INCLUDE / "environments").glob("*.yaml"))),
    (Compute, INCLUDE / "compute.yaml"),
]
GONE = object()
Path_ = tuple[str | int, ...]
WORDS = st.sampled_from([
    "a", "id", "time", "price", "flights", "scope", "train", "gpu", "none", ";", "\t", "UTC", "Europe/Berlin",
    "0 3 * * 1", "2013-01", "in/{year}-{month}-{day}.csv", "s3://b/{year}-{month}-{day}.csv", "P1D", "0.5", "1", "",
])  # fmt: skip
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: WORDS,
    int: st.sampled_from([0, 1, 2, 3, 7, 1000, 10**9]),
    float: st.sampled_from([0.0, 1e-9, 0.25, 0.5, 1.0, 3, 1e300]),
    bool: st.booleans(),
    Duration: st.sampled_from(["PT0S", "P1D", "PT24H", "P3D", "P2M", "P1Y2M3W4DT5H6M7S"]),
    date: st.dates().map(date.isoformat),
    type(None): st.none(),
}


def values(annotation: Any, metadata: list[Any] | None = None, depth: int = 0) -> st.SearchStrategy[Any]:
    """JSON values of a field's type, its bounds left to the model."""
    for item in metadata or ():
        if isinstance(item, Extensible):
            return st.one_of([values(model, depth=depth) for model in item.builtin.values()])
    kind, arguments = get_origin(annotation), get_args(annotation)
    if kind is Annotated:
        return values(arguments[0], list(arguments[1:]), depth)
    if kind is Literal:
        return st.sampled_from(arguments)
    if kind in (Union, UnionType):
        return st.one_of([values(a, depth=depth) for a in arguments])
    if kind is tuple:
        return st.lists(values(arguments[0], depth=depth + 1), max_size=2)
    if kind is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1], depth=depth + 1), max_size=2)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = {name: values(f.annotation, f.metadata, depth + 1) for name, f in annotation.model_fields.items()}
        needed = {n: s for n, s in fields.items() if annotation.model_fields[n].is_required() or n == "kind"}
        return st.fixed_dictionaries(needed, optional={n: s for n, s in fields.items() if n not in needed})
    if annotation is JsonValue:
        return SCALARS[int] | WORDS | st.lists(SCALARS[float], max_size=2)
    return SCALARS[annotation]


def fields(model: BaseModel, here: Path_ = ()) -> Iterator[tuple[Path_, FieldInfo]]:
    """Every field of a spec and of what it holds, with its place."""
    for name, info in type(model).model_fields.items():
        yield (*here, name), info
        held = getattr(model, name)
        inside = held.items() if isinstance(held, dict) else [(None, held)]
        for key, value in inside:
            if isinstance(value, BaseModel):
                yield from fields(value, (*here, name) if key is None else (*here, name, key))


def put(document: Any, place: Path_, value: Any) -> Any:
    """A copy with a value at a place, made where a mapping on the way is not written."""
    copy = dict(document or {})
    if len(place) > 1:
        copy[place[0]] = put(copy.get(place[0]), place[1:], value)
    elif value is GONE:
        copy.pop(place[0], None)
    else:
        copy[place[0]] = value
    return copy


def accepted(model: type[BaseModel], document: Any) -> BaseModel | None:
    try:
        return model.model_validate(document)
    except ValidationError:
        return None


@given(st.sampled_from(FILES), st.data())
def test_a_spec_with_its_defaults_filled_in_is_the_same_spec(file: tuple[type[BaseModel], Path], data: Any) -> None:
    # Given a spec that is accepted, changed here and there into another that is
    model, path = file
    document = read_yaml(path)
    spec = accepted(model, document)
    assert spec is not None
    for _ in range(data.draw(st.integers(1, 6))):
        place, info = data.draw(st.sampled_from(list(fields(spec))))
        value = data.draw(st.just(GONE) | values(info.annotation, info.metadata))
        if (changed := accepted(model, put(document, place, value))) is not None:
            document, spec = put(document, place, value), changed
    # When it travels as JSON with all its keys, then what is read is equal, and written again the same
    written = json.loads(canonical_json(spec.model_dump(mode="json")))
    read = model.model_validate(written)
    assert read == spec
    assert canonical_json(read.model_dump(mode="json")) == canonical_json(written)


def test_monitoring_without_max_age_is_the_same_spec_with_its_defaults_filled_in() -> None:
    document = read_yaml(INCLUDE / "pipelines" / "flight_delays" / "pipeline.yaml")
    spec = PipelineSpec.model_validate(put(document, ("monitoring", "max_age"), GONE))
    assert PipelineSpec.model_validate(spec.model_dump(mode="json")) == spec
