"""Whatever a YAML file holds: what was written comes back, or a SpecError names the line. Nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from millrace.core.errors import SpecError
from millrace.spec import PipelineSpec
from millrace.spec.yaml_file import line_of, load, read_yaml

pytestmark = pytest.mark.fuzz
WORDS = st.sampled_from(
    ["name", "version", "sources", "partition", "columns", "yes", "2024-01-01", "1e3", ".inf", "0x1F"]
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    SCALARS | WORDS | st.text(max_size=6),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(WORDS | st.text(max_size=4), v, max_size=3),
    max_leaves=8,
)
BITS = st.sampled_from([
    "name", ": ", "\n", "  ", "- ", "[", "]", "{", "}", "&a ", "*a", "<<: ", "!!python/object:os.system ", "!!set ",
    "? ", "|", ">", "'", '"', "#", "---\n", "...\n", "%YAML 1.1\n", "\t", "\0", "\ufeff", "\u2028", ".nan", "1" * 30,
    "\\ud800", "~", "=",
])  # fmt: skip
TEXTS = st.lists(BITS | WORDS | st.text(max_size=3), max_size=14).map("".join)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("yaml") / "f.yaml"


@given(st.binary(max_size=40) | TEXTS.map(lambda text: text.encode("utf-8", "replace")))
@example(b"[" * 100_000)
@example(b"a: &a [" + b"*a, " * 99 + b"*a]")
@example(b"a: &a {<<: *a}")
@example(b"a: &b [&c {<<: *c}, *b]")
@example(b"n: " + b"9" * 5000)
@example(b"n: 1:99999999999")
@example(b"n: 0b")
@example(b"n: !!float x")
@example(b"n: !!int x")
@example(b"n: !!bool x")
@example(b"n: !!timestamp x")
@example(b"n: !!binary x")
def test_any_bytes_are_read_or_refused_by_line(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    for read in (lambda: read_yaml(path), lambda: load(PipelineSpec, path)):
        try:
            read()
        except SpecError as err:
            assert str(err).startswith(f"{path}:"), err
            str(err).encode()
    assert line_of(path, "name", 0, "x") >= 1


@given(st.dictionaries(WORDS | st.text(max_size=4), VALUES, max_size=4))
def test_what_was_written_comes_back(path: Path, value: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(value), encoding="utf-8", newline="")
    assert read_yaml(path) == value
