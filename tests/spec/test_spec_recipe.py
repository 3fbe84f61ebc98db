"""A recipe changes with what decides features, and with nothing else."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from pydantic import ValidationError

from millrace.spec import Bundle, PipelineSpec
from millrace.spec.recipe import Recipe, listed, short

SPEC: dict[str, Any] = {
    "version": 1, "name": "shop", "owner": "me", "description": "test",
    "partition": {"grain": "day", "timezone": "Europe/Rome", "start": "2024-01-01"},
    "sources": {"sales": {"kind": "files", "gate": "g.yaml", "location": "{year}-{month}-{day}.csv",
                          "columns": ["id", "time", "n"], "types": {"time": "timestamp", "n": "integer"}}},
    "features": {"entity": ["id"], "service": "shop"},
}  # fmt: skip
TEXTS: dict[str, Any] = {
    **SPEC,
    "sources": {"notes": {"kind": "files", "gate": "g.yaml", "location": "{year}-{month}-{day}.zip", "format": "texts",
                          "columns": ["file", "time"], "types": {"time": "timestamp"}}},
    "features": {**SPEC["features"], "embedding": {"kind": "text_ngrams", "source": "notes", "dimensions": 4}},
}  # fmt: skip


def recipe(spec: dict[str, Any] = SPEC, sql: str = "SELECT 1", **parts: Any) -> Recipe:
    validated = PipelineSpec.model_validate(spec).model_dump(mode="json")
    return Recipe.of(Bundle(spec=validated, sql=sql, suites={}, **parts))


def changed(*keys: str, to: Any) -> dict[str, Any]:
    def put(value: dict[str, Any], first: str, *rest: str) -> dict[str, Any]:
        return {**value, first: put(value.get(first, {}), *rest) if rest else to}

    return put(SPEC, *keys)


@pytest.mark.parametrize(
    "spec",
    [
        changed("partition", "timezone", to="Europe/Oslo"),
        changed("partition", "grain", to="week"),
        changed("features", "entity", to=["id", "n"]),
        changed("features", "created_time", to="known"),
        changed("features", "engine", to="spark"),
        changed("sources", "sales", "types", "n", to="number"),
        changed("sources", "sales", "columns", to=["id", "n", "time"]),
        changed("sources", "sales", "lookback", to="P1D"),
        changed("sources", "sales", "format", to="json"),
        changed("sources", "sales", "timezone", to="Europe/Rome"),
    ],
)
def test_it_changes_with_what_decides_features(spec: dict[str, Any]) -> None:
    assert recipe(spec).digest != recipe().digest


def test_it_changes_with_the_sql_and_with_the_embedding_as_fitted() -> None:
    assert recipe(sql="SELECT 2").digest != recipe().digest
    fitted = [{"embedding.safetensors": base64.b64encode(data).decode()} for data in (b"a", b"b")]
    assert len({recipe(TEXTS).digest, *(recipe(TEXTS, files=files).digest for files in fitted)}) == 3


@pytest.mark.parametrize(
    "spec",
    [
        {**SPEC, "owner": "you", "description": "another", "tags": ["a"], "columns": {"id": "public"}},
        changed("partition", "end", to="2025-01-01"),
        changed("partition", "missing_after", to="P1D"),
        changed("sources", "sales", "location", to="elsewhere/{year}/{month}/{day}.csv.gz"),
        changed("sources", "sales", "compression", to="gzip"),
        changed("sources", "sales", "gate", to="other.yaml"),
        changed("features", "gate", to="other.yaml"),
        changed("features", "service", to="shop_v2"),
        changed("features", "compatible", to=["unrecorded"]),
        {**SPEC, "label": {"column": "n", "task": "regression", "known_after": "P1D"}},
    ],
)
def test_it_does_not_change_with_what_only_reads_or_refuses_features(spec: dict[str, Any]) -> None:
    assert recipe(spec).digest == recipe().digest
    assert recipe(code={"trainer.py": "pass"}, features="another service").digest == recipe().digest


def test_defaults_are_no_part_of_it_so_that_a_newer_version_makes_nothing_stale() -> None:
    spelled = changed("sources", "sales", "lookback", to="PT0S")
    assert recipe(spelled).digest == recipe().digest


def test_a_spec_takes_its_own_recipe_and_those_it_declares() -> None:
    mine, other = recipe(), recipe(sql="SELECT 2")
    assert mine.takes(mine.digest) and not mine.takes(other.digest) and not mine.takes(None)
    both = recipe(changed("features", "compatible", to=[short(other.digest), "unrecorded"]))
    assert both.takes(mine.digest) and both.takes(other.digest) and both.takes(None)
    assert not both.takes(recipe(sql="SELECT 3").digest)
    with pytest.raises(ValidationError):
        recipe(changed("features", "compatible", to=["old"]))


def test_partitions_are_named_in_one_line() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
