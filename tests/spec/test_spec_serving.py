"""The section `serving`: what is left out has a value that can stand, and what contradicts itself is named."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from millrace.spec.serving import CanaryRollout, ServingSpec


def test_nothing_need_be_said():
    spec = ServingSpec.model_validate({})

    assert isinstance(spec.rollout, CanaryRollout) and [step.share for step in spec.rollout.steps] == [0.05, 0.25, 0.5]
    assert spec.log.durability == "durable" and spec.missing == "refuse"


@pytest.mark.parametrize("strategy", ["shadow", "canary", "blue_green"])
def test_strategies_need_their_name_alone(strategy: str):
    assert ServingSpec.model_validate({"rollout": {"strategy": strategy}}).rollout.strategy == strategy


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"missing": "fallback"}, "needs fallback.constant"),
        ({"log": {"when_full": "fallback"}}, "needs fallback.constant"),
        ({"defaults": {"x": 1}}, "missing: defaults"),
        ({"rollout": {"strategy": "canary", "steps": [{"share": 0.5}, {"share": 0.2}]}}, "is not larger"),
        ({"rollout": {"strategy": "shadow", "shadow": None}}, "shadow"),
        ({"rollout": {"strategy": "ab", "metric": "paid", "minimum_effect": 2}}, "more than the metric can differ"),
        ({"rollout": {"strategy": "ab", "metric": "paid", "minimum_effect": 1, "low": 1, "high": 1}}, "not above low"),
        ({"rollout": {"strategy": "big_bang"}}, "big_bang"),
        ({"guards": {"alpha": 0}}, "greater than 0"),
    ],
)
def test_what_contradicts_itself_is_named(given: dict[str, Any], words: str):
    with pytest.raises(ValidationError, match=words):
        ServingSpec.model_validate(given)
