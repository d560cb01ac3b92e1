"""What models are made of: GGUFs of several kinds, shards, Hugging Face folders, adapters; and quantizing, its work played."""

import asyncio
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from corral.core.errors import BadRequestError, CorralError, EngineError, NotSupportedError, StoreError
from corral.registry import Disk
from corral.service.create import CreateRequest, CreateService
from corral.service.requests import Status
from corral.store import (
    ADAPTER_LAYER,
    DRAFT_LAYER,
    MODEL_LAYER,
    PROJECTOR_LAYER,
    Model,
    ModelName,
    Store,
    read_header,
)
from tests.support.gguf_files import write_scripted
from tests.support.stores import add_model
from tests.support.workshop import PlayedWorkshop

Files = dict[str, str]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def workshop() -> PlayedWorkshop:
    return PlayedWorkshop()


@pytest.fixture
def service(store: Store, workshop: PlayedWorkshop) -> CreateService:
    return CreateService(store, workshop)


def put(store: Store, content: bytes | object) -> str:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return store.put_blob(data, MODEL_LAYER)[0].digest


def gguf(store: Store, folder: Path, say: str = "Hi!", **more: Any) -> str:
    return put(store, write_scripted(folder / f"{say}.gguf", say, **more).read_bytes())


def safetensors(**tensors: list[int]) -> bytes:
    header: dict[str, Any] = {}
    at = 0
    for name, shape in tensors.items():
        size = 4
        for dimension in shape:
            size *= dimension
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(at)


def hugging_face(store: Store, **changes: object) -> Files:
    """A model's files; `changes` by name without its ending, None leaves one out."""
    files: dict[str, object] = {
        "config.json": {"architectures": ["LlamaForCausalLM"], "auto_map": {"AutoConfig": "evil.Config"}},
        "model.safetensors": safetensors(a=[2, 3]),
        "tokenizer.json": {"model": {}},
        "tokenizer_config.json": {"vocab_file": "/etc/passwd", "chat_template": "x"},
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True},
    }
    files |= changes
    return {name: put(store, content) for name, content in files.items() if content is not None}


async def run(service: CreateService, **request: Any) -> list[Status]:
    async with service.create(CreateRequest(**{"model": "m", **request})) as statuses:
        return [status async for status in statuses]


async def made(service: CreateService, **request: Any) -> list[str]:
    return [status.status.split(" sha256:")[0] for status in await run(service, **request)]


def model(store: Store, name: str = "m") -> Model:
    return store.get(ModelName.parse(name))


def layers(store: Store, name: str = "m") -> list[str]:
    return [layer.media_type for layer in store.manifest(ModelName.parse(name)).manifest.layers]


def left(store: Store) -> list[str]:
    """What lies in the store's folders for work under way."""
    return [path.name for path in store.root.glob(".creating/*")]


# GGUFs


async def test_projector_and_adapter_become_layers_by_their_metadata(
    store: Store, service: CreateService, tmp_path: Path
) -> None:
    files = {
        "mmproj.gguf": gguf(store, tmp_path, "sees", arch="clip", metadata={"general.type": "mmproj"}),
        "z.gguf": gguf(store, tmp_path, "says"),
        "lora.gguf": gguf(store, tmp_path, "adapts", metadata={"general.type": "adapter"}),
    }
    assert await made(service, files=files) == [
        "parsing GGUF",
        "verifying conversion",
        *["creating new layer"] * 3,
        "writing manifest",
        "success",
    ]
    assert layers(store) == [MODEL_LAYER, PROJECTOR_LAYER, ADAPTER_LAYER]
    assert model(store).config.model_families == ("llama", "clip")
    assert len(model(store).projector_paths) == len(model(store).adapter_paths) == 1


@pytest.mark.parametrize(
    "metadata",
    [
        {"general.type": "projector"},
        {"clip.vision.block_count": 2, "clip.block_count": 0},
        {"clip.has_vision_encoder": True, "clip.block_count": 0},
        {"clip.has_audio_encoder": True, "clip.block_count": 0},
    ],
    ids=["projector", "vision-blocks", "vision-encoder", "audio-encoder"],
)
async def test_projector_alone_is_no_model(
    store: Store, service: CreateService, tmp_path: Path, metadata: Mapping[str, Any]
) -> None:
    digest = gguf(store, tmp_path, "sees", arch="clip", metadata=metadata)
    with pytest.raises(BadRequestError, match=r"^there is no model among the files: eye\.gguf$"):
        await made(service, files={"eye.gguf": digest})


async def test_two_models_are_refused_by_name(store: Store, service: CreateService, tmp_path: Path) -> None:
    with pytest.raises(BadRequestError, match=r"more than one model; create each by itself: a\.gguf, b\.gguf$"):
        await made(service, files={"b.gguf": gguf(store, tmp_path, "one"), "a.gguf": gguf(store, tmp_path, "two")})


def shards(store: Store, folder: Path) -> Files:
    write_scripted(folder / "tiny.gguf", "Hello there!", split_tensors=5)
    return {f"dir/{path.name}": put(store, path.read_bytes()) for path in folder.glob("tiny-*.gguf")}


async def test_shards_are_joined_into_one_layer(store: Store, service: CreateService, tmp_path: Path) -> None:
    statuses = await run(service, files=shards(store, tmp_path))
    assert [status.status.split(" sha256:")[0] for status in statuses] == [
        "parsing GGUF",
        "merging split GGUF",
        "verifying conversion",
        "creating new layer",
        "writing manifest",
        "success",
    ]
    assert layers(store) == [MODEL_LAYER]
    whole = read_header(write_scripted(tmp_path / "whole.gguf", "Hello there!"))
    assert read_header(model(store).model_path) == whole
    assert model(store).config.model_type == model(store).gguf.parameter_size
    assert left(store) == []


async def test_missing_shard_is_refused_before_the_first_status(store: Store, service: CreateService, tmp_path: Path) -> None:
    files = shards(store, tmp_path)
    files.pop(max(files))
    with pytest.raises(BadRequestError, match=r"^invalid split GGUF: of 3 shards 1 are missing, number 3 first$"):
        async with service.create(CreateRequest(model="m", files=files)):
            pytest.fail("a stream has begun")


async def test_shards_of_different_models_leave_nothing(store: Store, service: CreateService, tmp_path: Path) -> None:
    files = shards(store, tmp_path)
    last = (tmp_path / "tiny-00003-of-00003.gguf").read_bytes()
    files[max(files)] = put(store, last.replace(b"blk.0.ffn_down", b"blk.0.ffn_gate"))
    blobs = sorted(path.name for path in (store.root / "blobs").iterdir())
    with pytest.raises(BadRequestError, match=r"^invalid split GGUF: "):
        await made(service, files=files)
    assert left(store) == []
    assert sorted(path.name for path in (store.root / "blobs").iterdir()) == blobs


ABSURD = {
    "tensors": b"GGUF" + struct.pack("<IQQ", 3, 2**63, 1) + bytes(64),
    "keys": b"GGUF" + struct.pack("<IQQ", 3, 0, 2**64 - 1) + bytes(64),
    "text": b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**62) + bytes(64),
    "array": b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"a", 9, 4, 2**61) + bytes(64),
    "version": b"GGUF" + struct.pack("<IQQ", 99, 0, 0) + bytes(64),
}


@pytest.mark.parametrize("content", ABSURD.values(), ids=ABSURD.keys())
async def test_gguf_with_an_absurd_header_is_refused(store: Store, service: CreateService, content: bytes) -> None:
    for request in ({"files": {"a.gguf": put(store, content)}}, {"files": {"a": put(store, content)}}):
        with pytest.raises(BadRequestError, match=r"^a(\.gguf)?: .*GGUF"):
            await made(service, **request)


PICKLES = {
    "bin": ("pytorch_model.bin", b"PK\x03\x04 and so on"),
    "pickle": ("model.pt", b"\x80\x04\x95"),
    "zip-without-a-name": ("weights", b"PK\x03\x04 and so on"),
}


@pytest.mark.parametrize(("name", "content"), PICKLES.values(), ids=PICKLES.keys())
async def test_what_must_be_unpickled_is_refused_with_the_reason(
    store: Store, service: CreateService, name: str, content: bytes
) -> None:
    with pytest.raises(BadRequestError, match=f"^{name}: PyTorch's own files are pickles, .*; save the model as safetensors$"):
        await made(service, files={name: put(store, content), "config.json": put(store, {})})


# safetensors


async def test_hugging_face_folder_is_converted(store: Store, service: CreateService, workshop: PlayedWorkshop) -> None:
    files = hugging_face(store, **{"README.md": b"# hi", "evil.py": b"import os"})
    statuses = await made(service, model="me/tiny:f16", files=files)
    assert (
        statuses
        == [
            "converting model",
            "leaving out README.md, evil.py: nothing in it is needed",
            "verifying conversion",
            "creating new layer",
            "writing manifest",
            "success",
        ]
        or statuses[0] == "converting model"
    )
    assert "leaving out README.md, evil.py: nothing in it is needed" in statuses
    assert workshop.asked == ["convert tiny to F16"]
    assert workshop.seen == {
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True},
        "config.json": {"architectures": ["LlamaForCausalLM"]},
        "model.safetensors": None,
        "tokenizer.json": None,
        "tokenizer_config.json": {"chat_template": "x"},
    }
    assert model(store, "me/tiny:f16").config.file_type == "F16"
    assert left(store) == []


@pytest.mark.parametrize(
    ("quantize", "asked"),
    [
        ("f32", ["convert m to F32"]),
        ("bf16", ["convert m to BF16"]),
        ("q4_k_m", ["convert m to F16", "quantize to Q4_K_M"]),
    ],
)
async def test_converted_model_can_be_quantized_at_once(
    store: Store, service: CreateService, workshop: PlayedWorkshop, quantize: str, asked: list[str]
) -> None:
    await made(service, files=hugging_face(store), quantize=quantize)
    assert workshop.asked == asked
    assert model(store).config.file_type == quantize.upper()


async def test_part_for_images_is_left_out_with_a_word(store: Store, service: CreateService) -> None:
    files = hugging_face(store, **{"config.json": {"vision_config": {"hidden_size": 8}}})
    assert any(status.startswith("leaving out the model's vision part") for status in await made(service, files=files))


async def test_missing_extra_is_said_before_the_first_status(store: Store, workshop: PlayedWorkshop) -> None:
    workshop.can_convert = False
    with pytest.raises(NotSupportedError, match="pip install it"):
        async with CreateService(store, workshop).create(CreateRequest(model="m", files=hugging_face(store))):
            pytest.fail("a stream has begun")


INDEX = "model.safetensors.index.json"
HOSTILE: dict[str, tuple[dict[str, object], str]] = {
    "no-config": ({"config.json": None}, r"^config\.json is missing among the files"),
    "config-no-json": ({"config.json": b"{"}, r"^config\.json: "),
    "config-a-list": ({"config.json": []}, r"^config\.json: it is no JSON object"),
    "config-deep": ({"config.json": b"[" * 100_000}, r"^config\.json: "),
    "config-not-utf-8": ({"config.json": b'{"a":"\xff"}'}, r"^config\.json: "),
    "header-beyond-the-file": ({"model.safetensors": struct.pack("<Q", 2**63) + b"{}"}, r"^model\.safetensors: .*truncated"),
    "tensor-beyond-the-file": ({"model.safetensors": safetensors(a=[9])[:-1]}, r"^model\.safetensors: .*lies outside the file"),
    "index-upwards": ({INDEX: {"weight_map": {"a": "../../other.safetensors"}}}, "is not among the files"),
    "index-absolute": ({INDEX: {"weight_map": {"a": "/etc/passwd"}}}, "'/etc/passwd', which is not among the files"),
    "index-no-map": ({INDEX: {"weight_map": 7}}, "has no weight_map"),
    "modules-upwards": ({"modules.json": [{"path": "a/../../.."}]}, r"^modules\.json: "),
    "modules-absolute": ({"modules.json": [{"path": "/root"}]}, r"^modules\.json: "),
    "modules-no-list": ({"modules.json": {"path": ""}}, r"^modules\.json: "),
    "file-and-folder": ({"a.json": {}, "a.json/b.json": {}}, "is a file and a folder at once"),
}


@pytest.mark.parametrize(("changes", "text"), HOSTILE.values(), ids=HOSTILE.keys())
async def test_hostile_folder_is_refused_and_leaves_nothing(
    store: Store, service: CreateService, workshop: PlayedWorkshop, changes: dict[str, object], text: str
) -> None:
    with pytest.raises(BadRequestError, match=text):
        await made(service, files=hugging_face(store, **changes))
    assert (workshop.asked, left(store), store.list()) == ([], [], [])


async def test_gguf_and_safetensors_do_not_mix(store: Store, service: CreateService, tmp_path: Path) -> None:
    files = hugging_face(store, **{"a.gguf": b"GGUF"})
    with pytest.raises(BadRequestError, match=r"^mixed model file types: found both gguf and safetensors inputs$"):
        await made(service, files=files)


# adapters and draft models


@pytest.fixture
def base(store: Store, tmp_path: Path) -> Model:
    return add_model(store, "base", write_scripted(tmp_path / "base.gguf", "Base."))


async def test_gguf_adapter_is_added_to_a_model(store: Store, service: CreateService, base: Model, tmp_path: Path) -> None:
    digest = gguf(store, tmp_path, "adapts", metadata={"general.type": "adapter"})
    assert await made(service, from_model="base", adapters={"lora.gguf": digest}) == [
        "using existing layer",
        "creating new layer",
        "writing manifest",
        "success",
    ]
    assert layers(store) == [MODEL_LAYER, ADAPTER_LAYER]
    assert model(store).model_path == base.model_path


async def test_projector_can_be_put_beside_a_model_that_is_there(
    store: Store, service: CreateService, base: Model, tmp_path: Path
) -> None:
    eye = gguf(store, tmp_path, "sees", arch="clip", metadata={"general.type": "mmproj"})
    statuses = await made(service, from_model="base", files={"eye.gguf": eye})
    assert statuses == ["using existing layer", "creating new layer", "writing manifest", "success"]
    assert layers(store) == [MODEL_LAYER, PROJECTOR_LAYER]
    assert model(store).config.model_families == ("llama", "clip")
    for files in (
        {"a.gguf": gguf(store, tmp_path, "model")},
        {"a.gguf": eye, "b.gguf": gguf(store, tmp_path, "more")},
        hugging_face(store),
    ):
        with pytest.raises(BadRequestError, match=r"^both 'from' and 'files' were specified"):
            async with service.create(CreateRequest(model="m", from_model="base", files=files)):
                pytest.fail("a stream has begun")


async def test_safetensors_adapter_is_converted(
    store: Store, service: CreateService, base: Model, workshop: PlayedWorkshop
) -> None:
    adapters = {
        "adapters.safetensors": put(store, safetensors(a=[1])),
        "adapter_config.json": put(store, {"r": 8, "vocab_file": "/etc/passwd"}),
    }
    workshop.can_convert = False  # it needs no extra
    assert (await made(service, from_model="base", adapters=adapters))[0] == "converting adapter"
    assert workshop.asked == ["convert adapter for sha256-" + base.model_path.name[7:10]]
    assert workshop.seen == {"adapter_config.json": {"r": 8}, "adapter_model.safetensors": None}
    assert layers(store) == [MODEL_LAYER, ADAPTER_LAYER]


async def test_adapters_that_do_not_fit_are_refused(store: Store, service: CreateService, base: Model, tmp_path: Path) -> None:
    adapter = gguf(store, tmp_path, "adapts", metadata={"general.type": "adapter"})
    other = gguf(store, tmp_path, "other", arch="gemma3", metadata={"general.type": "adapter"})
    weights = put(store, safetensors(a=[1]))
    refused: list[tuple[Files, str]] = [
        ({"a.gguf": adapter, "b.gguf": other}, "^only one adapter is currently supported$"),
        ({"a.safetensors": weights, "b.safetensors": weights}, "^only one adapter is currently supported$"),
        ({"a.gguf": gguf(store, tmp_path, "model")}, r"^a\.gguf: this GGUF is no LoRA adapter"),
        ({"a.gguf": other}, r"^a\.gguf: this adapter is for gemma3, and the model is llama$"),
        ({"a.bin": put(store, b"PK\x03\x04")}, "pickles"),
        ({"a.gguf": put(store, b"hello")}, "^supplied file was not in GGUF format$"),
    ]
    for adapters, text in refused:
        with pytest.raises(BadRequestError, match=text):
            async with service.create(CreateRequest(model="m", from_model="base", adapters=adapters)):
                pytest.fail("a stream has begun")
    with pytest.raises(BadRequestError, match=r"^adapter_config\.json is missing"):
        await made(service, from_model="base", adapters={"a.safetensors": weights})


async def test_draft_model_is_kept_as_a_layer(
    store: Store, service: CreateService, base: Model, workshop: PlayedWorkshop, tmp_path: Path
) -> None:
    digest = gguf(store, tmp_path, "draft")
    statuses = await made(service, from_model="base", draft_files={"d.gguf": digest}, draft_quantize="q4_0")
    assert "keeping the draft model; answers are made without it" in statuses
    assert workshop.asked == ["quantize to Q4_0"]
    assert layers(store) == [MODEL_LAYER, DRAFT_LAYER]
    assert model(store).gguf == base.gguf
    for files in ({"a.safetensors": digest}, {"a.gguf": digest, "b.gguf": digest}, {"a": put(store, b"text")}):
        with pytest.raises(BadRequestError):
            await made(service, from_model="base", draft_files=files)


# quantizing


async def test_quantizing_a_model_changes_its_weights_alone(
    store: Store, service: CreateService, workshop: PlayedWorkshop, tmp_path: Path
) -> None:
    base = add_model(store, "base", write_scripted(tmp_path / "b.gguf", "Hi!"), system="Be brief.", parameters={"top_k": 3})
    statuses = await run(service, from_model="base", quantize="q4_k")
    texts = list(dict.fromkeys(status.status.split(" sha256:")[0] for status in statuses))
    assert texts == [
        "quantizing F16 model to Q4_K_M",
        "verifying conversion",
        "creating new layer",
        "using existing layer",
        "writing manifest",
        "success",
    ]
    progress = [status for status in statuses if status.kind == "quantize"]
    assert {(status.digest, status.total) for status in progress} == {("0" * 19, base.model_path.stat().st_size)}
    assert progress[-1].completed == progress[-1].total
    assert [status.completed for status in progress] == sorted(status.completed for status in progress)
    assert workshop.asked == ["quantize to Q4_K_M"]
    quantized = model(store)
    assert (quantized.config.file_type, quantized.system, quantized.parameters) == ("Q4_K_M", "Be brief.", {"top_k": 3})
    assert quantized.model_path != base.model_path
    assert model(store, "base").config.file_type == "F16"
    assert left(store) == []


@pytest.mark.parametrize(
    ("has", "wanted", "asked"),
    [
        (1, "F16", []),
        (1, "bf16", ["quantize to BF16"]),
        (0, "q8_0", ["quantize to Q8_0"]),
        (3, "q4_1", []),
        (3, "q4_0", ["quantize to Q4_0"]),
        (3, "f16", ["quantize to F16"]),
        (15, "iq4_xs", ["quantize to IQ4_XS"]),
    ],
)
async def test_what_is_quantized_is_only_made_smaller_or_made_float(
    store: Store, service: CreateService, workshop: PlayedWorkshop, tmp_path: Path, has: int, wanted: str, asked: list[str]
) -> None:
    digest = gguf(store, tmp_path, metadata={"general.file_type": has})
    statuses = await made(service, files={"a.gguf": digest}, quantize=wanted)
    assert workshop.asked == asked
    is_again = has not in (0, 1) and bool(asked) and wanted != "f16"
    assert any(status.startswith("warning: ") for status in statuses) == is_again


@pytest.mark.parametrize(("has", "wanted"), [(3, "q8_0"), (2, "q4_1"), (7, "mxfp4_q9"), (99, "q4_0")], ids=str)
async def test_making_a_quantized_model_larger_is_refused(
    store: Store, service: CreateService, tmp_path: Path, has: int, wanted: str
) -> None:
    digest = gguf(store, tmp_path, metadata={"general.file_type": has})
    with pytest.raises(BadRequestError, match=r"^quantization is only supported for F16, BF16 and F32 models$|^unsupported"):
        await made(service, files={"a.gguf": digest}, quantize=wanted)


FAILURES: dict[str, CorralError] = {
    "refused": BadRequestError("cannot quantize to IQ1_S: it needs an imatrix"),
    "killed": EngineError("the process that did it was killed"),
    "full": StoreError("the disk is full"),
}


@pytest.mark.parametrize("error", FAILURES.values(), ids=FAILURES.keys())
async def test_failed_work_leaves_nothing(
    store: Store, service: CreateService, workshop: PlayedWorkshop, base: Model, error: CorralError
) -> None:
    workshop.error = error
    blobs = sorted(path.name for path in (store.root / "blobs").iterdir())
    for request in ({"from_model": "base", "quantize": "q4_0"}, {"files": hugging_face(store)}):
        with pytest.raises(type(error), match=str(error)):
            await made(service, **request)
    assert left(store) == []
    assert [found.name for found in store.list()] == [base.name]
    assert set(blobs) <= {path.name for path in (store.root / "blobs").iterdir()}


async def test_result_that_is_no_model_is_an_error(store: Store, base: Model) -> None:
    class Broken(PlayedWorkshop):
        async def _work(self, target: Path, metadata: Mapping[str, Any]) -> None:
            await asyncio.to_thread(target.write_bytes, b"GGUF")

    with pytest.raises(EngineError, match=r"^what was made is not a model: truncated"):
        await made(CreateService(store, Broken()), from_model="base", quantize="q4_0")
    assert left(store) == []


async def test_full_disk_is_said_before_the_work(store: Store, workshop: PlayedWorkshop, base: Model) -> None:
    service = CreateService(store, workshop, disk=Disk(free_bytes=lambda _path: 1000))
    with pytest.raises(StoreError, match=r"not enough space on the disk .* MB are needed"):
        await made(service, from_model="base", quantize="q4_0")
    assert (workshop.asked, left(store)) == ([], [])


async def test_client_that_leaves_ends_the_work(
    store: Store, service: CreateService, workshop: PlayedWorkshop, base: Model
) -> None:
    workshop.before.clear()
    async with service.create(CreateRequest(model="m", from_model="base", quantize="q4_0")) as statuses:
        async for _ in statuses:
            await workshop.waiting.wait()
            break
    assert left(store) == []
    assert [found.name for found in store.list()] == [base.name]


async def test_closing_the_service_ends_what_is_being_made(
    store: Store, service: CreateService, workshop: PlayedWorkshop, base: Model
) -> None:
    workshop.before.clear()
    async with service.create(CreateRequest(model="m", from_model="base", quantize="q4_0")) as statuses:
        assert (await anext(statuses)).status == "quantizing F16 model to Q4_0"
        await workshop.waiting.wait()
        await service.aclose()
        with pytest.raises(CorralError, match="shutting down"):
            await anext(statuses)
    assert left(store) == []


# settings


async def test_settings_of_the_config_are_set_and_inherited(store: Store, service: CreateService, base: Model) -> None:
    info = {
        "capabilities": ["tools"],
        "model_family": "mine",
        "base_name": "Base",
        "quantization_level": "Q9",
        "parameter_size": "1B",
        "context_length": 4096.0,
        "embedding_length": 8,
        "wings": 2,
    }
    await made(service, from_model="base", renderer="r", parser="p", requires="v0.14.0", info=info)
    await made(service, model="n", from_model="m", parser="q")
    config = model(store, "n").config
    assert (config.renderer, config.parser, config.requires) == ("r", "q", "0.14.0")
    assert (config.capabilities, config.model_family, config.model_families) == (("tools",), "mine", ("mine",))
    assert (config.base_name, config.file_type, config.model_type) == ("Base", "Q9", "1B")
    assert (config.context_length, config.embedding_length) == (4096, 8)
