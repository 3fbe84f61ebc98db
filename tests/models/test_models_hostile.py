"""Sixty hostile models: none is executed, and all are refused in words, before anything native reads them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from support.hostile import CANARY, Hostile, corpus
from support.judged import Judging
from support.learning import FAST_MLP

from millrace.contract import Artifact, Means
from millrace.core.canonical import canonical_json, digest
from millrace.core.errors import MillraceError
from millrace.jobs.runner import run
from millrace.models.files import load
from millrace.models.formats import check_weights


@pytest.fixture(scope="module")
def judging(tmp_path_factory: pytest.TempPathFactory) -> Judging:
    return Judging(tmp_path_factory.mktemp("trees"), {"type": "artifact"})


@pytest.fixture(scope="module")
def hostile(judging: Judging, tmp_path_factory: pytest.TempPathFactory) -> list[Hostile]:
    network = Judging(tmp_path_factory.mktemp("network"), learner=FAST_MLP)
    good = load(judging.world.objects, judging.model.uri, judging.model.digest).data
    tensors = load(network.world.objects, network.model.uri, network.model.digest).data
    return corpus(good, tensors)


def stored(judging: Judging, one: Hostile, number: int) -> Artifact:
    """Put the folder of a hostile model into the store, as whoever can write there would."""
    good = load(judging.world.objects, judging.model.uri, judging.model.digest).card
    named = one.weights if one.honest else load(judging.world.objects, judging.model.uri, judging.model.digest).data
    said = good.model_dump(mode="json")
    weights = {**said["weights"], "file": one.file, "digest": digest(named)}
    said |= {**one.card, "reference": None, "weights": {**weights, **one.card.get("weights", {})}}
    text = canonical_json(said)
    name = digest(one.text(text) if one.honest else text)
    prefix = f"models/hostile/{number}/"
    for file, data in {one.file: one.weights, "model.json": one.text(text), **one.beside}.items():
        judging.world.objects.put(prefix + file, data)
    return Artifact(uri=prefix, digest=name, kind="model")


NUMBERS = range(60)


def test_there_are_sixty_and_each_is_another(hostile: list[Hostile]) -> None:
    assert len({one.name for one in hostile}) == len(hostile) == len(NUMBERS)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_hostile_model_is_refused_in_words_and_executes_nothing(
    judging: Judging, hostile: list[Hostile], number: int
) -> None:
    one = hostile[number]
    model = stored(judging, one, number)
    CANARY.unlink(missing_ok=True)
    modules = set(sys.modules)
    asked = judging.world.request("evaluate", {"training_set": judging.data, "model": model})
    result = run(asked.model_copy(update={"place": asked.place.model_copy(update={"result": None})}))
    assert not CANARY.exists() and "this_executes" not in sys.modules
    assert not Path(judging.world.root, "model.json").exists()
    if one.beside:  # a good model in bad company: a verdict
        assert result.outcome is not None and result.outcome.verdict is not None, result.error
        said = [check.message for check in result.outcome.verdict.failures]
        assert said and all("lies beside the model" in text for text in said)
        return
    assert result.outcome is None and result.error is not None
    assert result.error.retry == "never" and len(result.error.message.split()) >= 5
    assert result.error.type in ("DataError", "Corrupt", "ContractError", "NotFound"), result.error
    # and it was refused as it was opened, not as it was used
    with pytest.raises(MillraceError):
        load(judging.world.objects, model.uri, model.digest, Means())
    assert not {name for name in set(sys.modules) - modules if name.startswith(("code", "this_"))}


def test_what_is_refused_is_not_saved_either(judging: Judging, hostile: list[Hostile]) -> None:
    refused = 0
    for one in hostile:
        if one.honest and not one.beside and not one.card and one.text(b"x") == b"x":
            with pytest.raises(MillraceError, match="not in a format that holds no code"):
                check_weights(one.file, one.weights)
            refused += 1
    assert refused >= 38


FLIPS = """
import pickle, random, sys
from millrace.core.errors import MillraceError
from millrace.models.formats import check_weights
from millrace.models.protocol import Matrix, Settings
from millrace.models.xgboost import Trees
data, columns, values, params = pickle.load(sys.stdin.buffer)
chance, refused = random.Random(7), 0
for _ in range(400):
    flipped = bytearray(data)
    flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    try:
        check_weights("weights.ubj", bytes(flipped))
        Trees().predictor(bytes(flipped), columns, params, Settings("binary", 7, 1))(Matrix(columns, values))
    except MillraceError:
        refused += 1
print(refused)
"""


def test_no_flipped_bit_makes_native_code_fail(judging: Judging) -> None:
    """Where a flip is not refused it changed a number that is only a number. In a process of its own, which may die."""
    model = load(judging.world.objects, judging.model.uri, judging.model.digest)
    rows = model.card.encoder.encode(judging.table.slice(0, 20))
    given = pickle.dumps((model.data, rows.columns, rows.values, model.params))
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FLIPS], input=given, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 100
