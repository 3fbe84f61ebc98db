"""Turn pydantic's errors into what a person needs: file, line, key, value, what is allowed, the nearest match."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from millrace.core.errors import nearest
from millrace.spec.base import NAME, NAME_IN_WORDS
from millrace.spec.extension import Extensible


def explain(
    err: ValidationError,
    model: type[BaseModel],
    value: Any,
    path: Path,
    node: yaml.Node | None,
    said: Callable[[tuple[Any, ...]], bool] = lambda loc: True,
) -> str:
    """One line for each mistake, in the order of the file. `value` and `node` are what the file holds.

    `said` tells by its keys whether a mistake is to be named.
    """
    found = []
    for item in err.errors():
        loc = tuple(item["loc"])
        if not said(loc):
            continue
        found.append((line_in(node, loc), _text(item, loc, model, value)))
    return "\n".join(f"{path}:{line}: {text}" for line, text in sorted(found, key=lambda pair: pair[0]))


def line_in(node: yaml.Node | None, loc: Sequence[Any]) -> int:
    """Line of the deepest part of `loc` below a YAML node; 1 for an empty file."""
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


def _text(item: Any, loc: tuple[Any, ...], model: type[BaseModel], value: Any) -> str:
    kind, given, context = item["type"], item.get("input"), item.get("ctx") or {}
    if loc and loc[-1] == "[key]" and kind == "literal_error":
        words = [word.strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", ")]
        text = f"unknown key '{'.'.join(map(str, loc[:-1]))}'; allowed here: {', '.join(words)}"
        return text + (f"; did you mean '{near}'?" if (near := nearest(str(loc[-2]), words)) else "")
    if loc and loc[-1] == "[key]":
        return f"{'.'.join(map(str, loc[:-2]))}: '{loc[-2]}' is not a usable name; allowed: {NAME_IN_WORDS}"
    key = ".".join(str(part) for part in loc) or "(top level)"
    if kind == "extra_forbidden":
        allowed = _siblings(model, value, loc)
        near = nearest(str(loc[-1]), allowed)
        text = f"unknown key '{key}'" + (f"; allowed here: {', '.join(allowed)}" if allowed else "")
        return text + (f"; did you mean '{near}'?" if near else "")
    if kind == "missing":
        return f"key '{key}' is missing"
    message = item["msg"].removeprefix("Value error, ")
    if kind in ("mistake", "kind"):
        return f"{key}: {message}"  # says what was given by itself
    if kind == "string_pattern_mismatch":
        if context.get("pattern") == NAME:
            message = f"not a usable name; allowed: {NAME_IN_WORDS}"
        else:
            message = f"not of the form {context.get('pattern')}"
    shown = f" (given: {_short(given)})" if given is None or isinstance(given, str | int | float | bool | list) else ""
    expected = context.get("expected")
    near = None
    if isinstance(given, str) and isinstance(expected, str):
        near = nearest(given, [part.strip(" '") for part in expected.replace(" or ", ", ").split(",")])
    return f"{key}: {message}{shown}" + (f"; did you mean '{near}'?" if near else "")


def _short(given: Any) -> str:
    text = "nothing" if given is None else repr(given)
    return text if len(text) <= 80 else text[:77] + "..."


def _siblings(model: type[BaseModel], value: Any, loc: tuple[Any, ...]) -> list[str]:
    """Field names allowed beside an unknown key, in the model that `loc` and the kinds written on its way lead to."""
    annotation: Any = model
    for part in loc[:-1]:
        found = _model_of(annotation, value)
        if found is not None:
            field = found.model_fields.get(part)
            if field is None:
                return []
            extensible = next((m for m in field.metadata if isinstance(m, Extensible)), None)
            annotation = extensible or field.annotation
        else:
            annotation = next((a for a in reversed(get_args(annotation)) if a is not Ellipsis), None)
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            value = None
    found = _model_of(annotation, value)
    return sorted(found.model_fields) if found is not None else []


def _model_of(annotation: Any, value: Any) -> type[BaseModel] | None:
    if isinstance(annotation, Extensible):
        try:
            return annotation.resolve(str(value["kind"]))
        except (PydanticCustomError, KeyError, TypeError):
            return None
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated or type(None) in arguments:
        return next((m for m in (_model_of(a, value) for a in arguments) if m is not None), None)
    return None
