"""Refused: what a caller is told instead of an answer."""

from __future__ import annotations

from typing import Any

from millrace.core.errors import MillraceError


class Refused(MillraceError):
    """An HTTP status with a message that says where, what was given, what is allowed and what to do."""

    def __init__(self, status: int, message: str, headers: tuple[tuple[bytes, bytes], ...] = (), **parts: Any) -> None:
        super().__init__(message, **parts)
        self.status, self.headers = status, headers

    @classmethod
    def of(cls, status: int, err: MillraceError) -> Refused:
        """The same words under a status."""
        return cls(status, err.message, where=err.where, given=err.given, allowed=err.allowed, next_step=err.next_step)
