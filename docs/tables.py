"""Markdown from models: one section for each mapping a file may hold, one row for each of its keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter

from millrace.spec import base, compute, durations

DURATION = "duration"
FORMS = {
    base.NAME: ("name", base.NAME_IN_WORDS),
    durations.PATTERN: (DURATION, "ISO 8601, such as `P1M`, `P28D`, `PT3H`"),
    **{
        get_args(kind)[1].metadata[0].pattern: words
        for kind, words in (
            (compute.Quantity, ("text", "an amount as Kubernetes writes it: `500m`, `2`, `4Gi`")),
            (compute.Label, ("text", "a name as Kubernetes takes it")),
            (compute.ProfileName, ("text", "name of a compute profile")),
        )
    },
}
"""Patterns that have words: what the type is called, and what is allowed."""
WORDS = {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false", "object": "mapping"}
BOUNDS = {
    "minimum": "at least {}", "exclusiveMinimum": "greater than {}", "maximum": "at most {}",
    "exclusiveMaximum": "less than {}", "minItems": "at least {} in the list", "minProperties": "at least {} key",
}  # fmt: skip
HEAD = ("key", "type", "default", "allowed", "what it says")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; bars inside cells are escaped."""
    head = tuple(head)
    lines = [head, ("---",) * len(head), *(tuple(" ".join(cell.replace("|", "\\|").split()) for cell in row)
                                           for row in rows)]  # fmt: skip
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def page(title: str, model: type[BaseModel], place: str) -> str:
    """The page of a file: its own keys first, then every mapping below them."""
    schema = model.model_json_schema()
    return f"# {title}\n\n{schema['description']} {place}".rstrip() + "\n\n" + Sections(schema).text("", schema)


def union(title: str, text: str, kinds: Any) -> str:
    """The page of a union that `type` tells apart."""
    schema = TypeAdapter(kinds).json_schema()
    sections = Sections(schema)
    return f"# {title}\n{text}\n" + "".join(sections.of("checks", one) for one in schema["oneOf"])


class Sections:
    """Sections of one schema: each of its mappings once, where it is first met."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.defs: dict[str, Any] = schema.get("$defs", {})
        self.titles: dict[str, str] = {}

    def of(self, path: str, reference: dict[str, Any]) -> str:
        """The section of what a reference names, and those below it; nothing when it stands already."""
        name = reference["$ref"].rpartition("/")[2]
        found = self.defs[name]
        if name in self.titles or not found.get("properties"):
            return ""
        which = [found["properties"][key]["const"] for key in ("kind", "type")
                 if "const" in found["properties"].get(key, {})]  # fmt: skip
        self.titles[name] = title = f"{path}: {which[0]}" if which else path
        return f"\n## {title}\n\n{found.get('description', '')}\n\n" + self.text(path, found)

    def text(self, path: str, found: dict[str, Any]) -> str:
        """The table of a mapping's keys, then the sections of those that are mappings of their own."""
        below = []
        for key, schema in found["properties"].items():
            for mapped, reference in _references(schema):
                below.append(self.of(f"{path}.{key}".strip(".") + (".NAME" if mapped else ""), reference))
        required = found.get("required", ())
        rows = [
            (f"`{key}`", self.type(schema), "required" if key in required else _default(schema), self.allowed(schema),
             self.words(schema))
            for key, schema in found["properties"].items()
        ]  # fmt: skip
        return table(HEAD, rows) + "".join(below)

    def words(self, schema: dict[str, Any]) -> str:
        """What a key says: its own description, or that of the mapping it holds."""
        if schema.get("description") or "const" in schema:
            return str(schema.get("description", "Says which of these it is."))
        names = {reference["$ref"].rpartition("/")[2] for _, reference in _references(schema)}
        return str(self.defs[names.pop()].get("description", "")) if len(names) == 1 else ""

    def type(self, schema: dict[str, Any]) -> str:
        """What kind of value it is, with links to the sections of mappings."""
        if "$ref" in schema:
            title = self.titles.get(schema["$ref"].rpartition("/")[2])
            return f"[{title}](#{re.sub(r'[^a-z0-9 _-]', '', title.lower()).replace(' ', '-')})" if title else "any"
        if kinds := _variants(schema):
            named = [self.type(kind) for kind in kinds if "$ref" in kind or "properties" not in kind]
            return ", or ".join(dict.fromkeys(named))
        if schema.get("type") == "array":
            return f"list of {self.type(schema['items'])}" if schema.get("items") else "list"
        if (value := _values(schema)) is not None:
            return f"mapping of name to {self.type(value)}"
        if schema.get("pattern") in FORMS:
            return FORMS[schema["pattern"]][0]
        return WORDS.get(schema.get("type", ""), "any")

    def allowed(self, schema: dict[str, Any]) -> str:
        """Which values of that kind are taken."""
        said = [f"`{json.dumps(schema['const'])}`".replace('"', "")] if "const" in schema else []
        said += [", ".join(f"`{value}`" for value in schema.get("enum", ()))]
        said += [words.format(f"{schema[key]:g}") for key, words in BOUNDS.items() if schema.get(key) is not None]
        if pattern := schema.get("pattern"):
            said.append(FORMS[pattern][1] if pattern in FORMS else f"`{pattern}`")
        if schema.get("minLength"):
            said.append("not empty")
        inner = [kind for kind in _variants(schema) if "$ref" not in kind and "properties" not in kind]
        others = [kind for kind in _variants(schema) if "properties" in kind]
        if (value := _values(schema) or schema.get("items")) and "$ref" not in value:
            inner.append(value)
        if names := schema.get("propertyNames", {}).get("enum"):
            said.append(f"keys: {', '.join(f'`{name}`' for name in names)}")
        said += [self.allowed(kind) for kind in inner]
        said += [f"also a {_lower(kind['description'])}" for kind in others if kind.get("description")]
        return "; ".join(filter(None, said))


def _variants(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """What a union is made of, without null, flattened."""
    found = []
    for kind in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        found += _variants(kind) or ([] if kind.get("type") == "null" else [kind])
    return found


def _values(schema: dict[str, Any]) -> dict[str, Any] | None:
    """What a mapping with free names holds."""
    for value in (*schema.get("patternProperties", {}).values(), schema.get("additionalProperties")):
        if isinstance(value, dict):
            return value
    return None


def _references(schema: dict[str, Any], mapped: bool = False) -> Iterator[tuple[bool, dict[str, Any]]]:
    """Mappings that a key's value holds, and whether they stand below a free name."""
    if "$ref" in schema:
        yield mapped, schema
    for kind in _variants(schema):
        yield from _references(kind, mapped)
    if schema.get("items"):
        yield from _references(schema["items"], mapped)
    if (value := _values(schema)) is not None:
        yield from _references(value, True)


def _default(schema: dict[str, Any]) -> str:
    if "default" not in schema or schema["default"] in ([], {}, ""):
        return "empty"
    if schema["default"] is None:
        return "none"
    return f"`{schema['default'] if isinstance(schema['default'], str) else json.dumps(schema['default'])}`"


def _lower(text: str) -> str:
    return re.sub(r"^A ", "", text).rstrip(".")
