"""Tests make their JobRequests in one place, tests/support/requests.py."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
APART = {"chart", "cluster", "contract", "images"}
"""Rooms that try the models themselves, or ask of a cluster or a container what no job runs on here."""


def test_an_identity_is_made_in_one_place() -> None:
    made = {
        path.relative_to(TESTS).as_posix()
        for path in TESTS.rglob("*.py")
        if "Identity(" in (text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "Identity"
    }
    assert {name for name in made if name.split("/")[0] not in APART} == {"support/requests.py"}
