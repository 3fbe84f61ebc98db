"""Unions that others can extend: `kind` picks a class, from ours or from an entry-point group."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from millrace.core.errors import nearest


class Extensible:
    """Annotation that validates a mapping by its `kind` against built-in classes and an entry-point group.

    An entry point's name is the `kind`; its object is a frozen pydantic model with a `kind: Literal[...]` and an
    `engine: ClassVar[str]` (`module:attribute`) that jobs import. The object is loaded only when its kind is used.
    """

    def __init__(self, group: str, *builtin: type[BaseModel], apart: Mapping[str, str] | None = None) -> None:
        """`apart`: kinds that are ours and cannot be chosen here, each with why."""
        self.group, self.apart = group, apart or {}
        self.builtin = {cls.model_fields["kind"].default: cls for cls in builtin}

    def kinds(self) -> list[str]:
        """All kinds known on this machine."""
        return sorted({*self.builtin, *(e.name for e in entry_points(group=self.group))} - set(self.apart))

    def resolve(self, kind: str) -> type[BaseModel]:
        """Return the model class of a kind. Raises PydanticCustomError for an unknown one and one that cannot load."""
        if kind in self.builtin:
            return self.builtin[kind]
        if kind in self.apart:
            raise PydanticCustomError(
                "kind",
                "kind '{kind}' {why}; allowed: {allowed}",
                {"kind": kind, "why": self.apart[kind], "allowed": ", ".join(self.kinds())},
            )
        for entry in entry_points(group=self.group, name=kind):
            try:
                found = entry.load()
            except Exception as err:  # whatever the other package's module raises
                raise PydanticCustomError(
                    "kind",
                    "kind '{kind}' comes from '{place}', which cannot be imported: {error}",
                    {"kind": kind, "place": entry.value, "error": f"{type(err).__name__}: {err}"},
                ) from err
            if not (isinstance(found, type) and issubclass(found, BaseModel) and "kind" in found.model_fields):
                raise PydanticCustomError(
                    "kind",
                    "kind '{kind}' comes from '{place}', which is no pydantic model with a 'kind'",
                    {"kind": kind, "place": entry.value},
                )
            return found
        near = nearest(kind, self.kinds())
        raise PydanticCustomError(
            "kind",
            "unknown kind '{kind}'; allowed: {allowed}{hint}",
            {
                "kind": kind,
                "allowed": ", ".join(self.kinds()),
                "hint": f"; did you mean '{near}'?" if near else "",
            },
        )

    def _validate(self, value: Any) -> BaseModel:
        if isinstance(value, BaseModel):
            return value
        if not isinstance(value, dict) or "kind" not in value:
            raise PydanticCustomError(
                "kind", "needs a 'kind'; allowed: {allowed}", {"allowed": ", ".join(self.kinds())}
            )
        try:
            model = self.resolve(str(value["kind"]))
        except PydanticCustomError as err:
            # Again, and this time at the key where it stands.
            raise ValidationError.from_exception_data(
                "kind", [InitErrorDetails(type=err, loc=("kind",), input=None)]
            ) from err
        return model.model_validate(value)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        known: list[core_schema.CoreSchema | tuple[core_schema.CoreSchema, str]]
        known = [handler.generate_schema(cls) for cls in self.builtin.values()]
        union = core_schema.union_schema(known) if known else core_schema.any_schema()
        return core_schema.no_info_before_validator_function(
            self._validate,
            core_schema.any_schema(),
            json_schema_input_schema=union,
            serialization=core_schema.plain_serializer_function_ser_schema(_dump),
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> Any:
        """One variant per built-in kind, told apart by `kind`, and one that leaves other kinds to their packages."""
        variants = handler(schema.get("json_schema_input_schema", schema)).get("anyOf", [])
        for variant in variants:
            definition = handler.resolve_ref_schema(variant)
            definition["required"] = sorted({"kind", *definition.get("required", [])})
            definition["properties"]["kind"].pop("default", None)
        other = {
            "type": "object",
            "description": f"A kind from another package, by an entry point in the group '{self.group}'.",
            "required": ["kind"],
            "properties": {"kind": {"type": "string", "not": {"enum": sorted({*self.builtin, *self.apart})}}},
        }
        return {"oneOf": [*variants, other]} if variants else other


def _dump(value: BaseModel) -> dict[str, Any]:
    return value.model_dump(mode="json")
