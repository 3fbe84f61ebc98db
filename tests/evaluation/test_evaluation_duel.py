"""The duel on models that were trained: who may meet whom, on which rows, and what parts of the slice say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support.learning import FAST, World, rows, spec

from millrace.core.canonical import canonical_json
from millrace.core.errors import DataError
from millrace.evaluation.checks import Judged, Subject, TrainingSet, duel, duel_parts, judge
from millrace.evaluation.checks.frozen import Frozen, Side, constant, freeze, overlap
from millrace.evaluation.measure import measure
from millrace.models.files import Model, load
from millrace.models.holdout import Holdout
from millrace.models.metrics import row_losses
from millrace.spec.duel import Costs, DuelCheck, Slices

WEAK = {**FAST, "rounds": 3}
LOOSE = DuelCheck(tolerance=0.5)


class Trained:
    """Models of one task, each with its training set."""

    def __init__(self, root: Path, task: str = "binary") -> None:
        self.task, self.root = task, root
        self.table = rows(task=task)
        self.good, self.set = self.model(FAST)
        self.weak, _ = self.model(WEAK)

    def model(
        self, learner: dict[str, Any], table: pa.Table | None = None, **changes: Any
    ) -> tuple[Model, TrainingSet]:
        world = World(self.root, spec(self.task, **changes))
        table = self.table if table is None else table
        made = world.train(table, learner)
        assert made.outcome is not None, made.error
        artifact = made.outcome.outputs["model"]
        return load(world.objects, artifact.uri, artifact.digest), TrainingSet(world.snapshot(table).digest, table)

    def subject(self, challenger: Model | None = None, champion: Model | None = None, **changes: Any) -> Subject:
        model = challenger or self.good
        made = Subject(
            model=model, measured=measure(model, self.table, seed=7), champion=champion, seed=7, training_set=self.set,
            champion_training_set=self.set if champion else None,
        )  # fmt: skip
        return replace(made, **changes)


@pytest.fixture(scope="module")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(tmp_path_factory.mktemp("binary"))


def frozen(mine: Any, theirs: Any, table: pa.Table, blocks: Any) -> Frozen:
    """A slice with these losses, of labels and probabilities that nobody asks about."""
    nothing = np.zeros(len(blocks))
    return Frozen(
        table,
        np.asarray(blocks),
        *(Side(nothing, nothing, np.asarray(loss), ()) for loss in (mine, theirs)),
        "champion",
    )


def failures(judged: Judged) -> dict[str, str]:
    return {check.name: check.message for check in judged.checks if not check.passed}


def why(subject: Subject) -> str:
    """Why a duel is refused; its facts name both models and no result that could be promoted by."""
    judged = judge([LOOSE], subject)
    facts = judged.facts["duel"]
    assert (facts["result"], facts["difference"]) == ("refused", None)
    assert facts["challenger"] == subject.model.digest
    assert facts["champion"] == (subject.champion.digest if subject.champion else None)
    canonical_json(facts)
    return failures(judged)["duel"]


def test_a_better_challenger_passes_and_a_worse_one_does_not(binary: Trained) -> None:
    strict = DuelCheck(better=True)
    won = judge([strict], binary.subject(binary.good, binary.weak))
    assert failures(won) == {}
    facts = won.facts["duel"]
    assert (facts["challenger"], facts["champion"]) == (binary.good.digest, binary.weak.digest)
    assert facts["high"] < 0 and facts["result"] == "passed"
    lost = judge([strict], binary.subject(binary.weak, binary.good))
    assert "it is worse" in failures(lost)["duel"]
    assert lost.facts["duel"]["difference"] == -facts["difference"]
    canonical_json(facts)


def test_losses_are_weighed_as_the_challenger_was_trained(binary: Trained) -> None:
    # given a challenger that is worse on all that is past, and better on the newest tenth of the rows
    subject = binary.subject(binary.weak, binary.good)
    rows = subject.measured.rows.num_rows
    newest = np.argsort(np.array(subject.measured.rows["event_timestamp"].to_pylist()), kind="stable") >= 0.9 * rows
    assert "it is worse" in failures(judge([DuelCheck(better=True)], subject))["duel"]
    plain = freeze(subject)
    made = freeze(replace(subject, weight=np.where(newest, 1.0, 1e-9)))
    for side, other in ((made.challenger, plain.challenger), (made.champion, plain.champion)):
        assert side.losses[newest] == pytest.approx(other.losses[newest] * rows / newest.sum(), rel=1e-6)
        assert side.losses.mean() == pytest.approx(other.losses[newest].mean(), rel=1e-6)
    alike = freeze(replace(subject, weight=np.full(rows, 7.0)))
    assert alike.challenger.losses == pytest.approx(plain.challenger.losses)


def test_no_model_meets_itself(binary: Trained) -> None:
    assert f"the same model {binary.good.digest}" in why(binary.subject(binary.good, binary.good))


def test_swapped_roles_are_refused(binary: Trained) -> None:
    # Given a champion of other rows, and a caller that takes one for the other
    champion, earlier = binary.model(FAST, rows(seed=5))
    swapped = binary.subject(champion_training_set=binary.set)
    swapped = replace(swapped, model=champion, champion=binary.good)
    assert "a role is swapped or stale" in why(swapped)
    # and one that brings the training set of another champion, or none
    stale = binary.subject(champion=champion)
    assert earlier.digest in why(stale) and "the champion" in why(stale)
    assert "not given its training set" in why(replace(stale, champion_training_set=None))
    assert "the training set is not at hand" in why(replace(stale, training_set=None))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pipeline": "other"}, "a model of the pipeline 'other'"),
        ({"label": "early"}, "another label"),
        ({"entity": ("tailnum",)}, "another key"),
        ({"event_time": "departure"}, "another key"),
    ],
)
def test_a_champion_that_cannot_be_compared_is_refused(binary: Trained, changes: dict[str, Any], words: str) -> None:
    other = replace(binary.weak, card=binary.weak.card.model_copy(update=changes))
    assert words in why(binary.subject(champion=other))


def test_training_rows_inside_the_slice_are_refused(binary: Trained) -> None:
    # Given a slice that was measured by another rule than the model was trained by
    rule = binary.good.card.holdout.model_copy(update={"seed": 8})
    other = replace(binary.good, card=binary.good.card.model_copy(update={"holdout": rule}))
    leaking = measure(other, binary.table, seed=7)
    assert "the challenger was trained on" in why(binary.subject(measured=leaking))
    # and that a champion of that rule did hold out
    champion, given = binary.model(WEAK, training={"seed": 8})
    assert "the challenger was trained on" in why(
        binary.subject(champion=champion, champion_training_set=given, measured=leaking)
    )


def test_a_champion_of_another_holdout_is_met_on_what_neither_was_trained_on(binary: Trained) -> None:
    # Given one whose seed drew other days
    champion, given = binary.model(WEAK, training={"seed": 8, "holdout": {"share": 0.6, "block": "day"}})
    subject = binary.subject(champion=champion, champion_training_set=given)
    keys = ["flight_id", "event_timestamp"]
    held = subject.measured.rows
    assert overlap(held, given.rows, champion.card, keys) > 0
    met = freeze(subject)
    assert 0 < met.rows.num_rows < held.num_rows
    assert overlap(met.rows, given.rows, champion.card, keys) == 0
    # and rows are known by key, in whatever type it is stored
    large = pa.table({"flight_id": given.rows["flight_id"].cast(pa.int32()), "event_timestamp": given.rows[keys[1]]})
    assert overlap(held, large, champion.card, keys) == overlap(held, given.rows, champion.card, keys)
    words = pa.table(
        {"flight_id": pa.array([f"n{n}" for n in range(given.rows.num_rows)]), keys[1]: given.rows[keys[1]]}
    )
    with pytest.raises(DataError, match="other types"):
        overlap(held, words, champion.card, keys)
    # and where nothing is left there is no duel
    nothing = champion.card.holdout.model_copy(update={"share": 1e-9})
    empty = replace(champion, card=champion.card.model_copy(update={"holdout": nothing}))
    assert "no row was held out by both" in why(replace(subject, champion=empty))


def test_a_first_champion_must_beat_the_best_constant(binary: Trained) -> None:
    judged = judge([LOOSE], binary.subject())
    assert failures(judged) == {}
    facts = judged.facts["duel"]
    assert (facts["against"], facts["champion"], facts["better"]) == ("constant", None, True)
    # and one that learned from labels without a cause does not, whatever the tolerance
    shuffled = binary.table.set_column(
        binary.table.column_names.index("late"), "late",
        pa.array(np.random.default_rng(1).permutation(binary.table["late"].to_numpy(zero_copy_only=False))),
    )  # fmt: skip
    blind, given = binary.model({**FAST, "rounds": 60}, shuffled)
    measured = measure(blind, shuffled, seed=7)
    lost = judge([LOOSE], binary.subject(blind, training_set=given, measured=measured))
    assert "the best constant" in failures(lost)["duel"]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_constant_has_the_least_loss_on_the_rows_that_were_trained_on(task: str, tmp_path: Path) -> None:
    made = Trained(tmp_path, task)
    subject, card = made.subject(), made.good.card
    like = Side(np.empty(0), subject.measured.label, subject.measured.losses, card.classes)
    found = constant(made.table, like, card)
    assert found.prediction.shape[0] == len(subject.measured.label) and (found.prediction == found.prediction[0]).all()
    held, _ = card.holdout.mask(made.table[card.event_time])
    from millrace.models.encoding import labels

    known = labels(made.table.filter(pa.array(~held)), card.label, task, card.classes)  # type: ignore[arg-type]

    def loss(value: Any) -> float:
        return float(row_losses(task, known, np.repeat(value[None], len(known), axis=0)).mean())  # type: ignore[arg-type]

    best, rng = loss(found.prediction[0]), np.random.default_rng(2)
    for _ in range(20):
        moved = found.prediction[0] * np.exp(rng.normal(0, 0.1, found.prediction[0].shape))
        moved = moved / moved.sum() if task == "multiclass" else np.clip(moved, 0, 1) if task == "binary" else moved
        assert loss(moved) > best


DAYS = np.repeat([f"2013-{month:02}-{day:02}" for month in (1, 2, 4) for day in range(1, 13)], 60)
CARRIER = np.tile(["AA", "B6", "UA"], len(DAYS) // 3)
TABLE = pa.table({"carrier": pa.array(CARRIER.tolist()), "hour": pa.array(np.arange(len(DAYS)) % 4),
                  "distance": pa.array(np.arange(len(DAYS), dtype=float))})  # fmt: skip


def noise(seed: int) -> Any:
    return np.random.default_rng(seed).normal(0.5, 0.05, len(DAYS))


def test_a_slice_that_regresses_fails_though_the_whole_is_better() -> None:
    mine = noise(1) - 0.1 + np.where(CARRIER == "UA", 0.2, 0.0)
    asked = DuelCheck(tolerance=0.01, slices={"columns": ["carrier", "hour"]})
    judged = duel._slices(asked, frozen(mine, noise(2), TABLE, DAYS))
    assert set(failures(judged)) == {"duel.carrier"}
    assert failures(judged)["duel.carrier"].startswith("it is worse by more than 0.01 on carrier UA +0.")
    facts = judged.facts["slices"]
    assert [name for name, each in facts.items() if each["regressed"]] == ["carrier UA"]
    assert {"carrier AA", "hour 3", "the newest 8 blocks"} <= set(facts)


def test_the_newest_blocks_are_a_slice_of_their_own() -> None:
    names = np.unique(DAYS)
    mine = noise(1) - 0.1 + np.where(np.isin(DAYS, names[-8:]), 0.2, 0.0)
    for newest, failed in ((8, {"duel.newest"}), (30, set())):
        judged = duel._slices(DuelCheck(slices={"newest": newest}), frozen(mine, noise(2), TABLE, DAYS))
        assert set(failures(judged)) == failed


@pytest.mark.parametrize(
    ("calendar", "names"),
    [
        ("quarter", {"quarter 2013-Q1", "quarter 2013-Q2"}),
        ("month", {"month 2013-01", "month 2013-02", "month 2013-04"}),
        ("week", {"week 2012-12-31", "week 2013-01-07", "week 2013-01-28", "week 2013-02-04", "week 2013-02-11",
                  "week 2013-04-01", "week 2013-04-08"}),
    ],
)  # fmt: skip
def test_the_calendar_makes_slices(calendar: Any, names: set[str]) -> None:
    made = list(duel_parts.slices(Slices(calendar=calendar), frozen(noise(1), noise(2), TABLE, DAYS)))
    assert {name for maker, name, _ in made if maker == calendar} == names
    assert sum(mask.sum() for maker, _, mask in made if maker == calendar) == len(DAYS)
    hours = np.char.add(DAYS, "T23")  # blocks of hours are on the same calendar
    again = duel_parts.slices(Slices(calendar=calendar), frozen(noise(1), noise(2), TABLE, hours))
    assert {name for maker, name, _ in again if maker == calendar} == names


@pytest.mark.parametrize(
    ("table", "column", "words"),
    [
        (TABLE, "gone", "no column 'gone'"),
        (TABLE, "distance", "has type double"),
        (pa.table({"n": pa.array(range(len(DAYS)))}), "n", "too many slices"),
    ],
)
def test_what_makes_no_slices_fails(binary: Trained, table: pa.Table, column: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        list(duel_parts.slices(Slices(columns=(column,)), frozen(noise(1), noise(2), table, DAYS)))
    judged = judge([DuelCheck(tolerance=0.5, slices={"columns": ["gone"]})], binary.subject(champion=binary.weak))
    assert "no column 'gone'" in failures(judged)["duel"]


def side(task: str, prediction: Any, label: Any, classes: tuple[Any, ...] = ()) -> Side:
    p, y = np.asarray(prediction, dtype=float), np.asarray(label, dtype=float)
    return Side(p, y, row_losses(task, y, p), classes)  # type: ignore[arg-type]


def test_the_calibration_error_is_the_mean_gap_of_its_bins() -> None:
    rng = np.random.default_rng(3)
    p = rng.random(5000)
    y = (rng.random(5000) < p**2).astype(float)
    found = duel_parts.miscalibration("binary", side("binary", p, y)).mean()
    edges = np.quantile(p, np.linspace(0, 1, 11))
    bins = np.clip(np.searchsorted(edges, p, side="right") - 1, 0, 9)
    gaps = [abs(p[bins == b].mean() - y[bins == b].mean()) * (bins == b).mean() for b in range(10)]
    assert found == pytest.approx(sum(gaps), rel=1e-6)


@pytest.mark.parametrize(("sharpened", "passed"), [(3.0, False), (1.0, True)])
def test_a_challenger_that_is_too_sure_fails(sharpened: float, passed: bool) -> None:
    rng = np.random.default_rng(4)
    odds = rng.normal(0, 1, len(DAYS))
    y = (rng.random(len(DAYS)) < 1 / (1 + np.exp(-odds))).astype(float)
    models = [1 / (1 + np.exp(-odds * by)) for by in (sharpened, 1.01)]
    given = Frozen(TABLE, DAYS, *(side("binary", p, y) for p in models), "champion")
    judged = duel._calibration(DuelCheck(calibration=0.02), "binary", given)
    assert (failures(judged) == {}) is passed
    assert judged.facts["calibration"]["champion"] < 0.03
    assert duel._calibration(DuelCheck(), "binary", given).checks == ()


def test_decisions_cost_what_the_matrix_says() -> None:
    costs = Costs.model_validate({"currency": "EUR", "matrix": {0: {1: 5}, 1: {0: 60}}})
    # Deciding 1 costs least from a probability of 5 in 65 on
    given = side("binary", [0.05, 0.10, 0.9, 0.05], [0, 0, 1, 1])
    assert duel_parts.money(costs, "binary", given, None).tolist() == [0, 5, 0, 60]
    # and a class that the model does not know costs what is decided about it
    many = Costs.model_validate({"currency": "EUR", "matrix": {"a": {"b": 1}, "b": {"a": 1}, "c": {"a": 7, "b": 8}}})
    known = side("multiclass", [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]], [0, 0, -1], ("a", "b"))
    assert duel_parts.money(many, "multiclass", known, pa.chunked_array([["a", "a", "c"]])).tolist() == [0, 1, 8]
    error = Costs(currency="EUR", over=1, under=3)
    assert duel_parts.money(error, "regression", side("regression", [2, 1], [1, 2]), None).tolist() == [1, 3]


def test_the_verdict_says_the_difference_in_money(binary: Trained) -> None:
    asked = DuelCheck.model_validate({"costs": {"currency": "EUR", "matrix": {0: {1: 5}, 1: {0: 20}}}})
    judged = judge([asked], binary.subject(binary.good, binary.weak))
    facts = judged.facts["duel"]["money"]
    assert facts["currency"] == "EUR" and facts["difference"] < 0
    assert f"{facts['difference']:+.2f} EUR in 1,000 rows" in judged.checks[0].message


def test_the_order_of_the_rows_changes_nothing(binary: Trained) -> None:
    asked = DuelCheck.model_validate({"slices": {"columns": ["carrier"], "calendar": "week"}, "calibration": 0.1})
    subject = binary.subject(champion=binary.weak)
    order = np.random.default_rng(6).permutation(binary.table.num_rows)
    table = binary.table.take(pa.array(order))
    other = replace(
        subject, measured=measure(binary.good, table, seed=7), training_set=TrainingSet(binary.set.digest, table),
        champion_training_set=TrainingSet(binary.set.digest, table),
    )  # fmt: skip
    assert canonical_json(judge([asked], subject).facts) == canonical_json(judge([asked], other).facts)


def test_a_duel_of_too_few_blocks_is_refused_before_its_parts(binary: Trained) -> None:
    rule = Holdout(share=0.06, block="day", seed=7, timezone="UTC")
    few = replace(binary.weak, card=binary.weak.card.model_copy(update={"holdout": rule}))
    given = binary.subject(champion=few)
    judged = judge([DuelCheck(tolerance=9)], given)
    assert "fewer than 8 blocks are not judged" in failures(judged)["duel"]
    assert len(judged.checks) == 1
