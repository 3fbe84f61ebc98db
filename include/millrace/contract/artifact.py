"""Artifact: the way every stored thing is named."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Classification = Literal["public", "internal", "personal"]
Digest = str
DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"


class Artifact(BaseModel):
    """A stored thing. Its identity is the digest, never the path; two URIs of one digest are one thing."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    uri: str = Field(description="Store key, relative to the store's root (`snapshots/...`).")
    digest: str = Field(pattern=DIGEST_PATTERN)
    kind: str = Field(description="What it is: snapshot, model, report, predictions, evidence, bundle ...")
    media_type: str = "application/octet-stream"
    rows: int | None = None
    classification: Classification = "internal"
