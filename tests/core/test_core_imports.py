"""Libraries that come along with others: kept out, put off, and imported without the garbage collector."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace.core.imports import deferred, hidden, uncollected


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module whose import adds to `sys.imports_seen`."""
    (tmp_path / "a_slow_library.py").write_text("import sys\nsys.imports_seen.append(__name__)\nvalue = 7\n")
    (tmp_path / "its_user.py").write_text("import a_slow_library as slow\ndef ask(): return slow.value\n")
    (tmp_path / "its_impatient_user.py").write_text("from a_slow_library import value\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "imports_seen", [], raising=False)
    yield "a_slow_library"
    for name in ("a_slow_library", "its_user", "its_impatient_user"):
        sys.modules.pop(name, None)


def seen() -> list[str]:
    return list(getattr(sys, "imports_seen"))  # noqa: B009  # mypy knows no such thing


def test_a_hidden_library_is_missing_meanwhile_alone(library: str) -> None:
    with hidden(library), pytest.raises(ImportError):
        __import__(library)
    assert __import__(library).value == 7


def test_a_deferred_library_is_imported_when_it_is_used(library: str) -> None:
    with deferred(library):
        user = __import__("its_user")
    assert not seen() and library not in sys.modules
    assert user.ask() == 7 and user.ask() == 7
    assert seen() == [library]


def test_what_is_asked_for_at_once_is_there(library: str) -> None:
    with deferred(library):
        assert __import__("its_impatient_user").value == 7
    assert seen() == [library] and sys.modules[library].value == 7


def test_a_library_that_is_there_is_not_replaced(library: str) -> None:
    there = __import__(library)
    with deferred(library):
        assert sys.modules[library] is there
    assert sys.modules[library] is there


def test_the_collector_rests_meanwhile_and_goes_on_as_before() -> None:
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            with pytest.raises(KeyError), uncollected():
                assert not gc.isenabled()
                raise KeyError
            assert gc.isenabled() is enabled
        finally:
            gc.enable()
