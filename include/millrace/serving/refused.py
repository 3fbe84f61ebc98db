"""What a request is refused with: a status of HTTP, a problem in plain text, and headers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from millrace.core.errors import MillraceError

Headers = Sequence[tuple[bytes, bytes]]
_SHOWN = 80
"""Characters of a given value that a message repeats."""


class Refused(MillraceError):
    """A request is not answered. `str()` is the text for the caller; it holds no secret and ends no line."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        headers: Headers = (),
        where: str | None = None,
        given: object | None = None,
        allowed: Iterable[object] | str | None = None,
        next_step: str | None = None,
    ) -> None:
        self.status, self.headers = status, tuple(headers)
        if where is not None:
            where = "".join(each if each.isprintable() else "?" for each in where[:_SHOWN])
        # What no encoding has (a lone surrogate) could not be told in JSON either.
        shown = given[:_SHOWN].encode(errors="replace").decode() if isinstance(given, str) else given
        super().__init__(message, where=where, given=shown, allowed=allowed, next_step=next_step)

    @classmethod
    def of(cls, status: int, err: MillraceError) -> Refused:
        """The same words under a status."""
        return cls(status, err.message, where=err.where, given=err.given, allowed=err.allowed, next_step=err.next_step)


def problem(err: Refused) -> dict[str, Any]:
    """What is refused, for a program and for a person."""
    parts = {"where": err.where, "given": None if err.given is None else str(err.given)[:200], "allowed": err.allowed,
             "next_step": err.next_step}  # fmt: skip
    return {"error": str(err), **{name: value for name, value in parts.items() if value is not None}}
