"""Places are handed out by priority and by turns among clients, and never lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from corral.core.errors import QueueFullError, ServerStoppingError
from corral.core.fairness import MOST_PASSES
from corral.sched.queue import FairQueue, Line, WaitingRoom


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


class Asking:
    """Requests that wait in one queue; each keeps its place until it is told to give it back."""

    def __init__(self, tasks: asyncio.TaskGroup, queue: FairQueue) -> None:
        self.order: list[str] = []
        self._tasks = tasks
        self._queue = queue
        self._over: dict[str, asyncio.Event] = {}

    def ask(self, name: str, client: str = "", priority: int = 0, *, cost: int | None = None) -> "asyncio.Task[None]":
        self._over[name] = asyncio.Event()
        return self._tasks.create_task(self._take(name, client, priority, cost), name=name)

    async def _take(self, name: str, client: str, priority: int, cost: int | None) -> None:
        place = await self._queue.take(client, priority)
        self.order.append(name)
        try:
            await self._over[name].wait()
        finally:
            if cost is not None:
                place.spend(cost)
            self._queue.give_back(place)

    async def end(self, *names: str) -> None:
        for name in names:
            self._over[name].set()
        await settle()

    def forget(self, name: str) -> None:
        """It has left by itself."""
        del self._over[name]

    async def end_all(self) -> list[str]:
        """Ends them in the order in which they got their places."""
        for at in range(len(self._over)):
            await self.end(self.order[at])
        return self.order


@asynccontextmanager
async def asking(places: int, *, may_displace: bool = False) -> AsyncIterator[Asking]:
    queue = FairQueue(0)
    queue.open(places, may_displace=may_displace)
    async with asyncio.TaskGroup() as tasks:
        bench = Asking(tasks, queue)
        yield bench
        await settle()
        await bench.end_all()
    assert len(queue) == 0
    assert all(queue.take_free() for _ in range(places)), "places all come back"
    assert not queue.take_free()


async def test_a_client_with_many_requests_lets_another_through() -> None:
    async with asking(1) as bench:
        for number in range(200):
            bench.ask(f"greedy {number}", "greedy")
        await settle()
        bench.ask("single", "single")
        await settle()
        await bench.end("greedy 0")
        assert bench.order == ["greedy 0", "single"]
    assert bench.order[2:5] == ["greedy 1", "greedy 2", "greedy 3"]


async def test_one_client_alone_is_served_in_the_order_of_arrival() -> None:
    async with asking(2) as bench:
        for number in range(9):
            bench.ask(str(number), "a", cost=1 + number % 3)
    assert bench.order == [str(number) for number in range(9)]


async def test_clients_share_by_what_their_requests_cost() -> None:
    async with asking(1) as bench:
        for number in range(40):
            bench.ask(f"long {number}", "a", cost=300)
            bench.ask(f"short {number}", "b", cost=100)
    longs = sum(name.startswith("long") for name in bench.order[:40])
    assert 8 <= longs <= 13, "one for three short ones"


async def test_an_earlier_priority_goes_first_and_a_later_one_is_not_forgotten() -> None:
    async with asking(1) as bench:
        bench.ask("running")
        await settle()
        bench.ask("late", priority=1)
        for number in range(20):
            bench.ask(str(number))
        bench.ask("early", priority=-1)
    assert bench.order[1] == "early"
    assert bench.order.index("late") == 1 + MOST_PASSES


async def test_who_waits_for_places_is_served_by_turns_once_there_are_some() -> None:
    queue = FairQueue(0)
    async with asyncio.TaskGroup() as tasks:
        bench = Asking(tasks, queue)
        for number in range(9):
            bench.ask(f"greedy {number}", "greedy")
        bench.ask("single", "single")
        bench.ask("early", "greedy", -1)
        await settle()
        assert bench.order == []
        queue.open(3, may_displace=False)
        await settle()
        assert bench.order == ["early", "single", "greedy 0"], "the early one was of the greedy client"
        await bench.end_all()


async def test_who_leaves_the_line_leaves_no_gap() -> None:
    async with asking(1) as bench:
        bench.ask("first")
        leaver = bench.ask("leaver")
        bench.ask("stayer")
        await settle()
        leaver.cancel()
        await bench.end("first")
        assert bench.order == ["first", "stayer"]
        bench.forget("leaver")


async def test_a_place_given_to_one_who_leaves_goes_to_the_next() -> None:
    queue = FairQueue(1)
    first = await queue.take("a")
    async with asyncio.TaskGroup() as tasks:
        leaver = tasks.create_task(queue.take("leaver"))
        stayer = tasks.create_task(queue.take("stayer"))
        await settle()
        queue.give_back(first)  # the leaver's turn is set, and it is cancelled before it runs
        leaver.cancel()
        await settle()
        assert stayer.done()


# Beyond the places


async def test_an_earlier_priority_does_not_wait_for_a_later_one_that_can_be_displaced() -> None:
    async with asking(2, may_displace=True) as bench:
        for number in range(4):
            bench.ask(f"late {number}", "a", 1)
        await settle()
        for number in range(4):
            bench.ask(f"early {number}", "a", 0)
        await settle()
        assert bench.order == ["late 0", "late 1", "early 0", "early 1"]
        await bench.end("early 0")
        assert bench.order[4:] == ["early 2"], "who was displaced goes on before others of its priority begin"


async def test_the_first_request_of_a_client_does_not_wait_for_one_that_has_several() -> None:
    async with asking(3, may_displace=True) as bench:
        for number in range(5):
            bench.ask(f"batch {number}", "batch")
        await settle()
        for client in ("ann", "ben", "cid"):
            bench.ask(f"{client} 0", client)
            bench.ask(f"{client} 1", client)
        await settle()
        assert bench.order[3:] == ["ann 0", "ben 0"], "three clients have one place each, and the fourth waits"
        await bench.end("ann 0")
        assert bench.order[5:] == ["cid 0"]


async def test_no_more_than_twice_the_places_are_given() -> None:
    async with asking(2, may_displace=True) as bench:
        for number in range(20):
            bench.ask(str(number), priority=-number)
            await settle()
        assert len(bench.order) == 4


async def test_one_client_of_one_priority_gets_no_more_than_the_places() -> None:
    async with asking(2, may_displace=True) as bench:
        for number in range(20):
            bench.ask(str(number), "a")
        await settle()
        assert len(bench.order) == 2


# Bounds


def test_a_full_waiting_room_refuses() -> None:
    room = WaitingRoom(1)
    room.enter("a")
    with pytest.raises(QueueFullError, match="maximum pending requests exceeded"):
        room.enter("b")
    room.leave("a")
    room.enter("b")


def test_a_waiting_room_that_one_client_fills_has_something_left_for_others() -> None:
    room = WaitingRoom(16)
    for _ in range(16):
        room.enter("greedy")
    with pytest.raises(QueueFullError):
        room.enter("greedy")
    room.enter("a")
    with pytest.raises(QueueFullError):
        room.enter("a")
    room.enter("b")
    with pytest.raises(QueueFullError):
        room.enter("c")
    room.leave("greedy")
    room.enter("c")


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
