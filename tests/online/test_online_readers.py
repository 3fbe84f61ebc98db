"""Readers: each request gets its own rows, those of one turn by one call, and nobody pays for another's fault."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.feast_project import FeastProject
from support.online_kept import START_US, Kept, keys, reading

from millrace.core.errors import SpecError, Unavailable
from millrace.online import reader as readers
from millrace.online.reader import BatchedReader, Reader, open_reader

VEHICLES = [f"v{n}" for n in range(50)]


def counted(reader: Reader) -> list[dict[str, list[bytes]]]:
    """What each call to the server asks, from now on."""
    assert isinstance(reader, BatchedReader)
    calls, ask = [], reader.ask

    async def seen(asked: Any) -> Any:
        calls.append(asked)
        return await ask(asked)

    reader.ask = seen  # type: ignore[method-assign]
    return calls


def is_server(kept: Kept) -> bool:
    return kept.project.online is not None


def test_rows_are_those_that_the_writers_see(kept: Kept) -> None:
    kept.write({"a": 1, "b": -(2**40)})
    kept.write({"a": 2}, timedelta(microseconds=1))
    found = kept.read(lambda reader: reader.fetch(kept.table, keys("b", "nobody", "a", "b")))
    assert found == kept.fetched("a", "b") and len(found) == 2
    assert [found[key][0] for key in keys("a", "b")] == [START_US + 1, START_US]


def test_no_keys_are_no_rows(kept: Kept) -> None:
    assert kept.read(lambda reader: reader.fetch(kept.table, [])) == {}
    assert kept.read(lambda reader: reader.fetch_all([])) == []


def test_more_keys_than_one_query_takes(kept: Kept) -> None:
    kept.write({f"v{n}": n for n in range(1300)})
    asked = keys(*(f"v{n}" for n in range(1400)))
    assert kept.read(lambda reader: reader.fetch(kept.table, asked)) == kept.fetched(*(f"v{n}" for n in range(1300)))


def test_requests_of_one_turn_are_one_call_and_each_gets_its_own(kept: Kept) -> None:
    kept.write({vehicle: n for n, vehicle in enumerate(VEHICLES)})
    chance = random.Random(1)
    asked = [chance.sample(VEHICLES, 3) + ["nobody"] for _ in range(40)]

    async def use(reader: Reader) -> Any:
        calls = counted(reader) if is_server(kept) else []
        answers = await asyncio.gather(*(reader.fetch(kept.table, keys(*some)) for some in asked))
        return calls, answers

    calls, answers = kept.read(use)
    assert answers == [kept.fetched(*some) for some in asked]
    if is_server(kept):
        ((table, together),) = calls[0].items()
        assert (len(calls), table) == (1, kept.table)
        assert sorted(together) == sorted(keys(*{vehicle for some in asked for vehicle in some}))


def test_at_work_for_many_at_once(kept: Kept) -> None:
    kept.write({vehicle: n for n, vehicle in enumerate(VEHICLES)})

    async def client(reader: Reader, number: int) -> None:
        chance = random.Random(number)
        for _ in range(30):
            some = chance.sample(VEHICLES, 2)
            assert await reader.fetch(kept.table, keys(*some)) == {key: rows[key] for key in keys(*some)}
            await asyncio.sleep(chance.random() / 1000)

    async def use(reader: Reader) -> None:
        await asyncio.gather(*(client(reader, number) for number in range(20)))

    rows = kept.fetched(*VEHICLES)
    kept.read(use)


def test_a_large_request_leaves_the_others_for_the_next_call(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_server(kept):
        pytest.skip("SQLite is asked at once")
    monkeypatch.setattr(readers, "LARGEST", 3)
    monkeypatch.setattr(readers, "CALLS", 1)

    async def use(reader: Reader) -> Any:
        calls = counted(reader)
        found = await asyncio.gather(*(reader.fetch(kept.table, keys(*VEHICLES[n : n + 2])) for n in range(0, 10, 2)))
        return [len(call[kept.table]) for call in calls], found

    kept.write({vehicle: n for n, vehicle in enumerate(VEHICLES)})
    sizes, found = kept.read(use)
    assert sizes == [4, 4, 2] and found == [kept.fetched(*VEHICLES[n : n + 2]) for n in range(0, 10, 2)]


def test_several_tables_are_one_call_and_a_table_that_is_not_there_is_nobody_elses_fault(kept: Kept) -> None:
    kept.write({"a": 1})
    other = "reference_no" + "w" * 70

    async def use(reader: Reader) -> Any:
        calls = counted(reader) if is_server(kept) else []
        both = reader.fetch_all([(kept.table, keys("a")), (other, keys("a"))])
        found = await asyncio.gather(reader.fetch(kept.table, keys("a")), both, return_exceptions=True)
        return calls, found, await reader.fetch(kept.table, keys("a"))

    calls, (found, fault), after = kept.read(use)
    assert found == after == kept.fetched("a")
    if is_server(kept):
        assert set(calls[0]) == {kept.table, other}
    if kept.project.online and kept.project.online[0] == "redis":
        assert fault == [kept.fetched("a"), {}]
    else:
        assert isinstance(fault, SpecError) and "millrace apply" in str(fault) and other in str(fault)


def test_who_has_gone_is_not_asked_for(kept: Kept) -> None:
    if not is_server(kept):
        pytest.skip("SQLite is asked at once")

    async def use(reader: Reader) -> Any:
        calls = counted(reader)
        gone = asyncio.ensure_future(reader.fetch(kept.table, keys("gone")))
        await asyncio.sleep(0)
        gone.cancel()
        found = await reader.fetch(kept.table, keys("a"))
        assert gone.cancelled()
        return calls, found

    kept.write({"a": 1})
    calls, found = kept.read(use)
    assert calls == [{kept.table: keys("a")}] and found == kept.fetched("a")


def test_a_reader_that_was_closed_reads_again(kept: Kept) -> None:
    async def use(reader: Reader) -> Any:
        first = await reader.fetch(kept.table, keys("a"))
        await reader.close()
        return first, await reader.fetch(kept.table, keys("a"))

    kept.write({"a": 1})
    assert kept.read(use) == (kept.fetched("a"), kept.fetched("a"))


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_who_waits_while_the_reader_is_closed_is_told(kept: Kept, turns: int) -> None:
    if not is_server(kept):
        pytest.skip("SQLite is asked at once")

    async def use(reader: Reader) -> Any:
        waiting = [asyncio.ensure_future(reader.fetch(kept.table, keys("a"))) for _ in range(3)]
        await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        await reader.close()
        told = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(one, Unavailable) and "was closed" in str(one) for one in told), told
        return await reader.fetch(kept.table, keys("a"))

    kept.write({"a": 1})
    assert kept.read(use) == kept.fetched("a")


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan")])
def test_a_timeout_is_more_than_nothing(timeout_s: float) -> None:
    with pytest.raises(SpecError, match="timeout"):
        open_reader("redis://cache", timeout_s=timeout_s)


@pytest.fixture
def file(tmp_path: Path) -> Kept:
    return Kept.at(tmp_path / "p", None)


def test_a_file_that_took_the_place_of_another_is_read(file: Kept, tmp_path: Path) -> None:
    async def use(reader: Reader) -> Any:
        before = await reader.fetch(file.table, keys("a"))
        Path(file.address).unlink()
        with pytest.raises(Unavailable, match="No such file"):
            await reader.fetch(file.table, keys("a"))
        other = Kept(FeastProject(file.project.root, file.project.spec))  # with no connection of before
        other.write({"a": 2})
        return before, await reader.fetch(file.table, keys("a")), other.fetched("a")

    file.write({"a": 1})
    before, after, now = file.read(use)
    assert after == now != before


def test_a_file_is_read_in_one_transaction_a_turn_and_the_next_turn_sees_what_was_written(file: Kept) -> None:
    async def use(reader: Any) -> Any:
        before = [await reader.fetch(file.table, keys("a")) for _ in range(2)]
        held = reader._connection.in_transaction
        await asyncio.sleep(0)
        left = reader._connection.in_transaction
        file.write({"a": 2}, timedelta(hours=1))
        return before, held, left, await reader.fetch(file.table, keys("a"))

    file.write({"a": 1})
    first = file.fetched("a")
    before, held, left, after = file.read(use)
    assert (before, held, left) == ([first, first], True, False)
    assert after == file.fetched("a") != first


def test_the_reader_of_a_file_cannot_write_and_makes_no_file(file: Kept, tmp_path: Path) -> None:
    async def write(reader: Any) -> None:
        reader._connect().execute(f'DELETE FROM "{file.table}"')

    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        file.read(write)
    with pytest.raises(Unavailable):
        reading(str(tmp_path / "none.db"), lambda reader: reader.fetch("t", [b"k"]))
    assert not (tmp_path / "none.db").exists()


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "online.db").write_text("no database " * 100)
    with pytest.raises(Unavailable, match="not a database"):
        reading(str(tmp_path / "online.db"), lambda reader: reader.fetch("t", [b"k"]))


def test_a_file_that_somebody_locks_is_unavailable_after_the_timeout(file: Kept, tmp_path: Path) -> None:
    file.write({"a": 1})

    async def use(reader: Reader) -> Any:
        with pytest.raises(Unavailable, match="locked"):
            await reader.fetch(file.table, keys("a"))
        locker.rollback()
        locker.close()
        return await reader.fetch(file.table, keys("a"))

    place = str(tmp_path / "copy.db")
    with sqlite3.connect(file.address) as held:
        held.execute("VACUUM INTO ?", [place])  # without a log beside it, writers lock readers out
    locker = sqlite3.connect(place)
    locker.execute("BEGIN EXCLUSIVE")
    assert reading(place, use, timeout_s=0.1) == file.fetched("a")
