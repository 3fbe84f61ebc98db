"""`millrace schema`: write the JSON Schemas that editors and other programs read, or check that they are current."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from millrace import contract
from millrace.contract import JobRequest, JobResult
from millrace.spec import ProjectTree, schema


def folder(tree: ProjectTree) -> Path:
    """Where a project's files find their schemas: in the package when the tree holds it, else in include/schemas."""
    return schema.FOLDER if schema.FOLDER.is_relative_to(tree.root / "include") else tree.root / "include" / "schemas"


def targets(tree: ProjectTree) -> dict[Path, type[BaseModel]]:
    """Every schema kept in the tree and its model; those of messages stand only beside the package's source."""
    files = {schema.path(name, folder(tree)): model for name, model in schema.MODELS.items()}
    if folder(tree) != schema.FOLDER:
        return files
    messages = Path(contract.__file__).parent / "schemas"
    return {
        **files,
        messages / "job_request.schema.json": JobRequest,
        messages / "job_result.schema.json": JobResult,
    }


def write(tree: ProjectTree) -> list[Path]:
    """Write all schemas; returns those that changed."""
    changed = differing(tree)
    found = targets(tree)
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(schema.render(found[path]), encoding="utf-8")
    return changed


def differing(tree: ProjectTree) -> list[Path]:
    """Schemas whose text is not what the models say now."""
    return [
        path
        for path, model in targets(tree).items()
        if not path.is_file() or path.read_text(encoding="utf-8") != schema.render(model)
    ]
