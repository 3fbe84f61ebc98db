"""`millrace schema`: write the committed JSON Schemas, or check that they are what the models say."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from millrace import contract
from millrace.contract import JobRequest, JobResult
from millrace.spec import schema


def targets() -> dict[Path, type[BaseModel]]:
    """Every committed schema and its model."""
    messages = Path(contract.__file__).parent / "schemas"
    return {
        **{schema.path(name): model for name, model in schema.MODELS.items()},
        messages / "job_request.schema.json": JobRequest,
        messages / "job_result.schema.json": JobResult,
    }


def write() -> list[Path]:
    """Write all schemas; returns those that changed."""
    changed = []
    for path, model in targets().items():
        text = schema.render(model)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


def differing() -> list[Path]:
    """Schemas whose committed text is not what the model says now."""
    return [
        path for path, model in targets().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != schema.render(model)
    ]  # fmt: skip
