"""Code digest: which Millrace a request was made for. Part of identity, so a new version never takes old results."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What decides an outcome: the engines and jobs with what they rest on. The orchestrator's rooms do not.
ROOMS = (
    "core", "contract", "spec", "store", "rules", "sql", "sources", "gates", "feast_stores", "models", "learners",
    "evaluation", "embeddings", "drift", "mlflow", "evidence", "jobs",
)  # fmt: skip


@cache
def code_digest() -> str:
    """Return `sha256:<hex>` of the package's payload code: file names and bytes, in name order."""
    total = hashlib.sha256()
    files = [p for room in ROOMS for p in (ROOT / room).rglob("*.py")] + list(ROOT.glob("*.py"))
    for path in sorted(files):
        total.update(path.relative_to(ROOT).as_posix().encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return "sha256:" + total.hexdigest()
