"""Imports of libraries without what they bring along wherever it is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hidden(name: str) -> Iterator[None]:
    """Make an installed library look missing to what is imported meanwhile, unless it has been imported already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # what Python itself keeps for 'do not import'
    try:
        yield
    finally:
        del sys.modules[name]
