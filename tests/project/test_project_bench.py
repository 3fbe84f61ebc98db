"""The bench's scripts run in processes of their own, where no type checker looks: what they name has to be there."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"(?:from|import) (millrace[\w.]*)|(millrace(?:\.[a-z_]+)+)\.[A-Z]")
"""Modules that are imported, and those before the name of a class."""


@pytest.mark.parametrize("file", sorted(p.name for p in (ROOT / "bench").glob("*.py")))
def test_modules_that_the_bench_names_are_there(file: str) -> None:
    named = {one or other for one, other in NAMED.findall((ROOT / "bench" / file).read_text())}
    assert not [module for module in sorted(named) if find_spec(module) is None]
