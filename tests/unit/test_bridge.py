"""Calls between trio and the other loop: results, errors, deadlines, and cancellation that waits."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from chatd.bridge import Bridge
from chatd.errors import InternalError


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    bridge = Bridge("test")
    yield bridge
    bridge.close()


async def doubled(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def failing() -> None:
    raise LookupError("there")


async def test_results_and_errors_come_back_with_their_type(bridge: Bridge) -> None:
    assert await bridge.call(doubled, 21) == 42
    with pytest.raises(LookupError, match="there"):
        await bridge.call(failing)


async def test_many_calls_of_one_moment_run_at_the_same_time(bridge: Bridge) -> None:
    arrived, everybody = 0, asyncio.Event()

    async def meet() -> int:
        nonlocal arrived
        arrived += 1
        if arrived == 100:
            everybody.set()
        await everybody.wait()
        return arrived

    results: list[int] = []
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                results.append(await bridge.call(meet))

            for _ in range(100):
                nursery.start_soon(call)
    assert results == [100] * 100


async def test_cancelling_waits_until_the_other_side_has_ended(bridge: Bridge) -> None:
    begun, ended = threading.Event(), threading.Event()

    async def slow() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            ended.set()

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bridge.call, slow)
            await trio.to_thread.run_sync(begun.wait)
            nursery.cancel_scope.cancel()
    assert ended.is_set()


async def test_a_call_that_ends_in_spite_of_its_cancelling_returns(bridge: Bridge) -> None:
    begun = threading.Event()

    async def stubborn() -> str:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "done"
        return ""

    result = ""
    with trio.fail_after(10), trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def call() -> None:
                nonlocal result
                result = await bridge.call(stubborn)

            nursery.start_soon(call)
            await trio.to_thread.run_sync(begun.wait)
            scope.cancel()
    assert result == "done"


async def test_a_call_that_is_cancelled_before_it_begins_ends(bridge: Bridge) -> None:
    begun: list[str] = []

    async def busy() -> None:
        time.sleep(0.1)  # noqa: ASYNC251 the loop has to take both at once

    async def slow() -> None:
        begun.append("slow")

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bridge.call, busy)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(bridge.call, slow)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert not begun
    assert await bridge.call(doubled, 2) == 4


async def test_deadlines_are_kept(bridge: Bridge) -> None:
    with pytest.raises(TimeoutError):
        await bridge.call(asyncio.sleep, 60, timeout_s=0.01)


def test_threads_wait(bridge: Bridge) -> None:
    assert bridge.wait(doubled, 4) == 8
    with pytest.raises(LookupError):
        bridge.wait(failing)
    with pytest.raises(TimeoutError):
        bridge.wait(asyncio.sleep, 60, timeout_s=0.01)


def test_a_closed_bridge_refuses_and_has_ended_what_ran() -> None:
    bridge, seen = Bridge("test"), list[str]()

    async def watched() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    def wait() -> None:
        with pytest.raises(asyncio.CancelledError):
            bridge.wait(watched)

    thread = threading.Thread(target=wait)
    thread.start()
    bridge.wait(doubled, 1)
    bridge.close()
    thread.join(10)
    assert seen == ["cancelled"]
    with pytest.raises(InternalError, match="closed"):
        bridge.wait(doubled, 1)
