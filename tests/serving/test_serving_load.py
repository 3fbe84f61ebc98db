"""What live traffic sees of each fault, in short; `make serving-load` does the same with more of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from load.rows import ROWS, Seen, Site
from support.load import Told, Traffic
from support.served import Served

FURTHER = {"SQLite file replaced", "log's disk full, with a constant", "only version hangs", "only version crashes",
           "only version raises", "only version gives nan", "new champion raises", "new champion gives nan",
           "canary raises", "shadow raises", "shadow gives nan"}  # fmt: skip
"""Rows that differ little from others."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.long) if n in FURTHER else n for n in ROWS])
def test_live_traffic_sees_no_more_than_stated(served: Served, tmp_path: Path, name: str):
    seen = ROWS[name](Site(served, tmp_path, seconds=0.3, rate=60.0, count=4))

    assert seen.faults == [], (seen, (served.root / "here.log").read_text()[-2000:])


def test_a_row_says_what_is_not_as_stated():
    traffic = Traffic(0, {1: [0.5] * 40}, [1])
    traffic.told = [Told(0, 1, "200", (1,)), Told(1, 3, "503")]
    seen = Seen(bound="", most=0, kinds=("504",), within=0.5).add(traffic, since=1.0)

    assert seen.recovered == 2 and seen.faults == [
        "1 errors, allowed 0", "errors of kinds {'503'}, allowed ('504',)", "recovered after 2.0 s, allowed 0.5"
    ]  # fmt: skip


@pytest.mark.parametrize(("version", "prediction", "wrong"), [(1, 0.5, 0), (1, 0.6, 1), (2, 0.7, 1)])
def test_an_answer_is_held_to_what_its_version_says_and_to_who_may_answer(version: int, prediction: float, wrong: int):
    traffic = Traffic(0, {1: [0.5] * 40, 2: [0.7] * 40}, [1])
    body = f'{{"predictions": [{{"version": {version}, "prediction": {prediction}}}]}}'
    traffic.took(traffic.turn(), 200, body.encode())

    assert len(traffic.wrong) == wrong


def test_an_open_loop_counts_from_when_it_was_to_ask():
    traffic = Traffic(0, {1: [0.5] * 40}, [1], rate=1000.0)
    traffic._began -= 2.0
    traffic.took(traffic.turn(), 503, b"{}")

    assert traffic.slowest() > 1900
