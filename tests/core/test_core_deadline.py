"""A deadline ends what is awaited, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from millrace.core.deadline import Deadline


def test_what_takes_too_long_ends_and_the_task_goes_on():
    async def late() -> int:
        with pytest.raises(TimeoutError), Deadline(0.01):
            await asyncio.sleep(30)
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert asyncio.run(late()) == 0


def test_what_is_in_time_is_left_alone():
    async def soon() -> str:
        with Deadline(0.02):
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)  # the timer is gone
        return "here"

    assert asyncio.run(soon()) == "here"


@pytest.mark.parametrize("seconds", [0, -1])
def test_a_deadline_that_has_passed_ends_the_first_wait(seconds: float):
    async def late() -> None:
        with Deadline(seconds):
            await asyncio.sleep(30)

    with pytest.raises(TimeoutError):
        asyncio.run(late())


def test_an_error_inside_comes_out_as_it_is():
    async def wrong() -> None:
        with Deadline(30):
            raise KeyError("inside")

    with pytest.raises(KeyError):
        asyncio.run(wrong())


def test_whoever_cancels_the_task_is_heard():
    async def both() -> None:
        async def waits() -> None:
            with Deadline(0.01):
                await asyncio.sleep(30)

        task = asyncio.create_task(waits())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(both())


def test_of_two_the_one_that_is_over_raises():
    async def inner() -> str:
        with Deadline(30):
            try:
                with Deadline(0.01):
                    await asyncio.sleep(30)
            except TimeoutError:
                return "inner"
        return "neither"

    async def outer() -> str:
        try:
            with Deadline(0.01), Deadline(30):
                await asyncio.sleep(30)
        except TimeoutError:
            return "outer"
        return "neither"

    assert (asyncio.run(inner()), asyncio.run(outer())) == ("inner", "outer")
