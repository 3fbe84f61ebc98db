"""Whatever is edited, deleted, moved or cut, by somebody who can hash it all again, is found up to the newest anchor;
what nobody touched is never suspected."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.ledger import make_first, promoted, verdict

from millrace.core.canonical import canonical_json
from millrace.ledger import Ledger
from millrace.ledger.chain import GENESIS, entry_hash, first_previous
from millrace.ledger.verification import verify

Rows = list[dict[str, Any]]
PIPELINES = ("flights", "trains", "ships")


@pytest.fixture(scope="module")
def written() -> tuple[Rows, dict[str, dict[int, str]]]:
    """A sealed chain of three, then three pipelines that write in turn; all of it anchored."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'ledger.db'}"
        make_first(url, sealed())
        ledger, anchors = Ledger.open(url), {name: {} for name in PIPELINES}
        for number in range(4):
            for name in PIPELINES:
                ledger.record(verdict(number, pipeline=name, passed=number != 2))
        promoted(ledger, 1, anchor=lambda name, number, hashed: anchors[name].update({number: hashed}))
        rows: Rows = []
        ledger.export(lambda row: rows.append(dict(row)))
        for each in ledger.chains():
            if each.pipeline:
                anchors[each.pipeline][each.entries] = each.head
        return rows, anchors


def sealed() -> Rows:
    rows, previous = [], GENESIS
    for seq in (1, 2, 3):
        row = {"seq": seq, "at": f"2026-01-02T03:04:05.00000{seq}Z", "pipeline": PIPELINES[seq - 1], "kind": "gate",
               "subject": "features/old", "body": "{}", "previous": previous}  # fmt: skip
        rows.append({**row, "hash": entry_hash(row)})
        previous = rows[-1]["hash"]
    return rows


def hashed_again(rows: Rows) -> Rows:
    """What somebody who knows how the ledger works makes of changed rows: chains that hold in themselves."""
    number: dict[str, int] = {}
    head, ends = GENESIS, {}
    times = sorted(row["at"] for row in rows)
    for seq, (row, at) in enumerate(zip(rows, times, strict=True), 1):
        row.update(seq=seq, at=at)
        if row["number"] is None:
            row["previous"] = head
            head = row["hash"] = entry_hash(row)
            continue
        name = row["pipeline"]
        number[name] = number.get(name, 0) + 1
        row.update(number=number[name], previous=ends.get(name) or first_previous(head, name))
        ends[name] = row["hash"] = entry_hash(row)
    return rows


def problems(rows: Rows, anchors: dict[str, dict[int, str]] | None) -> list[str]:
    return [each.problem for each in verify(rows, anchors) if each.problem]


def test_what_nobody_touched_is_not_suspected(written):
    rows, anchors = written

    assert problems(rows, None) == problems(rows, anchors) == []
    assert problems(hashed_again(copy.deepcopy(rows)), anchors) == []


@given(st.data())
def test_whatever_is_changed_is_found(written, data):
    rows, anchors = copy.deepcopy(written[0]), written[1]
    act = data.draw(st.sampled_from(["edit", "delete", "swap", "cut", "double", "hand over"]))
    place = data.draw(st.integers(0, len(rows) - 1))
    row = rows[place]
    if act == "edit":
        column = data.draw(st.sampled_from(["at", "kind", "subject", "body", "previous", "hash"]))
        row[column] = {"at": "2030-01-01T00:00:00.000000Z", "body": '{"passed":true,"x":1}'}.get(
            column, row[column] + "x"
        )
    elif act == "delete":
        del rows[place]
    elif act == "swap":
        other = data.draw(st.integers(0, len(rows) - 1).filter(lambda n: n != place))
        for column in ("seq", "number"):
            row[column], rows[other][column] = rows[other][column], row[column]
        rows.sort(key=lambda each: each["seq"])
    elif act == "cut":
        del rows[place:]
    elif act == "double":
        rows.insert(place, dict(row))
    else:
        row["pipeline"] = next(name for name in PIPELINES if name != row["pipeline"])
    if again := data.draw(st.booleans()):
        rows = hashed_again(rows)
        if [r["hash"] for r in rows] == [r["hash"] for r in hashed_again(copy.deepcopy(written[0]))]:
            return  # what was edited has been put right by the hashing

    assert problems(rows, anchors), (act, place, again)


@given(st.integers(0, 2), st.sampled_from(PIPELINES), st.integers(1, 4), st.booleans())
def test_the_chain_alone_finds_what_was_not_hashed_again(written, column, name, number, deleted):
    rows = copy.deepcopy(written[0])
    place = next(n for n, row in enumerate(rows) if (row["pipeline"], row["number"]) == (name, number))
    if deleted and rows[place + 1 :]:
        del rows[place]
        if not any(row["pipeline"] == name and row["number"] for row in rows[place:]):
            return  # the newest of its chain: only an anchor tells
    else:
        change = (("body", canonical_json({"passed": True}).decode()), ("kind", "other"), ("subject", "x"))[column]
        rows[place][change[0]] = change[1]

    (problem, *more) = problems(rows, None)
    assert problem.startswith(f"entry {number + deleted} of {name} ") and not more
