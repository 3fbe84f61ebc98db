"""The copy of the champion in the store follows the ledger, and never goes back, whoever comes late."""

from __future__ import annotations

import multiprocessing
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from millrace.contract import Artifact
from millrace.core.errors import Corrupt
from millrace.store import ObjectStore, open_store
from millrace.store.champions import ChampionCopy, Champions

FORK = multiprocessing.get_context("fork")


def champion(generation: int, pipeline: str = "flights") -> ChampionCopy:
    model = Artifact(uri=f"models/{generation}/", digest=f"sha256:{generation:064x}", kind="model")
    return ChampionCopy(
        pipeline=pipeline, generation=generation, version=100 - generation, model=model, evidence=model,
        since=datetime(2013, 5, 1, tzinfo=UTC),
    )  # fmt: skip


def test_a_champion_comes_back_as_it_was_written(objects: ObjectStore):
    champions = Champions(objects)
    assert champions.get("flights") is None

    assert champions.follow(champion(1)) == champion(1)

    assert champions.get("flights") == champion(1)
    assert champions.get("trains") is None
    assert [o.key for o in objects.list("champions/")] == ["champions/flights.json"]


def test_a_late_writer_leaves_the_later_generation(objects: ObjectStore):
    champions = Champions(objects)
    champions.follow(champion(2))

    assert champions.follow(champion(1)) == champion(2)
    assert champions.follow(champion(2)) == champion(2)
    assert champions.get("flights") == champion(2)


def write(root: str, seed: int, go: Any, answers: Any) -> None:
    champions = Champions(open_store(root))
    generations = random.Random(seed).sample(range(1, 21), 20)
    go.wait(30)
    stood = [champions.follow(champion(generation)).generation for generation in generations]
    answers.put(stood == sorted(stood) and all(s >= g for s, g in zip(stood, generations, strict=True)))


def test_of_racing_processes_none_takes_the_copy_back(tmp_path):
    go, answers = FORK.Barrier(4), FORK.SimpleQueue()
    processes = [FORK.Process(target=write, args=(str(tmp_path), seed, go, answers)) for seed in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [answers.get() for _ in processes] == [True] * 4
    assert Champions(open_store(tmp_path)).get("flights") == champion(20)


def test_who_reads_and_writes_between_two_others_loses_and_looks_again(objects: ObjectStore):
    """The compare-and-set: a writer that saw nothing must not overwrite what came meanwhile."""

    class Slow:
        def __init__(self) -> None:
            self.overtaken = False

        def __getattr__(self, name: str) -> Any:
            return getattr(objects, name)

        def put_if(self, key: str, data: bytes, version: str | None) -> None:
            if not self.overtaken:
                self.overtaken = True
                Champions(objects).follow(champion(5))
            objects.put_if(key, data, version)

    assert Champions(Slow()).follow(champion(3)) == champion(5)  # type: ignore[arg-type]
    assert Champions(objects).get("flights") == champion(5)


def test_what_a_newer_writer_adds_is_read_past(objects: ObjectStore):
    objects.put("champions/flights.json", champion(1).model_dump_json().replace("{", '{"more":1,', 1).encode())

    assert Champions(objects).get("flights") == champion(1)


def test_a_copy_that_cannot_be_read_is_said(objects: ObjectStore):
    objects.put("champions/flights.json", b"{")

    with pytest.raises(Corrupt, match="the champion cannot be read"):
        Champions(objects).get("flights")
