"""Imports that are no statement: what a spec model names, and libraries without what they bring along."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
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


@contextmanager
def deferred(name: str) -> Iterator[None]:
    """Let what is imported meanwhile import a library no sooner than it uses it, unless it is there already.

    Not `importlib.util.LazyLoader`: in Python 3.11.7 no lock keeps a second thread from a half-made library.
    """
    if name in sys.modules:
        yield
        return
    stand_in = _Deferred(name)
    sys.modules[name] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


class _Deferred(ModuleType):
    """Stands for a module until something is asked of it."""

    def __getattr__(self, attribute: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), attribute)


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector from walking through a large import again and again: what it makes is there to stay.

    A fifth to a quarter of the seconds that Feast or Great Expectations take.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
