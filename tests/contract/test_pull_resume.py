"""What an interrupted pull leaves, and what the next one makes of it."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corral.registry import Disk
from tests.support.fake_registry import FakeRegistry, cut_after, digest_of, stall_after
from tests.support.pulls import QUICK, Gate, Puller, held

PATIENT = replace(QUICK, stall_s=10.0)  # a busy machine must not look like a stalled server: bytes are counted here
ONE_AT_A_TIME = replace(PATIENT, connections=1)
WEIGHTS = os.urandom(102_400)  # seven chunks of 15,000 bytes and less
HALF = 51_200


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as fake:
        fake.add(WEIGHTS)
        yield fake


@pytest.fixture
async def puller(tmp_path: Path) -> AsyncIterator[Puller]:
    it = Puller(tmp_path / "models", limits=PATIENT)
    yield it
    await it.service.aclose()


def notes(puller: Puller) -> list[dict[str, Any]]:
    """What lies beside the partial file, by number."""
    path = puller.partial(WEIGHTS)
    found = [json.loads(note.read_text()) for note in path.parent.glob(f"{path.name}-*")]
    return sorted(found, key=lambda note: int(note["N"]))


def leave(puller: Puller, parts: Sequence[dict[str, Any]], data: bytes = WEIGHTS) -> None:
    """Makes what an interrupted download leaves: the bytes that the parts claim, and holes."""
    path = puller.partial(WEIGHTS)
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        for number, part in enumerate(parts):
            file.seek(part["Offset"])
            file.write(data[part["Offset"] : part["Offset"] + part["Completed"]])
            path.with_name(f"{path.name}-{number}").write_text(json.dumps(part) + "\n")
        file.truncate(len(data))


def fetched(registry: FakeRegistry) -> list[tuple[int, int]]:
    """The ranges of the weights that were asked for, in order, but for the look where they are."""
    ranges = [seen.headers["Range"] for seen in registry.blob_requests() if digest_of(WEIGHTS) in seen.path]
    pairs = [tuple(map(int, text.removeprefix("bytes=").split("-"))) for text in ranges if text != "bytes=0-0"]
    return sorted((start, end + 1) for start, end in pairs)


def fetched_bytes(registry: FakeRegistry) -> int:
    return sum(end - start for start, end in fetched(registry))


async def stopped_in_the_middle(registry: FakeRegistry, puller: Puller, gate: Gate) -> None:
    """A pull whose client leaves once two chunks are there and the third has begun."""
    registry.blob_faults.extend([cut_after(1), cut_after(15_000), cut_after(15_000), stall_after(7_000, gate)])
    async with puller.service.pull(registry.name(), insecure=True) as statuses:
        await anext(statuses)
        await gate.reached.wait()


async def test_a_client_that_leaves_keeps_what_has_come(registry: FakeRegistry, tmp_path: Path) -> None:
    puller, gate = Puller(tmp_path / "models", limits=ONE_AT_A_TIME), Gate()
    await stopped_in_the_middle(registry, puller, gate)
    claimed = sum(note["Completed"] for note in notes(puller))
    assert 30_000 <= claimed <= 37_000
    assert puller.blob(WEIGHTS) is None
    assert [(note["Offset"], note["Size"]) for note in notes(puller)] == [
        (start, min(15_000, len(WEIGHTS) - start)) for start in range(0, len(WEIGHTS), 15_000)
    ]

    registry.seen.clear()
    assert (await puller.pull(registry.name()))[-1].status == "success"
    assert fetched_bytes(registry) == len(WEIGHTS) - claimed
    assert puller.blob(WEIGHTS) == WEIGHTS
    assert puller.is_clean()
    await puller.service.aclose()


async def test_a_kill_costs_no_more_than_was_written_since_the_last_checkpoints(registry: FakeRegistry, tmp_path: Path) -> None:
    """However fast the link is: what is noted follows what is shown, without a clock."""
    written, behind = 0, [0]

    def write_at(fd: int, data: bytes, offset: int) -> None:
        nonlocal written
        os.pwrite(fd, data, offset)
        if os.fstat(fd).st_size != len(WEIGHTS):  # the configuration
            return
        written += len(data)
        behind.append(written - sum(note["Completed"] for note in notes(killed)))

    limits = replace(ONE_AT_A_TIME, checkpoint_s=3600.0, checkpoint_bytes=10_000)
    killed = Puller(tmp_path / "models", limits=limits, disk=Disk(write_at=write_at))
    assert (await killed.pull(registry.name()))[-1].status == "success"
    assert max(behind) <= 2 * limits.checkpoint_bytes + limits.chunk_bytes
    assert killed.blob(WEIGHTS) == WEIGHTS
    await killed.service.aclose()


async def test_a_failed_pull_keeps_what_has_come(registry: FakeRegistry, puller: Puller) -> None:
    registry.blob_faults.extend([cut_after(1), *[cut_after(9_000)] * 3, *[cut_after(0)] * 100])
    with pytest.raises(Exception, match="unexpected EOF"):
        await puller.pull(registry.name())
    claimed = sum(note["Completed"] for note in notes(puller))
    assert claimed >= 9_000
    registry.blob_faults.clear()
    registry.seen.clear()
    statuses = await puller.pull(registry.name())
    assert fetched_bytes(registry) == len(WEIGHTS) - claimed
    completed = [status.completed for status in statuses if status.digest == digest_of(WEIGHTS)]
    assert completed[0] == claimed
    assert completed == sorted(completed)


async def test_a_download_of_ollamas_is_gone_on_with(registry: FakeRegistry, puller: Puller) -> None:
    parts = [
        {"N": 0, "Offset": 0, "Size": 40_000, "Completed": 40_000},
        {"N": 1, "Offset": 40_000, "Size": 40_000, "Completed": 100},
        {"N": 2, "Offset": 80_000, "Size": 22_400, "Completed": 0},
    ]
    leave(puller, parts)
    assert (await puller.pull(registry.name()))[-1].status == "success"
    assert fetched(registry) == [(40_100, 80_000), (80_000, 102_400)]
    assert puller.is_clean()


async def test_a_download_that_was_whole_is_only_checked(registry: FakeRegistry, puller: Puller) -> None:
    leave(puller, [{"N": 0, "Offset": 0, "Size": len(WEIGHTS), "Completed": len(WEIGHTS)}])
    assert (await puller.pull(registry.name()))[-1].status == "success"
    assert fetched(registry) == []
    assert puller.blob(WEIGHTS) == WEIGHTS


@pytest.mark.parametrize(
    ("note", "kept"),
    [
        pytest.param("", 0, id="empty"),
        pytest.param('{"N":0', 0, id="torn"),
        pytest.param('{"N":0,"Offset":-5,"Size":10,"Completed":10}', 0, id="negative"),
        pytest.param('{"N":0,"Offset":0,"Size":10,"Completed":11}', 0, id="more-than-all"),
        pytest.param('{"N":0,"Offset":102300,"Size":1000,"Completed":10}', 0, id="beyond-the-end"),
        pytest.param('{"N":7,"Offset":20000,"Size":1000,"Completed":10}', 10, id="odd-number"),
    ],
)
async def test_a_note_that_cannot_be_costs_its_own_part(registry: FakeRegistry, puller: Puller, note: str, kept: int) -> None:
    leave(
        puller, [{"N": 0, "Offset": 0, "Size": 1, "Completed": 0}, {"N": 1, "Offset": 50_000, "Size": 10_000, "Completed": 500}]
    )
    path = puller.partial(WEIGHTS)
    path.with_name(f"{path.name}-0").write_text(note)
    with path.open("r+b") as file:
        file.write(WEIGHTS[:50_500])
    assert (await puller.pull(registry.name()))[-1].status == "success"
    assert fetched_bytes(registry) == len(WEIGHTS) - 500 - kept
    assert puller.is_clean()


async def test_wrong_bytes_of_an_earlier_download_are_fetched_anew_once(registry: FakeRegistry, puller: Puller) -> None:
    leave(puller, [{"N": 0, "Offset": 0, "Size": len(WEIGHTS), "Completed": HALF}], data=bytes(len(WEIGHTS)))
    statuses = await puller.pull(registry.name())
    assert statuses[-1].status == "success"
    assert puller.blob(WEIGHTS) == WEIGHTS
    assert fetched_bytes(registry) == len(WEIGHTS) - HALF + len(WEIGHTS)
    completed = [status.completed for status in statuses if status.digest == digest_of(WEIGHTS)]
    assert completed == sorted(completed)


async def test_a_blob_that_has_changed_at_its_host_is_begun_anew(registry: FakeRegistry, puller: Puller) -> None:
    registry.etag = '"new"'
    note = {"N": 0, "Offset": 0, "Size": len(WEIGHTS), "Completed": HALF, "ETag": '"old"', "Host": f"127.0.0.1:{registry.port}"}
    leave(puller, [note], data=bytes(len(WEIGHTS)))
    assert (await puller.pull(registry.name()))[-1].status == "success"
    assert fetched_bytes(registry) == len(WEIGHTS)


async def test_another_hosts_word_for_the_same_blob_is_no_change(registry: FakeRegistry, puller: Puller) -> None:
    registry.etag = '"new"'
    note = {"N": 0, "Offset": 0, "Size": len(WEIGHTS), "Completed": HALF, "ETag": '"old"', "Host": "elsewhere.example"}
    leave(puller, [note])
    assert (await puller.pull(registry.name()))[-1].status == "success"
    assert fetched_bytes(registry) == len(WEIGHTS) - HALF


async def test_a_partial_file_of_another_size_counts_for_nothing(registry: FakeRegistry, puller: Puller) -> None:
    leave(puller, [{"N": 0, "Offset": 0, "Size": HALF, "Completed": HALF}])
    os.truncate(puller.partial(WEIGHTS), HALF)
    assert (await puller.pull(registry.name()))[-1].status == "success"
    assert fetched_bytes(registry) == len(WEIGHTS)


async def test_a_registry_without_ranges_is_read_from_its_beginning(registry: FakeRegistry, puller: Puller) -> None:
    registry.has_ranges = False
    leave(
        puller,
        [
            {"N": 0, "Offset": 0, "Size": 20_000, "Completed": 20_000},
            {"N": 1, "Offset": 20_000, "Size": 82_400, "Completed": 5},
        ],
    )
    assert (await puller.pull(registry.name()))[-1].status == "success"
    assert puller.blob(WEIGHTS) == WEIGHTS
    assert puller.is_clean()


async def test_two_servers_on_one_store_share_a_download(registry: FakeRegistry, tmp_path: Path) -> None:
    """The second waits for the first, goes on where that one stops, and shows meanwhile how far it is."""
    one, two = (Puller(tmp_path / "models", limits=ONE_AT_A_TIME) for _ in range(2))
    gate = Gate()
    async with asyncio.TaskGroup() as tasks:
        registry.blob_faults.extend([cut_after(1), cut_after(15_000), stall_after(7_000, gate)])
        async with one.service.pull(registry.name(), insecure=True) as first:
            await anext(first)
            await gate.reached.wait()
            second = tasks.create_task(two.pull(registry.name()))
            while len([seen for seen in registry.seen if "/manifests/" in seen.path]) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert not second.done()
        claimed = sum(note["Completed"] for note in notes(one))
        registry.seen.clear()
    assert second.result()[-1].status == "success"
    assert claimed >= 15_000
    assert fetched_bytes(registry) == len(WEIGHTS) - claimed
    assert two.is_clean()
    for puller in (one, two):
        await puller.service.aclose()


async def test_a_blob_that_another_server_finished_meanwhile_is_not_fetched_again(
    registry: FakeRegistry, tmp_path: Path
) -> None:
    one, two = (Puller(tmp_path / "models", limits=ONE_AT_A_TIME) for _ in range(2))
    gate = Gate()
    registry.blob_faults.extend([cut_after(1), cut_after(15_000), held(gate)])
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(one.pull(registry.name()))
        await gate.reached.wait()
        second = tasks.create_task(two.pull(registry.name()))
        while len([seen for seen in registry.seen if "/manifests/" in seen.path]) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        gate.opened.set()
    assert [task.result()[-1].status for task in (first, second)] == ["success", "success"]
    assert fetched_bytes(registry) <= len(WEIGHTS) + 15_000  # the chunk that stalled is asked for again
    assert two.is_clean()
    for puller in (one, two):
        await puller.service.aclose()
