"""Bundle: all that a pipeline's folder says, in one digested document that travels with a request.

A Job in a pod has no project tree; it reads the bundle from the store and verifies its digest, so that what
was checked, run and approved is the same text everywhere. The bundle's digest is the *spec digest*.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from millrace.core.canonical import canonical_json, digest

BUNDLE_KIND = "bundle"


class Bundle(BaseModel):
    """The spec as written (no environment's overlay), SQL, suites, feature definitions, custom code."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: dict[str, Any] = Field(description="The PipelineSpec as JSON; read it with PipelineSpec.model_validate.")
    sql: str = Field(description="Text of transform.sql.")
    suites: dict[str, dict[str, Any]] = Field(description="Path as the spec names it -> GX suite as JSON.")
    features: str = Field(default="", description="Text of the pipeline's Feast file.")
    feature_store: str = Field(default="", description="Text of feature_store.yaml.")
    files: dict[str, str] = Field(default_factory=dict, description="Fitted embeddings, file name -> base64.")
    code: dict[str, str] = Field(default_factory=dict, description="Custom code, file name -> text.")

    @property
    def digest(self) -> str:
        """The spec digest."""
        return digest(self)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(self)
