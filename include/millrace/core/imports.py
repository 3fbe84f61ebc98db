"""Imports that are no statement: what a spec model names, and libraries without what they bring along."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def named(path: str) -> Any:
    """What `module:attribute` names. Raises ImportError where there is no such module, or no such thing in it."""
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except AttributeError as err:
        raise ImportError(str(err)) from err


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
