"""What the checks share: a mistake as one line, and the nearest word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from millrace.core.errors import MillraceError, nearest

T = TypeVar("T")


def attempt(problems: list[str], read: Callable[[], T]) -> T | None:
    """The value, or None after noting what is wrong with it, one line for each mistake."""
    try:
        return read()
    except MillraceError as err:
        text = str(err)
        if err.where and Path(err.where).is_file():  # a file without a line
            text = text.replace(err.where, f"{err.where}:1", 1)
        problems += text.splitlines()
        return None


def near(given: str, known: object) -> str:
    """`; did you mean ..?`, or nothing."""
    found = nearest(given, [str(k) for k in known]) if isinstance(known, list | tuple | dict | set) else None
    return f"; did you mean '{found}'?" if found else ""
