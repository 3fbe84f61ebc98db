"""The learner `custom`: what its code gets, what it may give, and how a mistake of it is told."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from millrace.core.errors import CodeError, ContractError, SpecError
from millrace.learners.checkpoints import Checkpoints
from millrace.learners.protocol import Weights, learner_of
from millrace.models.protocol import Code, Column, Matrix, Settings
from millrace.spec.learner import CustomLearner
from millrace.spec.trainer import check_trainer

DOCS = Path(__file__).resolve().parents[2] / "docs" / "trainer.md"
RIDGE = DOCS.read_text().split("```python\n")[1].split("```")[0]
NAME = "include/pipelines/p/trainer.py"
GOOD = """import numpy as np
def fit(train, params, settings):
    return {"mean": np.array([train.label.mean()])}
def predict(weights, rows, params, settings):
    return np.full(len(rows), weights["mean"][0])
"""


def rows(count: int = 300, seed: int = 0, task: str = "regression") -> Matrix:
    """Two numbers, one with gaps, and a category of three levels."""
    chance = np.random.default_rng(seed)
    values = np.column_stack([chance.normal(size=count), chance.normal(size=count), chance.integers(0, 4, count)])
    label = 3 + 2 * values[:, 0] + 1.5 * (values[:, 2] == 2) + chance.normal(0, 0.1, count)
    values[chance.random(count) < 0.1, 1] = np.nan
    if task == "binary":
        label = (label > 3).astype(np.float64)
    if task == "multiclass":
        label = np.digitize(label, [2.0, 4.0]).astype(np.float64)
    columns = (Column("x", "number"), Column("gaps", "number"), Column("kind", "category", 3))
    return Matrix(columns, values, label)


def settings(task: Any = "regression") -> Settings:
    return Settings(task, seed=7, threads=1, classes=3 if task == "multiclass" else 0)


def engine(text: str) -> Any:
    return learner_of(CustomLearner(), Code(text, NAME))


def predicted(learner: Any, weights: bytes, given: Matrix) -> Any:
    return learner.predictor(weights, given.columns, CustomLearner(), settings())(given)


def fit(text: str, task: str = "regression", params: dict[str, Any] | None = None, seed: int = 0) -> Weights:
    points: list[Any] = []
    found = engine(text).fit(rows(seed=seed, task=task), rows(100, 9, task), CustomLearner(params=params or {}),
                             settings(task), Checkpoints(), points.extend)  # fmt: skip
    assert points == found.curve
    return found


def code(fitting: str = "", predicting: str = "") -> str:
    """GOOD with another body of `fit` or `predict`; their defs stand in lines 2 and 4."""
    lines = GOOD.splitlines()
    lines[2] = f"    {fitting}" if fitting else lines[2]
    lines[4] = f"    {predicting}" if predicting else lines[4]
    return "\n".join(lines)


def test_the_example_of_the_docs_learns_and_is_the_same_bytes_twice() -> None:
    first, again = fit(RIDGE, params={"penalty": 0.1}), fit(RIDGE, params={"penalty": 0.1})
    assert first.data == again.data and first.curve == again.curve
    ((step, losses),) = first.curve
    assert step == 1 and losses["holdout"] < 0.05
    assert fit(RIDGE, params={"penalty": 1000}).data != first.data
    found = predicted(engine(RIDGE), first.data, rows(50, 3))
    assert found.shape == (50,) and found.dtype == np.float64


def test_chance_begins_at_the_seed_and_leaves_no_trace() -> None:
    text = code("import random; return {'w': np.random.normal(size=3) + random.random()}",
                "return np.random.normal(size=len(rows))")  # fmt: skip
    np.random.seed(1)
    random.seed(1)
    first = fit(text)
    after = np.random.random(), random.random()
    np.random.seed(1)
    random.seed(1)
    assert after == (np.random.random(), random.random())
    np.random.seed(2)
    assert fit(text).data == first.data
    predicting = engine(text)
    one, two = (predicted(predicting, first.data, rows(5)) for _ in "ab")
    assert (one == two).all()


def test_what_the_code_does_to_its_weights_is_gone_at_the_next_call() -> None:
    text = code("return {'w': np.ones(1)}", "weights['w'][0] += 1; return np.full(len(rows), weights['w'][0])")
    given = rows(5)
    predict = engine(text).predictor(fit(text).data, given.columns, CustomLearner(), settings())
    assert predict(given).tolist() == predict(given).tolist() == [2.0] * 5


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_probabilities_are_checked_for_what_they_are(task: str) -> None:
    share = "np.full(len(rows), 0.25)" if task == "binary" else "np.full((len(rows), settings.classes), 1 / 3)"
    assert fit(code(predicting=f"return {share}"), task).curve[0][1]["holdout"] > 0
    with pytest.raises(CodeError, match=rf"^{NAME}:4: .*probabilities.*allowed: 0 to 1"):
        fit(code(predicting=f"return {share} - 1"), task)
    if task == "multiclass":
        with pytest.raises(CodeError, match="do not add up to 1"):
            fit(code(predicting=f"return {share} * 0.9"), task)


def test_what_comes_back_is_what_went_in_whatever_the_layout() -> None:
    from safetensors.numpy import load

    # Given arrays that are transposed, of the other byte order, booleans, without dimensions, and numpy's own scalar
    text = code("return {'t': np.arange(6.).reshape(2, 3).T, 'b': np.arange(3, dtype='>i4'), 'y': np.array([True]), "
                "'n': np.array(2.5), 's': train.label.mean(), 'f': np.ones(2, np.float16)}",
                "return np.zeros(len(rows))")  # fmt: skip
    kept = load(fit(text).data)
    assert list(kept["t"][:, 1]) == [3, 4, 5] and list(kept["b"]) == [0, 1, 2] and kept["y"].dtype == bool
    assert kept["n"].shape == () and kept["s"] == pytest.approx(rows().label.mean()) and kept["f"].dtype == np.float16


WEIGHTS = [
    ("return None", "fit returned no weights (given: 'NoneType')"),
    ("return {}", "fit returned no weights"),
    ("return {1: np.ones(2)}", "a name of weights is not usable (given: 1)"),
    ("return {'w': [1.0, 2.0]}", "weights 'w' are no numpy array (given: 'list')"),
    ("return {'w': np.array([{}, None])}", "weights 'w' are not numbers that can be saved (given: 'object')"),
    ("return {'w': np.array(['a'])}", "weights 'w' are not numbers"),
    ("return {'w': np.array([1j])}", "weights 'w' are not numbers"),
    ("return {'w': np.array([1.0, np.nan, np.inf])}", "weights 'w' hold 2 of 3 values that are NaN or infinite"),
]
PREDICTIONS = [
    ("return [0.0] * len(rows)", "predict returned no array of numbers (given: 'list')"),
    ("return np.array([None] * len(rows))", "predict returned no array of numbers (given: 'array of object')"),
    ("return np.zeros((len(rows), 1))", "another shape for 300 rows of a regression label (given: (300, 1))"),
    ("return np.zeros(3)", "(given: (3,)); allowed: (300,)"),
    ("return np.where(rows.values[:, 0] > 0, np.nan, 1.0)", "rows are NaN, infinite or beyond float32"),
    ("return np.full(len(rows), 1e39)", "predictions of 300 of 300 rows are NaN, infinite or beyond float32"),
]


@pytest.mark.parametrize(("line", "function", "body", "words"), [
    *((2, "fit", *case) for case in WEIGHTS), *((4, "predict", *case) for case in PREDICTIONS),
])  # fmt: skip
def test_what_cannot_be_kept_or_used_is_named(line: int, function: str, body: str, words: str) -> None:
    with pytest.raises(CodeError) as found:
        fit(code(body) if function == "fit" else code(predicting=body))
    assert str(found.value).startswith(f"{NAME}:{line}: ") and words in str(found.value), str(found.value)


@pytest.mark.parametrize(("text", "line", "words"), [
    (code("raise ValueError('too\\nlate')"), 3, "fit raised ValueError: too. "),
    (code("return {'w': np.linalg.inv(np.zeros((2, 2)))}"), 3, "fit raised LinAlgError: Singular matrix"),
    (code(predicting="return weights['gone']"), 5, "predict raised KeyError: 'gone'"),
    (code("train.values[0] = 0; return {}"), 3, "fit raised ValueError: assignment destination is read-only"),
    (code("import sys; sys.exit(0)"), 3, "fit raised SystemExit: 0"),
    ("import nowhere_to_be_found\n" + GOOD, 1, "must be installed where the job runs"),
    (GOOD + "KEPT = {}\n" + code("KEPT['w'] = 1; return {'w': np.ones(1)}", "return KEPT['w'] * np.ones(len(rows))"),
     11, "predict raised KeyError: 'w'"),
])  # fmt: skip
def test_an_exception_says_where_in_the_code_it_is(text: str, line: int, words: str) -> None:
    with pytest.raises(CodeError) as found:
        fit(text)
    assert str(found.value).startswith(f"{NAME}:{line}: ") and words in str(found.value), str(found.value)


def test_a_lack_of_memory_is_no_mistake_of_the_code() -> None:
    with pytest.raises(MemoryError):
        fit(code("raise MemoryError()"))


def test_the_code_sees_no_held_out_label_and_cannot_keep_what_it_was_given() -> None:
    text = code("train.columns; params['own'] = 1; return {'w': np.ones(1)}",
                "assert len(rows.label) == 0; assert 'own' not in params; return np.zeros(len(rows))")  # fmt: skip
    learner = CustomLearner(params={})
    found = engine(text).fit(rows(), rows(100, 9), learner, settings(), Checkpoints(), lambda points: None)
    assert learner.params == {} and set(found.curve[0][1]) == {"train", "holdout"}


def test_an_engine_without_code_is_refused() -> None:
    with pytest.raises(ContractError, match=r"needs the text of trainer\.py"):
        learner_of(CustomLearner())


@pytest.mark.parametrize(("text", "line", "words"), [
    ("", 1, "there is no function 'fit'; allowed: fit(train, params, settings)"),
    ("def fit(a, b, c): ...\n", 1, "there is no function 'predict'"),
    (GOOD.replace("def fit(", "def fit(("), 2, "not Python: "),
    ("x = '\0'", 1, "not Python: "),
    (GOOD.replace("train, params, settings", "train"), 2, "cannot be called with 3 arguments (given: 'fit(train)'"),
    (GOOD.replace("rows, params, settings", "rows, params, settings, more"), 4, "'predict' cannot be called with 4"),
    (GOOD.replace("rows, params, settings", "rows, params, *, settings"), 4, "'predict' cannot be called with 4"),
    (GOOD.replace("def predict", "async def predict"), 4, "'predict' is no plain function"),
    (GOOD.replace("def fit(train, params, settings)", "class fit"), 2, "'fit' is no plain function"),
])  # fmt: skip
def test_what_can_be_known_without_running_it_is(text: str, line: int, words: str) -> None:
    with pytest.raises(SpecError) as found:
        check_trainer(text, NAME)
    assert str(found.value).startswith(f"{NAME}:{line}: ") and words in str(found.value), str(found.value)


@pytest.mark.parametrize("text", [
    GOOD, RIDGE, "from elsewhere import fit, predicts as predict\n", "import a\nfit = a.fit\npredict = a.predict\n",
    "def fit(*given): ...\ndef predict(weights, rows, params, settings, more=1): ...\n",
])  # fmt: skip
def test_a_good_file_is_good_and_is_not_executed(text: str) -> None:
    assert set(check_trainer("raise SystemExit\n" + text, NAME)) == {"fit", "predict"}


def test_parameters_hold_plain_values_and_no_code() -> None:
    given = {"kind": "custom", "params": {"a": [1, {"b": None}], "c": "d", "e": 0.5}}
    assert json.loads(CustomLearner.model_validate(given).model_dump_json()) == given
    for wrong in ({"params": {"a": object()}}, {"code": "def fit(): ..."}, {"params": []}):
        with pytest.raises(ValueError):
            CustomLearner.model_validate(wrong)
