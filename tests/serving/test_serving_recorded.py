"""One recording of traffic at servers of this machine: same answers, same counts, same decisions, however many answer.

`tests/compose` and `tests/chart` replay the same recording where they are and here, and compare.
"""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from support.recorded import STAGES, Replayed, differences, expected, replayed_here, write
from support.served import Served, rows


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("recorded") / "traffic.jsonl")


@pytest.fixture(scope="module")
def replays(made: Served, recording: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Replayed]:
    """At one process, and at several."""
    folder = tmp_path_factory.mktemp("here")
    return [replayed_here(recording, made, folder / n, "--workers", n) for n in ("1", "3")]


def test_the_recording_is_the_same_wherever_it_is_made(recording: Path, tmp_path: Path):
    assert write(tmp_path / "again").read_bytes() == recording.read_bytes()
    assert sha256(recording.read_bytes()).hexdigest()[:16] == "8b1028e7367dee0e"
    assert write(tmp_path / "other", seed=8).read_bytes() != recording.read_bytes()


def test_one_process_and_several_answer_count_and_decide_alike(replays: list[Replayed]):
    assert differences(*replays) == []


def test_each_unit_meets_its_version_and_gets_its_value(replays: list[Replayed], recording: Path, made: Served):
    wanted = expected(recording, made)
    table = rows(40)
    values = {v: made.model(made.deployed(v)).predict(table) for v in (1, 2)}
    for each in map(json.loads, recording.read_text().splitlines()):
        version, value = replays[0].answers[each["id"]]
        if each["stage"] == "broken":
            assert version in (1, wanted[each["id"]])
            continue
        assert version == wanted[each["id"]]
        assert float(values[version][int(each["vehicle"][1:])]).hex() == value


def test_harm_is_stopped_by_a_guard_and_the_rest_by_what_came_of_it(replays: list[Replayed]):
    for found in replays:
        assert found.vetoes == {("broken", 3, "predictions")}
        decided = {stage: answer[:2] for stage, answer in found.decisions.items()}
        assert decided == {"better": ("go", False), "worse": ("stop", False), "broken": ("stop", True)}
        assert set(found.counts) == set(STAGES) - {"broken"}


def test_what_differs_is_found(replays: list[Replayed]):
    one = replays[0]
    id_, (version, value) = next(iter(one.answers.items()))
    other = float.fromhex(value) * (1 + 2**-52)
    for changed in (
        replace(one, answers={**one.answers, id_: (version, other.hex())}),
        replace(one, answers={**one.answers, id_: (3 - version, value)}),
        replace(one, vetoes=set()),
        replace(one, decisions={**one.decisions, "better": ("wait", False, "")}),
        replace(one, counts={**one.counts, "worse": {}}),
    ):
        assert len(differences(one, changed)) == 1
