"""Read YAML into a model; a mistake is named by file, line, key, value, what is allowed and the nearest match."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from millrace.errors import MillraceError, SpecError, nearest

M = TypeVar("M", bound=BaseModel)
# The C loader reads eight times faster; a PyYAML built without libyaml still works.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """Refuses a key that stands twice, which YAML would resolve silently, and keeps dates as text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key '{key}' stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return]


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Base.yaml_implicit_resolvers.items()
}


def read_yaml(path: Path) -> Any:
    """Parse a YAML file. Raises SpecError with file and line."""
    value, _ = _parse(path)
    return value


def _parse(path: Path) -> tuple[Any, yaml.Node | None]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as err:
        raise SpecError("there is no such file", where=str(path), next_step="Create it, or check the name") from err
    except (OSError, UnicodeDecodeError) as err:
        raise SpecError(f"cannot be read: {err}", where=str(path)) from err
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return (loader.construct_document(node) if node is not None else None), node
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(err, "problem", None) or str(err)
        raise SpecError(f"not valid YAML: {problem}", where=where) from err
    finally:
        loader.dispose()


def load(model: type[M], path: Path) -> M:
    """Read a file into a model. Raises SpecError that lists every mistake with its line."""
    value, node = _parse(path)
    if not isinstance(value, dict):
        raise SpecError("the file must hold a mapping", where=str(path), given=type(value).__name__)
    try:
        return model.model_validate(value)
    except ValidationError as err:
        raise SpecError(explain(err, model, path, node)) from err
    except MillraceError as err:
        raise SpecError(err.message, where=str(path), allowed=err.allowed) from err


def explain(err: ValidationError, model: type[BaseModel], path: Path, node: yaml.Node | None) -> str:
    """Turn pydantic's errors into one line each: file, line, key, value, allowed, nearest match."""
    lines = []
    for item in err.errors():
        loc = tuple(item["loc"])
        where = f"{path}:{_line(node, loc)}"
        key = ".".join(str(part) for part in loc) or "(top level)"
        given = item.get("input")
        if item["type"] == "extra_forbidden":
            allowed = _siblings(err, model, loc)
            near = nearest(str(loc[-1]), allowed)
            text = f"unknown key '{key}'" + (f"; allowed here: {', '.join(allowed)}" if allowed else "")
            text += f"; did you mean '{near}'?" if near else ""
        elif item["type"] == "missing":
            text = f"key '{key}' is missing"
        else:
            message = item["msg"].removeprefix("Value error, ")
            shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) else ""
            text = f"{key}: {message}{shown}"
            expected = (item.get("ctx") or {}).get("expected")
            if isinstance(given, str) and isinstance(expected, str):
                near = nearest(given, [part.strip(" '") for part in expected.replace(" or ", ", ").split(",")])
                text += f"; did you mean '{near}'?" if near else ""
        lines.append(f"{where}: {text}")
    return "\n".join(lines)


def _line(node: yaml.Node | None, loc: tuple[Any, ...]) -> int:
    """Line of the deepest part of `loc` that the file has."""
    line = 1
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            for key_node, value_node in node.value:
                if key_node.value == str(part):
                    line, node = key_node.start_mark.line + 1, value_node
                    break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _siblings(err: ValidationError, model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    """Field names allowed beside an unknown key; follows model fields along `loc`."""
    current: Any = model
    for part in loc[:-1]:
        fields = getattr(current, "model_fields", None)
        if fields is None or part not in fields:
            return _extensible_siblings(err, loc)
        current = _model_of(fields[part].annotation)
    return sorted(getattr(current, "model_fields", {}))


def _extensible_siblings(err: ValidationError, loc: tuple[Any, ...]) -> list[str]:
    from millrace.spec.pipeline import LEARNERS, SOURCES

    extensible = SOURCES if loc[0] == "sources" else LEARNERS if "learner" in loc else None
    if extensible is None:
        return []
    return sorted({name for cls in extensible.builtin.values() for name in cls.model_fields})


def _model_of(annotation: Any) -> Any:
    from typing import get_args

    if hasattr(annotation, "model_fields"):
        return annotation
    return next((_model_of(a) for a in get_args(annotation) if _model_of(a) is not None), None)
