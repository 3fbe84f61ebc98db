"""Promotion: the document that says who let a version become champion, on which Evidence, after whom. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millrace.contract.artifact import DIGEST_PATTERN
from millrace.core.canonical import digest
from millrace.core.errors import EvidenceError

Digest = Annotated[str, Field(pattern=DIGEST_PATTERN)]
Text = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Before(_Part):
    """The champion that a version follows."""

    version: int
    generation: int
    model: Digest
    evidence: Digest


class Release(_Part):
    """The release request as it was carried out."""

    id: Text
    attempt: int
    rollback: bool
    reason: str
    requesters: tuple[str, ...]
    expires: str | None
    answers: tuple[dict[str, Any], ...] = Field(description="Who said what, when, and how; as the ledger has them.")


class Promotion(_Part):
    """What is signed with the model and its Evidence. An approval cannot be in the Evidence, which it approves."""

    promotion_version: Literal[1] = 1
    pipeline: Text
    environment: Text
    version: int
    evidence: Digest
    model: Digest
    generation: int = Field(description="That it becomes: one after the champion's before.")
    release: Release
    statements: dict[str, Any] = Field(description="System -> the signed statement that it gave.")
    before: Before | None = Field(description="Null for a first champion.")

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Promotion:
        """Read it from JSON. Raises EvidenceError naming the first field that is wrong."""
        try:
            return cls.model_validate(value)
        except ValidationError as err:
            first = err.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise EvidenceError(f"the promotion is malformed: {where}: {first['msg']}") from err

    @property
    def digest(self) -> str:
        """Digest of the canonical JSON."""
        return digest(self)
