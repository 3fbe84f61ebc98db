"""JobRequest: identity (digested), place, run and means (never digested)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from millrace.contract.artifact import DIGEST_PATTERN
from millrace.core.canonical import digest
from millrace.core.errors import ContractError

CONTRACT_VERSION = "1.0"
"""`major.minor`. Senders write it; readers refuse another major and a higher minor in a request."""


class _Sent(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Input(_Sent):
    """One input as identity sees it: the part it plays, what it is, and which bytes."""

    role: str
    kind: str
    digest: str = Field(pattern=DIGEST_PATTERN)
    partition: str | None = None


class Identity(_Sent):
    """All that decides the outcome. Its canonical JSON gives `request_digest`, alike on every runner and retry."""

    contract: str = CONTRACT_VERSION
    job: str
    params: dict[str, Any] = Field(default_factory=dict, description="The job's own parameters; see the job's module.")
    inputs: tuple[Input, ...] = ()
    scope: tuple[str, ...] = Field(default=(), description="Partition keys this request is about, in order.")
    spec_digest: str = Field(pattern=DIGEST_PATTERN)
    code_digest: str = Field(pattern=DIGEST_PATTERN)
    seed: int = 0
    threads: int = Field(default=2, ge=1)


class Place(_Sent):
    """Where things lie. URIs are store keys; the same digest may lie elsewhere on another machine."""

    store: str = Field(description="Root of the object store: a folder or `s3://bucket/prefix`.")
    inputs: dict[str, str] = Field(default_factory=dict, description="Input digest -> store key.")
    result: str | None = Field(default=None, description="Store key under which the JobResult is kept.")
    checkpoint: str | None = Field(default=None, description="Store key prefix for checkpoints.")


class Run(_Sent):
    """Correlation only: who asked, for which Airflow run, at which try."""

    project: str = ""
    environment: str = "dev"
    pipeline: str = ""
    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    try_number: int = 1
    trace: str | None = None
    group: str | None = None
    url: str | None = Field(default=None, description="Address of the task in the Airflow UI, when known.")


class Service(_Sent):
    """A service the job may reach. `secret` names an environment variable or file, never the secret."""

    uri: str
    secret: str | None = None


class Means(_Sent):
    """What the job may use: services by name (`mlflow`, `registry`, `online`, `source`), limits, compute profile."""

    profile: str = "process"
    services: dict[str, Service] = Field(default_factory=dict)
    locations: dict[str, str] = Field(default_factory=dict, description="Source name -> absolute location pattern.")
    limits: dict[str, str] = Field(default_factory=dict)

    @property
    def time_limit(self) -> int | None:
        """Seconds that the job may run (limit `seconds`), None for no end. Raises ContractError."""
        given = self.limits.get("seconds")
        if given is None:
            return None
        if not given.isdecimal() or int(given) < 1:
            raise ContractError("means.limits.seconds is no number of seconds", given=given)
        return int(given)


class JobRequest(_Sent):
    """What a Job is asked to do. Build it with keyword arguments; read it with `JobRequest.parse`."""

    identity: Identity
    place: Place
    run: Run = Run()
    means: Means = Means()

    @property
    def request_digest(self) -> str:
        """Digest of the identity part: the name of this piece of work."""
        return digest(self.identity)

    def input(self, role: str) -> Input:
        """Return the only input of a role. Raises ContractError when there is none or more than one."""
        found = self.inputs(role)
        if len(found) != 1:
            raise ContractError(
                f"job '{self.identity.job}' needs exactly one input of role '{role}', found {len(found)}",
                given=role,
                allowed=sorted({i.role for i in self.identity.inputs}),
            )
        return found[0]

    def inputs(self, role: str) -> list[Input]:
        """Return the inputs of a role in the order sent."""
        return [i for i in self.identity.inputs if i.role == role]

    def key(self, item: Input) -> str:
        """Return the store key of an input. Raises ContractError when the sender did not place it."""
        try:
            return self.place.inputs[item.digest]
        except KeyError:
            raise ContractError(f"input '{item.role}' ({item.digest}) has no place in the request") from None

    @classmethod
    def parse(cls, text: str | bytes) -> JobRequest:
        """Read a request of this or an earlier minor version; its digest is what it was.

        Raises ContractError naming the field for anything unknown, newer or malformed.
        """
        import json

        from pydantic import ValidationError

        try:
            version = str(json.loads(text)["identity"]["contract"])
        except (ValueError, KeyError, TypeError) as err:
            raise ContractError("the request is not JSON with `identity.contract`") from err
        check_version(version)
        try:
            return cls.model_validate_json(text)
        except ValidationError as err:
            first = err.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ContractError(f"request field {where}: {first['msg']}") from err


def check_version(version: str) -> None:
    """Refuse a request of another major or a higher minor version than this code speaks."""
    try:
        major, minor = (int(part) for part in version.split("."))
    except ValueError as err:
        raise ContractError("contract version is not 'major.minor'", given=version) from err
    mine_major, mine_minor = (int(part) for part in CONTRACT_VERSION.split("."))
    if major != mine_major or minor > mine_minor:
        raise ContractError(
            "this code cannot read the request's contract version",
            given=version,
            allowed=f"{mine_major}.0 to {CONTRACT_VERSION}",
            next_step="Run the job with the millrace version that wrote the request",
        )
