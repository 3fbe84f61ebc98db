"""A reason to retrain that can never come true is a mistake of the spec, not silence for ever."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from millrace.checks.triggers import check_triggers
from millrace.cli.scaffold import init, new
from millrace.spec import ProjectTree
from millrace.spec.yaml_file import read_yaml

REFERENCE = ProjectTree(Path(__file__).resolve().parents[2])
MONTHS: dict[str, Any] = {"partition": {"grain": "month", "start": "2024-01", "end": None}}
# (what is told, changes of the scaffold's spec, keys of the problems in their order)
SPECS = [
    ("five days", {"monitoring": {"window": "P5D"}}, []),
    ("four days", {"monitoring": {"window": "P4D"}}, ["monitoring.window"]),
    ("four days that do not matter", {"monitoring": {"window": "P4D", "retrain_on": {"performance": False}}}, []),
    ("one day", {"monitoring": {"window": None}}, ["monitoring.window"]),
    ("one day in hours", {"monitoring": {"window": None}, "training": {"holdout": {"block": "hour"}}}, []),
    ("a month", MONTHS | {"monitoring": {"window": None}}, []),
    ("a month in weeks", MONTHS | {"monitoring": {"window": None}, "training": {"window": "P6M", "holdout":
     {"block": "week"}}}, []),
    ("four weeks in weeks", {"partition": {"end": None}, "training": {"window": "P26W", "holdout": {"block": "week"}},
     "monitoring": {"window": "P21D"}}, ["monitoring.window"]),
    ("data of four days", {"partition": {"end": "2024-01-04"}},
     ["monitoring.window", "training.holdout", "monitoring.max_age", "training.window", "training.holdout"]),
    ("an age that no champion reaches", {"partition": {"start": "2024-01-01", "end": "2024-02-29"}, "monitoring":
     {"max_age": "P60D"}}, ["monitoring.max_age"]),
    ("an age that the first champion may reach", {"partition": {"start": "2024-01-01", "end": "2024-02-29"},
     "monitoring": {"max_age": "P59D"}}, []),
    ("an age that no champion reaches, which does not matter", {"partition": {"start": "2024-01-01", "end":
     "2024-02-29"}, "monitoring": {"max_age": "P60D", "retrain_on": {"age": False}}}, []),
    ("days held out too few for a duel", {"training": {"holdout": {"share": 0.25}}}, ["training.holdout"]),
    ("few days held out", {"training": {"holdout": {"share": 0.2}}}, ["training.holdout", "training.holdout"]),
    ("few days held out, which do not matter to performance", {"training": {"holdout": {"share": 0.2}},
     "monitoring": {"retrain_on": {"performance": False}}}, ["training.holdout"]),
    ("a training window too short for a sketch", {"training": {"window": "P9D", "holdout": {"share": 0.9}}},
     ["training.window"]),
    ("and drift does not matter", {"training": {"window": "P9D", "holdout": {"share": 0.9}},
     "monitoring": {"retrain_on": {"drift": False}}}, []),
    ("labels that come late, replayed", {"label": {"known_after": "P3D"}}, []),
    ("labels that come late, live", {"partition": {"end": None}, "label": {"known_after": "P3D"}},
     ["monitoring.window"]),
    ("labels that come later than the window", {"partition": {"end": None}, "label": {"known_after": "P1M"}},
     ["monitoring.window"]),
    ("labels that come late, live, in a longer window", {"partition": {"end": None}, "label": {"known_after": "P3D"},
     "monitoring": {"window": "P8D"}}, []),
    ("an experiment whose effect takes longer than it may", {"serving": {"rollout": {"strategy": "ab", "metric":
     "ordered", "minimum_effect": 0.1}}}, ["serving.rollout.minimum_effect"]),
    ("an experiment that may take as long", {"serving": {"rollout": {"strategy": "ab", "metric": "ordered",
     "minimum_effect": 0.1, "longest": "P79D"}}}, []),
    ("an experiment whose outcomes come too late for it", {"serving": {"rollout": {"strategy": "ab", "metric":
     "ordered", "minimum_effect": 0.1, "longest": "P79D"}}, "label": {"known_after": "P2D"}},
     ["serving.rollout.longest"]),
    ("an experiment whose metric keeps closer bounds", {"serving": {"rollout": {"strategy": "ab", "metric": "ordered",
     "minimum_effect": 0.1, "high": 0.2}}}, []),
]  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> ProjectTree:
    init(tmp_path / "shop")
    found = ProjectTree(tmp_path / "shop")
    new(found, "visits")
    return found


def merged(value: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    out = dict(value)
    for key, change in changes.items():
        out[key] = merged(out.get(key) or {}, change) if isinstance(change, dict) else change
    return out


@pytest.mark.parametrize(("changes", "keys"), [s[1:] for s in SPECS], ids=[s[0] for s in SPECS])
def test_a_trigger_that_cannot_fire_is_named_by_its_key(
    tree: ProjectTree, changes: dict[str, Any], keys: list[str]
) -> None:
    path = tree.folder("visits") / "pipeline.yaml"
    path.write_text(yaml.safe_dump(merged(read_yaml(path), changes)))
    found = check_triggers(tree, tree.spec("visits"))
    assert [line.split(": ")[1] for line in found] == keys, found
    for line in found:
        assert line.startswith(f"{path}:") and re.search("can never (fire|be won)|no model can become champion", line)


def test_what_new_writes_and_the_reference_pipelines_can_retrain(tree: ProjectTree) -> None:
    assert check_triggers(tree, tree.spec("visits")) == []
    for name in REFERENCE.pipelines():
        assert check_triggers(REFERENCE, REFERENCE.spec(name)) == [], name


def test_a_day_that_clocks_make_shorter_is_a_block_like_others(tree: ProjectTree) -> None:
    """Windows are counted on the clocks of the pipeline's zone: 96 hours over a day of 23 reach into a fifth day."""
    path = tree.folder("visits") / "pipeline.yaml"
    changes = {"partition": {"timezone": "America/New_York", "start": "2024-03-08", "end": None}}
    for window, problems in (("P5D", 0), ("PT96H", 0), ("PT95H", 1), ("P4D", 1)):
        text = merged(read_yaml(path), {**changes, "monitoring": {"window": window}})
        path.write_text(yaml.safe_dump(text))
        assert len(check_triggers(tree, tree.spec("visits"))) == problems, window
