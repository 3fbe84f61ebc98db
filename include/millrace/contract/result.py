"""JobResult: a digested outcome, an undigested record of how it came about, or an error."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from millrace.contract.artifact import Artifact
from millrace.contract.request import CONTRACT_VERSION, check_version
from millrace.core.canonical import canonical_json, digest
from millrace.core.errors import ContractError, Retry


class _Read(BaseModel):
    """Readers ignore fields that a newer minor version added."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Check(_Read):
    """One check inside a Verdict, in plain words."""

    name: str
    passed: bool
    message: str = Field(description="What was expected and found, fit for a log. No values of non-public columns.")
    column: str | None = None
    unexpected: int | None = None
    total: int | None = None
    examples: tuple[str, ...] = Field(default=(), description="Example values, public columns only.")


class Verdict(_Read):
    """The answer of a Gate, an evaluation or a Duel: pass or fail, with every check."""

    passed: bool
    checks: tuple[Check, ...] = ()

    @property
    def failures(self) -> list[Check]:
        """The failed checks in order."""
        return [c for c in self.checks if not c.passed]


class Metric(_Read):
    """A number with its 95 % interval where one is known, and the number of rows behind it."""

    value: float
    low: float | None = None
    high: float | None = None
    rows: int | None = None


class Outcome(_Read):
    """What the job found or made: the same for the same request, on every runner. Evidence quotes its digest."""

    outputs: dict[str, Artifact] = Field(default_factory=dict, description="Role -> Artifact.")
    facts: dict[str, Any] = Field(default_factory=dict, description="Small JSON facts, deterministic.")
    metrics: dict[str, Metric] = Field(default_factory=dict)
    verdict: Verdict | None = None

    @field_validator("facts")
    @classmethod
    def _digestible(cls, value: dict[str, Any]) -> dict[str, Any]:
        """Facts that have no canonical JSON (NaN, an object) are refused when the outcome is made, not when read."""
        canonical_json(value)
        return value


class Observed(_Read):
    """How it came about. Never digested, never decides."""

    started: str | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    peak_memory_mb: float | None = None
    host: str | None = None
    image: str | None = Field(default=None, description="The container image; null outside containers.")
    architecture: str | None = Field(default=None, exclude_if=lambda v: v is None, description="Such as x86_64.")
    device: str | None = Field(default=None, exclude_if=lambda v: v is None, description="cpu, or cuda.")
    lock: str | None = Field(
        default=None,
        exclude_if=lambda v: v is None,
        description="Digest of the packages there, `name==version` a line; of a training.",
    )
    links: dict[str, str] = Field(default_factory=dict)
    mlflow_run: str | None = None
    lineage: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    times: dict[str, float] = Field(
        default_factory=dict,
        exclude_if=lambda value: not value,
        description="Measured times by name, in milliseconds.",
    )


class JobError(_Read):
    """Why there is no outcome, and whether trying again can help."""

    type: str
    message: str
    where: str | None = None
    retry: Retry = "never"


class JobResult(_Read):
    """Answer to the JobRequest of the same `request_digest`: an outcome or an error."""

    contract: str = CONTRACT_VERSION
    job: str
    request_digest: str
    number: int = Field(default=1, description="Counts up where a live job writes more than one result.")
    final: bool = True
    outcome: Outcome | None = None
    observed: Observed = Observed()
    error: JobError | None = None

    @property
    def outcome_digest(self) -> str | None:
        """Digest of the outcome, None when the job failed."""
        return None if self.outcome is None else digest(self.outcome)

    def to_json(self) -> str:
        """Serialise for the result file."""
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def parse(cls, text: str | bytes) -> JobResult:
        """Read a result of any minor version; unknown fields are ignored. Raises ContractError when it is not one."""
        try:
            result = cls.model_validate_json(text)
        except ValidationError as err:
            _check_major(str(_contract_of(text)))  # another major has another form, and that is the reason
            raise ContractError(f"not a JobResult: {err.errors()[0]['msg']}") from err
        _check_major(result.contract)
        return result


def _check_major(version: str) -> None:
    check_version(f"{version.split('.')[0]}.0")


def _contract_of(text: str | bytes) -> Any:
    try:
        return json.loads(text)["contract"]
    except (ValueError, KeyError, TypeError):
        return CONTRACT_VERSION
