"""JSON Schemas of all files and messages, committed beside their models and used by editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from millrace.spec.compute import Compute
from millrace.spec.environment import Environment, Project
from millrace.spec.pipeline import PipelineSpec

FOLDER = Path(__file__).parent / "schemas"
MODELS: dict[str, type[BaseModel]] = {
    "pipeline": PipelineSpec,
    "environment": Environment,
    "project": Project,
    "compute": Compute,
}


class _Strict(GenerateJsonSchema):
    """A mapping whose keys must have a form takes no other keys; pydantic leaves that out."""

    def dict_schema(self, schema: Any) -> Any:
        found = super().dict_schema(schema)
        if "patternProperties" in found:
            found.setdefault("additionalProperties", False)
        return found


def render(model: type[BaseModel]) -> str:
    """The schema's text, the same for the same model."""
    return json.dumps(model.model_json_schema(schema_generator=_Strict), indent=1, sort_keys=True) + "\n"


def path(name: str, folder: Path = FOLDER) -> Path:
    """Where the schema of a file people write is kept."""
    return folder / f"{name}.schema.json"
