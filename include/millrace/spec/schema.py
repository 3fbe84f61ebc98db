"""JSON Schemas of all files and messages, committed beside their models and used by editors."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel

from millrace.spec.environment import Environment, Project
from millrace.spec.pipeline import PipelineSpec

FOLDER = Path(__file__).parent / "schemas"
MODELS: dict[str, type[BaseModel]] = {"pipeline": PipelineSpec, "environment": Environment, "project": Project}


def render(model: type[BaseModel]) -> str:
    """The schema's text, the same for the same model."""
    return json.dumps(model.model_json_schema(), indent=1, sort_keys=True) + "\n"


def path(name: str) -> Path:
    """Where the schema of a file people write is committed."""
    return FOLDER / f"{name}.schema.json"
