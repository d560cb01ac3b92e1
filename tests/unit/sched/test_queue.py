"""Places are handed out by turns among clients, and never lost."""

import asyncio

import pytest

from corral.core.errors import QueueFullError, ServerStoppingError
from corral.sched.queue import FairQueue, Line, WaitingRoom


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_client_with_many_requests_lets_another_through() -> None:
    queue, order = FairQueue(1), list[str]()
    await queue.take("greedy")

    async def ask(client: str, name: str) -> None:
        await queue.take(client)
        order.append(name)
        queue.give_back()

    async with asyncio.TaskGroup() as tasks:
        for i in range(3):
            tasks.create_task(ask("greedy", f"greedy {i}"))
        await settle()
        tasks.create_task(ask("single", "single"))
        await settle()
        queue.give_back()
    assert order == ["greedy 0", "single", "greedy 1", "greedy 2"]


async def test_who_leaves_the_line_leaves_no_gap() -> None:
    queue, got = FairQueue(1), list[str]()
    await queue.take("a")

    async def ask(name: str) -> None:
        await queue.take(name)
        got.append(name)

    async with asyncio.TaskGroup() as tasks:
        leaver = tasks.create_task(ask("leaver"))
        tasks.create_task(ask("stayer"))
        await settle()
        leaver.cancel()
        await settle()
        queue.give_back()
    assert got == ["stayer"]
    assert len(queue) == 0


async def test_a_place_given_to_one_who_leaves_goes_to_the_next() -> None:
    queue = FairQueue(1)
    await queue.take("a")
    async with asyncio.TaskGroup() as tasks:
        leaver = tasks.create_task(queue.take("leaver"))
        stayer = tasks.create_task(queue.take("stayer"))
        await settle()
        queue.give_back()  # the leaver's turn is set, and it is cancelled before it runs
        leaver.cancel()
        await settle()
        assert stayer.done()


async def test_places_all_come_back() -> None:
    queue = FairQueue(2)
    await queue.take("a")
    await queue.take("b")
    assert not queue.take_free()
    queue.give_back()
    queue.give_back()
    assert queue.take_free()
    assert queue.take_free()
    assert not queue.take_free()


def test_a_full_waiting_room_refuses() -> None:
    room = WaitingRoom(1)
    room.enter()
    with pytest.raises(QueueFullError, match="maximum pending requests exceeded"):
        room.enter()
    room.leave()
    room.enter()


async def test_a_line_counts_who_waits_and_refuses_one_too_many() -> None:
    room = WaitingRoom(1)
    line = Line(room, 1)
    async with asyncio.TaskGroup() as tasks:
        async with line.place("a"):
            assert room.waiting == 0
            second = tasks.create_task(pass_through(line))
            await asyncio.sleep(0)
            assert room.waiting == 1
            with pytest.raises(QueueFullError):
                await pass_through(line)
        await second
    assert room.waiting == 0


async def pass_through(line: Line) -> None:
    async with line.place("b"):
        pass


async def test_a_line_that_closes_tells_those_who_wait_and_those_who_come() -> None:
    room = WaitingRoom(9)
    line = Line(room, 1)
    async with asyncio.TaskGroup() as tasks, line.place("a"):
        waiting = [tasks.create_task(refused(line)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting.pop().cancel()
        line.close()
        assert await refused(line)
    assert all(task.result() for task in waiting)
    assert room.waiting == 0


async def refused(line: Line) -> bool:
    with pytest.raises(ServerStoppingError):
        await pass_through(line)
    return True
