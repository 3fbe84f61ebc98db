"""The file of tokens: who may ask which pipelines, by the SHA-256 of a token, never by the token."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from millrace.core.errors import SpecError
from millrace.serving.caller import EVERY, Caller
from millrace.spec.base import NAME, Mistakes, Model
from millrace.spec.explain import line_in
from millrace.spec.yaml_file import parse

_CALLER = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$"
_PIPELINE = rf"{NAME}|^\*$"


class TokenSpec(Model):
    """One caller's token."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the token, in hex.")
    pipelines: tuple[Annotated[str, Field(pattern=_PIPELINE)], ...] = Field(description="Names, or '*' for all.")
    tenant: str | None = Field(
        default=None, pattern=_CALLER, description="Whom its turns are counted for; the caller itself if left out."
    )
    expires: AwareDatetime | date | None = Field(
        default=None, description="Not accepted any more from the beginning of this day in UTC, or this time, on."
    )
    tester: bool = Field(default=False, description="Whether it may ask for what only testers may.")


_FILE = TypeAdapter(dict[Annotated[str, Field(pattern=_CALLER)], TokenSpec])


@dataclass(frozen=True)
class Tokens:
    """What the file says: digests, the callers they belong to, and the seconds since 1970 until which they count."""

    known: tuple[tuple[bytes, Caller, float], ...]

    def find(self, digest: bytes) -> tuple[Caller, float] | None:
        """The caller whose token has this SHA-256, and until when it counts.

        Takes as long whichever token it is, or none: each is compared, in constant time.
        """
        found = None
        for each, caller, until in self.known:
            if hmac.compare_digest(each, digest):
                found = caller, until
        return found


def read(path: Path) -> Tokens:
    """Read the file. Raises SpecError with file and line, and without any value: one may be a token by mistake."""
    value, node = parse(path)
    if not isinstance(value, dict):
        raise SpecError("the file must hold a mapping of callers", where=f"{path}:1")
    try:
        callers = _FILE.validate_python(value)
        _each_its_own(callers)
    except ValidationError as err:
        found = err.errors(include_input=False, include_url=False, include_context=False)
        lines = sorted((line_in(node, each["loc"]), _said(each["loc"], each["msg"], each["type"])) for each in found)
        raise SpecError("\n".join(f"{path}:{line}: {text}" for line, text in lines)) from None
    return Tokens(tuple(
        (bytes.fromhex(spec.sha256), Caller(name, spec.tenant or name, frozenset(spec.pipelines), spec.tester),
         _until(spec.expires)) for name, spec in callers.items()
    ))  # fmt: skip


def _each_its_own(callers: Mapping[str, TokenSpec]) -> None:
    wrong = Mistakes()
    seen: dict[str, str] = {}
    for name, spec in callers.items():
        if (other := seen.setdefault(spec.sha256, name)) != name:
            wrong.add(f"is the token of {other}, too", name, "sha256")
        if EVERY in spec.pipelines and len(spec.pipelines) > 1:
            wrong.add("names all and some", name, "pipelines")
    wrong.done()


def _said(loc: tuple[int | str, ...], message: str, kind: str) -> str:
    if "[key]" in loc:
        return "a caller's name has letters, digits and . _ @ -, at most 100"
    key = ".".join(str(part) for part in loc if part not in ("date", "datetime"))
    if kind == "string_pattern_mismatch":
        allowed = {"sha256": "64 hex digits in lower case: printf %s TOKEN | sha256sum"}
        return f"{key}: not of this form; allowed: {allowed.get(str(loc[-1]), 'names of pipelines, or *')}"
    if kind == "extra_forbidden":
        return f"unknown key '{key}'; allowed here: {', '.join(sorted(TokenSpec.model_fields))}"
    return f"{key}: {message}"


def _until(expires: datetime | date | None) -> float:
    if expires is None:
        return float("inf")
    if isinstance(expires, datetime):
        return expires.timestamp()
    return datetime(expires.year, expires.month, expires.day, tzinfo=UTC).timestamp()
