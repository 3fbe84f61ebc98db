"""What changed between two trainings, and what no model notices."""

from __future__ import annotations

import pytest
from support.project import sample

from millrace.rules.changed import changed, differing, parts

CODE = ("sha256:" + "a" * 64, "sha256:" + "a" * 64)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return sample(tmp_path_factory.mktemp("changed") / "shop").bundle


def of(bundle, **keys):
    """The folder with other keys of the spec, given as paths with dots."""
    spec = bundle.model_dump()["spec"]
    for path, value in keys.items():
        inner = spec
        *way, last = path.split("__")
        for key in way:
            inner = inner[key]
        inner[last] = value
    return bundle.model_copy(update={"spec": spec})


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"training__learner__rounds": 7}, "training.learner.rounds"),
        ({"training__window": "P9D"}, "training.window"),
        ({"training__holdout__share": 0.31}, "training.holdout.share"),
        ({"training__seed": 8}, "training.seed"),
        ({"label__known_after": "P3D"}, "label.known_after"),
        ({"partition__timezone": "Asia/Tokyo"}, "features (recipe)"),
    ],
)
def test_what_a_model_is_made_by_is_named_with_both_values(bundle, keys, words):
    (change,) = changed(bundle, of(bundle, **keys), code=CODE)
    assert change.what == words and change.before != change.now
    assert str(change) == f"{words} {change.before} -> {change.now}"


@pytest.mark.parametrize(
    "keys",
    [
        {"description": "other words"},
        {"owner": "somebody else"},
        {"training__schedule": "0 3 * * 1"},
        {"monitoring__minimum_rows": 7},
        {"evaluation__thresholds": {"log_loss": {"max": 0.9}}},
    ],
)
def test_what_no_model_notices_is_no_change(bundle, keys):
    assert changed(bundle, of(bundle, **keys), code=CODE) == []


def test_sql_definitions_and_code_are_told_by_their_digests(bundle):
    other = bundle.model_copy(update={"sql": bundle.sql + "\n-- x", "features": "y", "code": {"trainer.py": "z"}})
    found = changed(bundle, other, code=(CODE[0], "sha256:" + "b" * 64))
    assert [c.what for c in found] == ["code of Millrace", "feature definitions", "features (recipe)", "trainer.py"]
    assert str(found[0]) == "code of Millrace aaaaaaaaaaaa -> bbbbbbbbbbbb"
    assert found[-1].before is None


def test_a_folder_that_cannot_be_read_any_more_is_not_compared(bundle):
    assert changed(of(bundle, format_of_old=1), bundle, code=CODE) is None


def test_names_on_either_side_are_compared():
    assert [str(c) for c in differing({"a": "1", "b": "2"}, {"b": "3", "c": "4"})] == [
        "a 1 -> none", "b 2 -> 3", "c none -> 4",
    ]  # fmt: skip


def test_a_pipeline_of_features_only_has_parts_too(bundle):
    names = ("label", "training", "evaluation", "monitoring")
    assert "features.service" in parts(of(bundle, **dict.fromkeys(names)))
