"""On-demand features: text of the Feast file, computed alike in training and for one row."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import feast_project

from millrace.core.errors import CodeError, SpecError
from millrace.feast_stores.on_demand import on_demand_views
from millrace.jobs.runner import run
from millrace.online.on_demand import computed
from millrace.spec.compute import CUSTOM_CODE, PROCESS
from millrace.store import SnapshotStore

row = feast_project.row
VIEWS = """
from feast import RequestSource
from feast.on_demand_feature_view import on_demand_feature_view

asked = RequestSource(name="asked", schema=[Field(name="tip", dtype=Float64)])


@on_demand_feature_view(
    sources=[trips, asked], mode="python", singleton=True,
    schema=[Field(name="pace", dtype=Float64), Field(name="long", dtype=Bool)],
)
def paced(given):
    import math

    far, fast = given["distance"], given["speed"]
    pace = None if not fast or far is None else math.sqrt(abs(far)) / fast + (given["tip"] or 0.0)
    return {"pace": pace, "long": far is not None and far > 100}


@on_demand_feature_view(sources=[trips], mode="python", schema=[Field(name="driven", dtype=String)])
def named(given):
    return {"driven": [None if name is None else name.upper() for name in given["driver"]]}


trips_v1 = FeatureService(name="trips_v1", features=[trips[["speed", "driver"]], paced, named])
"""
FEATURES = feast_project.FEATURES + VIEWS
# Timestamps are no type that a function is given: the view's own features are narrowed to those that are.
FEATURES = FEATURES.replace("sources=[trips", 'sources=[trips[["distance", "speed", "driver"]]')
WHERE = "feature_repo/trips.py"


def test_a_training_set_has_what_one_row_alone_gives(tmp_path: Path) -> None:
    project = feast_project.FeastProject.make(tmp_path / "p")
    project.features = FEATURES
    project.write("trips", FEATURES)
    project.apply()
    rows = [row(f"v{n}", "2024-01-01 05:00", n * 37, speed=n / 7 if n % 5 else None,
                driver=None if n % 4 == 0 else "ann") for n in range(20)]  # fmt: skip
    tips = [None if n % 6 == 0 else n / 3 for n in range(20)]
    import pyarrow as pa

    table = pa.Table.from_pylist(rows, feast_project.SCHEMA).append_column("tip", pa.array(tips, pa.float64()))
    asked = project.request("build_training_set", "features", {"2024-01-01": project.snapshot("2024-01-01", table)},
                            {"as_of": "2024-02-01T00:00:00+00:00"})  # fmt: skip
    refused = run(asked)
    assert "may not be executed in the task's process here" in str(refused.error)
    means = asked.means.model_copy(update={"limits": {**asked.means.limits, CUSTOM_CODE: PROCESS}})
    result = run(asked.model_copy(update={"means": means}))
    assert result.error is None, result.error
    data = result.outcome.outputs["data"]
    made = SnapshotStore(project.objects).read(data.uri, data.digest)
    assert made.column_names == [
        "vehicle",
        "event_timestamp",
        "speed",
        "driver",
        "pace",
        "long",
        "driven",
        "late",
        "made_from.distance",
        "made_from.tip",
    ]
    views = on_demand_views(FEATURES, "trips_v1", WHERE)
    by_vehicle = {each["vehicle"]: {**each, "tip": tip} for each, tip in zip(rows, tips, strict=True)}
    for found in made.to_pylist():
        alone = computed(views, by_vehicle[found["vehicle"]])
        assert {name: found[name] for name in alone} == alone
    assert sum(each is not None for each in made["pace"].to_pylist()) == 16


def test_what_is_not_a_function_of_a_row_is_refused_with_its_line() -> None:
    for text, words in (
        (FEATURES.replace('mode="python", singleton=True', 'mode="pandas"'), "not computed for one row"),
        (FEATURES.replace("    import math\n\n", ""), "uses names from outside of it.*math"),
        (FEATURES.replace('"distance", "speed"', '"distance", "serviced", "speed"'), "serviced: UNIX_TIMESTAMP"),
    ):
        with pytest.raises(SpecError, match=words) as said:
            on_demand_views(text, "trips_v1", WHERE)
        assert str(said.value.where).startswith(WHERE + ":")
    assert on_demand_views(feast_project.FEATURES, "trips_v1", WHERE) == ()


def test_an_error_names_function_and_line_and_no_value() -> None:
    views = on_demand_views(FEATURES.replace("math.sqrt(abs(far))", "math.sqrt(far)"), "trips_v1", WHERE)
    line = next(n for n, text in enumerate(FEATURES.splitlines(), 1) if "math.sqrt" in text)
    with pytest.raises(CodeError, match="paced raised ValueError") as said:
        computed(views, {"distance": -77, "speed": 1.0, "driver": "secret", "tip": None})
    assert said.value.where == f"{WHERE}:{line}"
    assert "77" not in str(said.value) and "secret" not in str(said.value)


@given(
    st.none() | st.floats(allow_infinity=False) | st.sampled_from([0.0, -0.0]), st.none() | st.integers(-99, 2**63 - 1)
)
def test_missing_is_none_and_what_comes_out_has_its_type(speed: Any, distance: Any) -> None:
    found = computed(VIEWED, {"distance": distance, "speed": speed, "driver": "ä", "tip": math.nan})
    assert found["driven"] == "Ä" and isinstance(found["long"], bool)
    assert found["pace"] is None or math.isfinite(found["pace"])


VIEWED = on_demand_views(FEATURES.replace(" / fast", " / max(abs(fast), 1.0)"), "trips_v1", WHERE)
