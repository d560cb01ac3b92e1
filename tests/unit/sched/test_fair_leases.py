"""Leases among clients and priorities: who gets the places of a model, from the moment it is loaded on."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from corral.core.errors import ModelLoadError, QueueFullError
from corral.core.options import Options
from corral.core.settings import Settings
from corral.engine.fake import FakeLauncher
from corral.store import Model
from tests.support.models import make_model
from tests.support.sched_bench import Bench, bench, settle


@dataclass
class Users:
    """Those who use one model, each until it is told to end."""

    bench: Bench
    model: Model
    tasks: asyncio.TaskGroup
    order: list[str] = field(default_factory=list)
    over: dict[str, asyncio.Event] = field(default_factory=dict)

    def come(self, name: str, client: str, priority: int = 0, *, cost: int | None = None) -> None:
        self.over[name] = asyncio.Event()
        self.tasks.create_task(self._use(name, client, priority, cost))

    async def _use(self, name: str, client: str, priority: int, cost: int | None) -> None:
        async with self.bench.scheduler.lease(self.model, Options.resolve(), client=client, priority=priority) as lease:
            self.order.append(name)
            await self.over[name].wait()
            if cost is not None:
                lease.place.spend(cost)

    async def end(self, name: str) -> None:
        self.over[name].set()
        await settle()

    async def end_all(self) -> None:
        for at in range(len(self.over)):
            await self.end(self.order[at])


def launcher_of(places: int) -> FakeLauncher:
    return FakeLauncher(n_parallel=places)


async def test_clients_that_came_while_the_model_was_loading_share_its_places(tmp_path: Path) -> None:
    launcher = launcher_of(2)
    launcher.hold = asyncio.Event()
    async with bench(launcher=launcher) as b, asyncio.TaskGroup() as tasks:
        users = Users(b, make_model(tmp_path, "a"), tasks)
        for number in range(20):
            users.come(f"greedy {number}", "greedy")
        users.come("single", "single")
        users.come("early", "third", -1)
        await settle()
        launcher.hold.set()
        await settle()
        assert users.order == ["early", "greedy 0"]
        await users.end("early")
        assert users.order[2:] == ["single"]
        await users.end_all()


async def test_places_are_shared_by_what_requests_turned_out_to_cost(tmp_path: Path) -> None:
    async with bench(launcher=launcher_of(1)) as b, asyncio.TaskGroup() as tasks:
        users = Users(b, make_model(tmp_path, "a"), tasks)
        for number in range(20):
            users.come(f"long {number}", "a", cost=500)
            users.come(f"short {number}", "b", cost=100)
        await settle()
        await users.end_all()
    assert sum(name.startswith("long") for name in users.order[:24]) <= 6


async def test_load_that_fails_is_told_to_all_who_wait(tmp_path: Path) -> None:
    launcher = launcher_of(1)
    launcher.hold, launcher.failure = asyncio.Event(), ModelLoadError("it is broken")
    async with bench(launcher=launcher) as b:
        model = make_model(tmp_path, "a")
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(b.outcome(model)) for _ in range(3)]
            await settle()
            launcher.hold.set()
        assert [task.result() for task in asked] == ["it is broken"] * 3
        assert await b.outcome(model) == "fine"


async def test_client_that_fills_the_queue_leaves_others_something_of_it(tmp_path: Path) -> None:
    model = make_model(tmp_path, "a")
    async with bench(Settings(max_queue=8), launcher_of(1)) as b, asyncio.TaskGroup() as tasks:
        users = Users(b, model, tasks)
        users.come("greedy 0", "greedy")
        await settle()
        for number in range(1, 9):
            users.come(f"greedy {number}", "greedy")
        await settle()
        with pytest.raises(QueueFullError):
            await b.scheduler.lease(model, Options.resolve(), client="greedy").__aenter__()
        users.come("single", "single")
        await settle()
        await users.end("greedy 0")
        assert users.order[1] == "single"
        await users.end_all()
