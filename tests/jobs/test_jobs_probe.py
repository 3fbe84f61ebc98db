"""probe: what a retraining would win, on streams where that is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support import graphs
from support.learning import FAST, World, spec
from support.requests import request

from millrace.contract import Artifact, JobResult
from millrace.core.canonical import digest
from millrace.jobs.runner import run
from millrace.learners.probes import halves
from millrace.models.files import WeightsFile, load, save
from millrace.spec.learner import TorchMLPLearner, XGBoostLearner

MONTHS = ("2013-01", "2013-02", "2013-03", "2013-04")
LATER = "2013-06-01T00:00:00+00:00"
SPEC: dict[str, Any] = {"monitoring": {"minimum_rows": 500}, "training": {"window": "P12M"}}


def month(number: int, turned: float, seed: int = 0, **changes: Any) -> pa.Table:
    """Labelled rows of a month of 2013, 60 a day; `turned` says how far what `distance` means has turned round."""
    random = np.random.default_rng([seed, number])
    begin = datetime(2013, number, 1, 5, tzinfo=UTC)  # New York's midnight, or one hour after it
    count = 28 * 60
    distance = random.normal(0, 1, count)
    late = random.random(count) < 1 / (1 + np.exp(-(1 - 2 * turned) * 2 * distance))
    data = {
        "flight_id": [f"{number}-{n}" for n in range(count)],
        "event_timestamp": pa.array(
            [begin + timedelta(days=n // 60, minutes=n % 60) for n in range(count)], pa.timestamp("us", "UTC")
        ),
        "distance": distance,
        "carrier": random.choice(["AA", "UA"], count).tolist(),
        "late": pa.array(late),
    }
    return pa.table({**data, **changes})


def labelled(table: pa.Table, task: str) -> pa.Table:
    """The rows with a label of another task, where it is another."""
    if task == "binary":
        return table
    signal = table["distance"].to_numpy() + np.random.default_rng(5).normal(0, 0.5, table.num_rows)
    classes = np.array(["early", "on time", "late"])[np.digitize(signal, [-0.5, 1])]
    label = pa.array(signal if task == "regression" else classes.tolist())
    return table.set_column(table.column_names.index("late"), "late", label)


class Probing:
    """A champion of January and February, and what its months of `turned` say afterwards."""

    def __init__(
        self,
        root: Path,
        turned: tuple[float, ...],
        learner: dict[str, Any] = FAST,
        task: str = "binary",
        **changes: Any,
    ) -> None:
        self.world = World(root, spec(task, **{**SPEC, "training": {"learner": learner, "window": "P12M"}, **changes}))
        self.months = [labelled(month(n, t), task) for n, t in enumerate(turned, start=1)]
        self.training_set = self.world.snapshot(pa.concat_tables(self.months[:2]))
        scope = MONTHS[:2]
        made = self.world.run("train", {"training_set": self.training_set}, {"learner": None}, scope=scope)
        assert made.outcome is not None, made.error
        self.model = made.outcome.outputs["model"]
        judged = self.world.run("evaluate", {"training_set": self.training_set, "model": self.model}, scope=scope)
        assert judged.outcome is not None, judged.error
        self.evaluation = judged.outcome.outputs["evaluation"]

    def run(
        self, months: list[pa.Table] | None = None, form: str = "full", as_of: str = LATER, **means: Any
    ) -> JobResult:
        tables = self.months[2:] if months is None else months
        scope = MONTHS[2 : 2 + len(tables)]
        inputs: list[tuple[str, Artifact, str | None]] = [
            ("model", self.model, None), ("training_set", self.training_set, None),
            ("evaluation", self.evaluation, None),
        ]  # fmt: skip
        inputs += [("features", self.world.snapshot(t, "features", k), k) for k, t in zip(scope, tables, strict=True)]
        return run(request(
            "probe", store=self.world.root / "store", spec_digest=self.world.bundle.digest, scope=scope, inputs=inputs,
            params={"as_of": as_of, "form": form}, seed=7, threads=2, **means,
        ))  # fmt: skip

    def facts(self, *given: Any, **more: Any) -> dict[str, Any]:
        result = self.run(*given, **more)
        assert result.outcome is not None, result.error
        return result.outcome.facts


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Probing:
    return Probing(tmp_path_factory.mktemp("still"), (0, 0, 0, 0))


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Probing:
    return Probing(tmp_path_factory.mktemp("moved"), (0, 0, 0.5, 0.5))


@pytest.mark.parametrize("form", ["full", "sampled"])
def test_where_nothing_moved_there_is_nothing_to_win(still: Probing, form: str) -> None:
    gain = still.facts(form=form)["gain"]
    assert abs(gain["mean"]) < max(0.02, 2 * gain["error"])


@pytest.mark.parametrize("form", ["full", "sampled"])
def test_where_the_concept_turned_the_gain_is_beyond_chance(moved: Probing, form: str) -> None:
    facts = moved.facts(form=form)
    gain = facts["gain"]
    assert gain["mean"] > 0.05 and gain["mean"] > 4 * gain["error"]
    assert (facts["form"], facts["why"], facts["blocks"]) == (form, None, 28)


def test_recent_rows_get_more_weight_where_that_is_surely_better(tmp_path: Path) -> None:
    # given a month that says the opposite of all before it
    facts = Probing(tmp_path, (0, 0, 0, 1)).facts()
    assert facts["gain"]["recent"] is True
    assert facts["gain"]["mean"] > facts["alike"]


def test_nothing_here_trains_like_a_champion_that_came_as_a_graph(still: Probing, monkeypatch: Any) -> None:
    objects, champion = still.world.objects, still.model
    data = graphs.data(graphs.logistic([1.0, 0.0], 0))
    weights = WeightsFile(file="weights.onnx", digest=digest(data), media_type="application/onnx")
    card = load(objects, champion.uri, champion.digest).card
    card = card.model_copy(update={"learner": {"kind": "onnx"}, "weights": weights, "reference": None})
    monkeypatch.setattr(still, "model", save(objects, card, data))
    facts = still.facts()
    assert facts["gain"] is None and "trained elsewhere" in facts["why"]


def test_a_still_stream_keeps_its_weights(still: Probing) -> None:
    assert still.facts()["gain"]["recent"] is False


def test_the_same_request_says_the_same(moved: Probing) -> None:
    assert moved.run(form="sampled").outcome_digest == moved.run(form="sampled").outcome_digest


def test_a_probe_is_measured_on_blocks_that_it_did_not_see_and_not_beside_those_it_saw() -> None:
    keys = np.array([f"2013-03-{day:02d}" for day in range(1, 31) for _ in range(2)])
    turn = halves(keys)
    runs = [int(a) for a in np.diff(np.flatnonzero(np.diff(turn.astype(int), prepend=-1, append=-1)))]
    assert runs == [10] * 6  # five days of two rows
    assert halves(np.array(["a", "b", "c"])).tolist() == [True, False, True]


def test_labels_of_the_rows_it_is_measured_on_never_reach_a_probe(tmp_path: Path) -> None:
    # given labels that are coins, and a learner that can learn them by heart
    probing = Probing(tmp_path, (0.5, 0.5, 0.5), learner={**FAST, "rounds": 60, "max_depth": 6, "learning_rate": 0.3})
    assert probing.facts()["gain"]["mean"] < 0.02


def test_labels_not_yet_known_are_not_used(moved: Probing) -> None:
    facts = moved.facts(as_of="2013-04-02T00:00:00+00:00")
    assert facts["gain"] is None
    assert facts["why"] == "0 labelled rows in 2013-04, fewer than monitoring.minimum_rows"
    some = moved.facts(as_of="2013-04-20T12:00:00+00:00")
    assert some["blocks"] < 28 and some["gain"] is not None


def test_what_cannot_be_probed_is_no_error_and_no_gain(still: Probing) -> None:
    gone = month(4, 0).drop_columns(["carrier"])
    facts = still.facts([still.months[2], gone])
    assert facts["gain"] is None
    assert "lack the column 'carrier'" in facts["why"]
    few = month(4, 0).slice(0, 60 * 4)
    assert "fewer than monitoring.minimum_rows" in still.facts([still.months[2], few])["why"]


def test_too_few_blocks_cost_no_fit(tmp_path: Path) -> None:
    probing = Probing(tmp_path, (0, 0, 0), monitoring={"minimum_rows": 100})
    facts = probing.facts([month(3, 0).slice(0, 60 * 4)])
    assert (facts["gain"], facts["why"]) == (None, "4 blocks in 2013-03 are too few to judge by")


def test_rows_that_a_retraining_would_not_have_are_not_learned_from(tmp_path: Path) -> None:
    probing = Probing(tmp_path, (0, 0, 0, 0), training={"learner": FAST, "window": "P2M"})
    rows = probing.facts()["rows"]
    held_back = probing.world.spec["training"]["holdout"]["share"]
    assert 0.6 * 28 * 60 < rows["history"] < 28 * 60 * (1 - held_back / 2)  # March alone, without what is held out
    assert rows["champion"] > 1.5 * rows["history"]


def test_the_sampled_form_fits_small_and_quick_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from millrace.learners import probes
    from millrace.learners.xgboost import XGBoost

    fits: list[tuple[int, Any]] = []
    fit = XGBoost.fit

    def spy(self: Any, train: Any, holdout: Any, params: Any, *rest: Any) -> Any:
        fits.append((len(train), params.rounds))
        return fit(self, train, holdout, params, *rest)

    probing = Probing(tmp_path, (0, 0, 0, 0), learner={**FAST, "rounds": 40})
    monkeypatch.setattr(probes, "LEAST", 100)
    monkeypatch.setattr(XGBoost, "fit", spy)
    whole = probing.months[0].num_rows
    probing.facts(form="sampled")
    assert len(fits) == 5  # a twin, and two halves with two weightings
    assert {rounds for _, rounds in fits} == {10}
    assert sum(rows for rows, _ in fits) < 5 * 0.15 * 3 * whole
    fits.clear()
    probing.facts(form="full")
    assert (len(fits), {rounds for _, rounds in fits}) == (4, {40})


def test_quick_parameters_take_a_quarter_of_the_steps() -> None:
    quick = XGBoostLearner(rounds=200, learning_rate=0.05, max_depth=5).quick()
    assert (quick.rounds, quick.learning_rate, quick.max_depth) == (50, 0.2, 5)
    assert XGBoostLearner(rounds=3, learning_rate=0.5).quick().learning_rate == 0.5
    assert TorchMLPLearner(epochs=10).quick().epochs == 3


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_every_task_can_be_probed(tmp_path: Path, task: str) -> None:
    gain = Probing(tmp_path, (0, 0, 0), task=task).facts(form="sampled")["gain"]
    assert abs(gain["mean"]) < max(0.05, 3 * gain["error"])
