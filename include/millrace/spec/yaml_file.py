"""Read YAML into a model; a mistake is named by file, line, key, value, what is allowed and the nearest match."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from millrace.core.errors import SpecError
from millrace.spec.explain import explain, line_in

M = TypeVar("M", bound=BaseModel)
# The C loader reads eight times faster; a PyYAML built without libyaml still works.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEEPEST = 100
"""Levels of nesting. libyaml's C code ends the process on thousands of them."""
_TEXT = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")


class _Loader(_Base):  # type: ignore[misc]
    """Refuses what YAML would settle silently: a key that stands twice, a key that is not text, a number without end.

    Dates stay text.
    """

    _depth = 0

    def descend_resolver(self, current_node: yaml.Node | None, current_index: Any) -> None:
        self._depth += 1
        if self._depth > _DEEPEST and current_node is not None:
            problem = f"values nest more than {_DEEPEST} deep"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=current_node.start_mark)
        super().descend_resolver(current_node, current_index)

    def ascend_resolver(self) -> None:
        self._depth -= 1
        super().ascend_resolver()

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception as err:  # what a tag says that its value is not: !!timestamp x, or too many digits
            kind = node.tag.rpartition(":")[2]
            raise yaml.MarkedYAMLError(problem=f"this cannot be read as {kind}", problem_mark=node.start_mark) from err

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key, mark = key_node.value, key_node.start_mark
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be a word, not a list or mapping", problem_mark=mark)
            if key_node.tag not in _TEXT:
                kind = key_node.tag.rpartition(":")[2]
                raise yaml.MarkedYAMLError(problem=f"YAML reads key '{key}' as {kind}: quote it", problem_mark=mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key '{key}' stands twice", problem_mark=mark)
            seen.add(key)
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return]

    def construct_finite(self, node: yaml.ScalarNode) -> float:
        value = float(self.construct_yaml_float(node))
        if not math.isfinite(value):
            raise yaml.MarkedYAMLError(problem=f"'{node.value}' is not a finite number", problem_mark=node.start_mark)
        return value


_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_finite)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _Base.yaml_implicit_resolvers.items()
}


def read_text(path: Path, missing: str = "Create it, or check the name") -> str:
    """Read a file that people write, with plain line ends. Raises SpecError, with the line for bytes not in UTF-8."""
    try:
        data = path.read_bytes()
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError as err:
        raise SpecError("there is no such file", where=str(path), next_step=missing) from err
    except OSError as err:
        raise SpecError(f"cannot be read: {err.strerror}", where=str(path)) from err
    except UnicodeDecodeError as err:
        line = err.object[: err.start].count(b"\n") + 1
        raise SpecError("not UTF-8 text", where=f"{path}:{line}", next_step="Save the file as UTF-8") from err


def read_yaml(path: Path) -> Any:
    """Parse a YAML file. Raises SpecError with file and line."""
    value, _ = parse(path)
    return value


def line_of(path: Path, *loc: str | int) -> int:
    """Line of the deepest part of `loc` that a YAML file has; 1 for a file that cannot be read."""
    try:
        return line_in(parse(path)[1], loc)
    except SpecError:
        return 1


def load(model: type[M], path: Path) -> M:
    """Read a file into a model. Raises SpecError that lists every mistake with its line, in the file's order."""
    value, node = parse(path)
    if value is None:
        raise SpecError("the file is empty", where=f"{path}:1", allowed=sorted(model.model_fields))
    if not isinstance(value, dict):
        raise SpecError("the file must hold a mapping (key: value)", where=f"{path}:1", given=_kind(value))
    try:
        return model.model_validate(value)
    except ValidationError as err:
        raise SpecError(explain(err, model, value, path, node)) from err


def parse(path: Path) -> tuple[Any, yaml.Node | None]:
    """What a YAML file holds, and the nodes that know the lines. Raises SpecError with file and line."""
    text = read_text(path)
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return (loader.construct_document(node) if node is not None else None), node
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        position = getattr(err, "position", None)  # of a character that YAML does not know
        line = mark.line + 1 if mark else text[:position].count("\n") + 1 if isinstance(position, int) else 1
        problem = getattr(err, "problem", None) or getattr(err, "reason", None) or str(err)
        raise SpecError(f"not valid YAML: {problem}", where=f"{path}:{line}") from err
    except (ValueError, RecursionError) as err:  # a value that holds itself
        raise SpecError(f"not valid YAML: {err}", where=f"{path}:1") from err
    finally:
        if loader is not None:
            loader.dispose()


def _kind(value: Any) -> str:
    return {str: "text", list: "a list", bool: "true or false"}.get(type(value), "a number")
