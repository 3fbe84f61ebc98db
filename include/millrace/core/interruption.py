"""Leaving: a process that was asked to end (SIGTERM: an eviction, a spot machine taken back) notes it here.

A job may be ended anywhere, so `ask` ends it at once, except where somebody is watching: a training looks at `asked`
after every round or batch, keeps a checkpoint, and leaves by `Interrupted`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from millrace.core.errors import MillraceError, Retry

GRACE = 20.0
"""Seconds from the request to leave until a training must be gone: Kubernetes kills after 30, the result takes some."""

_asked: float | None = None
_watchers = 0


class Interrupted(MillraceError):
    """The job was asked to leave before it was done; the next try goes on from what it kept."""

    retry: ClassVar[Retry] = "resume"


class Left(BaseException):
    """Ends a job that nobody watches over. Not an Exception: no library between may take it for its own."""


def ask() -> None:
    """Note that the process was asked to leave; raise Left unless somebody watches. Fit for a signal handler."""
    global _asked
    if _asked is None:
        _asked = time.monotonic()
        if not _watchers:
            raise Left


def asked() -> bool:
    """Whether the process was asked to leave."""
    return _asked is not None


def seconds_left() -> float:
    """Seconds until a process that was asked to leave must be gone, GRACE where it was not asked."""
    return GRACE if _asked is None else max(0.0, _asked + GRACE - time.monotonic())


@contextmanager
def watched() -> Iterator[None]:
    """Inside, `ask` only makes a note: the block looks at `asked` itself, and often."""
    global _watchers
    _watchers += 1
    try:
        yield
    finally:
        _watchers -= 1
