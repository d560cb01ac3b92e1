import errno
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from corral.core.errors import BadRequestError, CorralError, ModelNotFoundError, NotSupportedError, RegistryError, StoreError
from corral.core.types import Message
from corral.service.blobs import BlobService
from corral.service.create import CreateRequest, CreateService
from corral.service.requests import Status
from corral.store import MODEL_LAYER, ModelName, Store
from corral.template import CHATML
from tests.support.gguf_files import write_scripted
from tests.support.stores import add_model
from tests.support.workshop import PlayedWorkshop

CHATML_JINJA = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def service(store: Store) -> CreateService:
    return CreateService(store, PlayedWorkshop())


@pytest.fixture
def base(store: Store, tmp_path: Path) -> ModelName:
    return add_model(store, "base", write_scripted(tmp_path / "base.gguf", "Hi!")).name


def upload(store: Store, path: Path) -> str:
    layer, _ = store.put_blob(path.read_bytes(), MODEL_LAYER)
    return layer.digest


def model(store: Store, name: str) -> Any:
    return store.get(ModelName.parse(name))


async def made(service: CreateService, **request: Any) -> list[str]:
    async with service.create(CreateRequest(**request)) as statuses:
        return [status.status.split(" sha256:")[0] async for status in statuses]


async def test_create_from_a_file_makes_a_model_of_it(store: Store, service: CreateService, tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "a.gguf", "Hi!")
    request = {"model": "m", "files": {"a.gguf": upload(store, path)}}
    assert await made(service, **request) == [
        "parsing GGUF",
        "verifying conversion",
        "creating new layer",
        "writing manifest",
        "success",
    ]
    created = model(store, "m")
    assert (created.template, created.parameters, created.parent) == (None, {}, "")
    assert (created.config.model_format, created.config.model_family, created.config.file_type) == ("gguf", "llama", "F16")
    assert created.config.model_type == created.gguf.parameter_size
    config = store.blob_path(store.manifest(created.name).manifest.config.digest)
    assert config
    assert config.read_text() == (
        '{"model_format":"gguf","model_family":"llama","model_families":["llama"],'
        f'"model_type":"{created.gguf.parameter_size}","file_type":"F16","architecture":"amd64","os":"linux"}}\n'
    )
    assert (await made(service, **request | {"model": "n"}))[2] == "using existing layer"


async def test_known_template_becomes_a_go_layer_with_its_stops(store: Store, service: CreateService, tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "a.gguf", "Hi!", jinja=CHATML_JINJA)
    assert await made(service, model="m", files={"a": upload(store, path)}) == [
        "parsing GGUF",
        "verifying conversion",
        "creating new layer",
        "using autodetected template chatml",
        "creating new layer",
        "writing manifest",
        "success",
    ]
    created = model(store, "m")
    assert (created.template, created.parameters) == (CHATML, {"stop": ["<|im_start|>", "<|im_end|>"]})


async def test_request_wins_over_the_detected_template(store: Store, service: CreateService, tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "a.gguf", "Hi!", jinja=CHATML_JINJA)
    await made(service, model="m", files={"a": upload(store, path)}, template="{{ .Prompt }}", parameters={"seed": 1})
    created = model(store, "m")
    assert created.template == "{{ .Prompt }}"
    assert created.parameters == {"seed": 1, "stop": ["<|im_start|>", "<|im_end|>"]}


async def test_create_from_a_model_changes_what_is_asked_for(store: Store, service: CreateService, base: ModelName) -> None:
    messages = (Message(role="user", content="hi"), Message(role="assistant", content="it's me"))
    assert await made(
        service,
        model="mario",
        from_model="BASE",
        system="You are Mario.",
        template="{{ .System }}|{{ .Prompt }}|",
        parameters={"temperature": 0.5, "num_ctx": 1024, "stop": ["a", "b"], "wings": 2, "seed": None},
        licenses=("MIT", "Apache"),
        messages=messages,
    ) == ["using existing layer", *["creating new layer"] * 6, "writing manifest", "success"]
    mario = model(store, "mario")
    assert (mario.system, mario.template) == ("You are Mario.", "{{ .System }}|{{ .Prompt }}|")
    assert (mario.licenses, mario.messages, mario.parent) == (("MIT", "Apache"), messages, "base:latest")
    assert mario.parameters == {"num_ctx": 1024, "stop": ["a", "b"], "temperature": 0.5, "wings": 2}

    await made(service, model="luigi", from_model="mario", system="", parameters={"temperature": 0.7}, licenses=("BSD",))
    luigi = model(store, "luigi")
    assert (luigi.system, luigi.template, luigi.messages) == (mario.system, mario.template, messages)
    assert (luigi.licenses, luigi.parent) == (("MIT", "Apache", "BSD"), "mario:latest")
    assert luigi.parameters == mario.parameters | {"temperature": 0.7}
    assert luigi.model_path == store.get(base).model_path


async def test_overwritten_model_leaves_no_layers_behind(store: Store, service: CreateService, base: ModelName) -> None:
    await made(service, model="m", from_model="base", system="one")
    before = len(list((store.root / "blobs").iterdir()))
    assert (await made(service, model="M", from_model="m", system="two"))[-1] == "success"
    assert len(list((store.root / "blobs").iterdir())) == before
    assert model(store, "m").system == "two"
    await made(CreateService(store, PlayedWorkshop(), noprune=True), model="m", from_model="m", system="three")
    assert len(list((store.root / "blobs").iterdir())) == before + 1
    assert store.get(base).system == ""


async def test_model_of_a_store_that_is_only_read_can_be_built_on(tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    add_model(other, "base", write_scripted(tmp_path / "base.gguf", "Hi!"), system="theirs")
    store = Store(tmp_path / "own", [other.root])
    await made(CreateService(store, PlayedWorkshop()), model="m", from_model="base", system="ours")
    assert [path.name for path in (other.root / "manifests/registry.ollama.ai/library").iterdir()] == ["base"]
    other.delete(ModelName.parse("base"))
    assert model(store, "m").system == "ours"


class Pull:
    """A pull that puts the model into the store, or fails."""

    def __init__(self, fetch: Callable[[], object]) -> None:
        self._fetch = fetch
        self.asked: list[str] = []

    @asynccontextmanager
    async def pull(self, name_text: str, *, insecure: bool = False) -> AsyncIterator[AsyncIterator[Status]]:
        self.asked.append(name_text)
        yield self._statuses()

    async def _statuses(self) -> AsyncIterator[Status]:
        yield Status(status="pulling manifest")
        self._fetch()
        yield Status(status="success")


async def test_missing_base_is_pulled(store: Store, tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "base.gguf", "Hi!")
    pull = Pull(lambda: add_model(store, "far", path))
    statuses = await made(CreateService(store, PlayedWorkshop(), pull=pull), model="m", from_model="far", system="s")
    assert statuses == ["pulling manifest", "using existing layer", "creating new layer", "writing manifest", "success"]
    assert pull.asked == ["far"]


async def test_base_that_cannot_be_had_is_an_error_and_leaves_no_model(store: Store, service: CreateService) -> None:
    def fail() -> None:
        raise RegistryError("pull model manifest: file does not exist")

    with pytest.raises(RegistryError, match="does not exist"):
        await made(CreateService(store, PlayedWorkshop(), pull=Pull(fail)), model="m", from_model="far")
    with pytest.raises(ModelNotFoundError, match="'far:latest'"):
        await made(service, model="m", from_model="far")
    assert store.list() == []


UNKNOWN = "sha256:" + "1" * 64
BAD: list[tuple[str, Mapping[str, Any], type[CorralError], str]] = [
    ("nothing", {}, BadRequestError, "^neither 'from' or 'files' was specified$"),
    ("no name", {"model": ""}, BadRequestError, "^invalid model name$"),
    ("bad name", {"model": "a b", "from_model": "base"}, BadRequestError, "^invalid model name$"),
    ("bad base name", {"from_model": "a b"}, BadRequestError, "^invalid model name$"),
    ("no files", {"files": {}}, BadRequestError, "^unknown type$"),
    ("absolute path", {"files": {"/a.gguf": UNKNOWN}}, BadRequestError, "^file path must be relative$"),
    ("path upwards", {"files": {"../a.gguf": UNKNOWN}}, BadRequestError, "^file path must be relative$"),
    ("hidden path upwards", {"files": {"a/../../b.gguf": UNKNOWN}}, BadRequestError, "^file path must be relative$"),
    ("adapter path", {"from_model": "base", "adapters": {"/a": UNKNOWN}}, BadRequestError, "^file path must be relative$"),
    ("bad digest", {"files": {"a.gguf": "sha256:1"}}, BadRequestError, "^invalid digest format$"),
    ("missing blob", {"files": {"a.gguf": UNKNOWN}}, BadRequestError, f'blob "{UNKNOWN}" not found'),
    ("missing safetensors", {"files": {"a.safetensors": UNKNOWN}}, BadRequestError, f'blob "{UNKNOWN}" not found'),
    (
        "template",
        {"from_model": "base", "template": "{{ .Nope"},
        BadRequestError,
        "^template error: template: :1: unclosed action$",
    ),
    (
        "parameter",
        {"from_model": "base", "parameters": {"temperature": "hot"}},
        BadRequestError,
        '^option "temperature" must be of type float32$',
    ),
    (
        "role",
        {"from_model": "base", "messages": (Message(role="bird", content="x"),)},
        BadRequestError,
        '^message role must be one of "system", "user", or "assistant"$',
    ),
    ("adapters", {"from_model": "base", "adapters": {"a": UNKNOWN}}, BadRequestError, f'blob "{UNKNOWN}" not found'),
    ("no adapters", {"from_model": "base", "adapters": {}}, BadRequestError, "^unknown type$"),
    ("NUL in a path", {"files": {"a\0.gguf": UNKNOWN}}, BadRequestError, "^file path must be relative$"),
    ("long path", {"files": {"a" * 10_000: UNKNOWN}}, BadRequestError, "^file path must be relative$"),
    ("empty path", {"files": {"": UNKNOWN}}, BadRequestError, "^file path must be relative$"),
    ("draft path", {"from_model": "base", "draft_files": {"../a": UNKNOWN}}, BadRequestError, "^file path must be relative$"),
    ("many files", {"files": {str(i): UNKNOWN for i in range(1025)}}, BadRequestError, "^too many files: 1025 exceeds "),
    ("requires", {"from_model": "base", "requires": "soon"}, BadRequestError, "^requires must be a valid semver "),
    ("info", {"from_model": "base", "info": {"base_name": 1}}, BadRequestError, '^info field "base_name" must be a string$'),
    ("quantize to what", {"from_model": "base", "quantize": "q99"}, BadRequestError, "^unsupported quantization type Q99 - "),
    ("quantize by a matrix", {"from_model": "base", "quantize": "q2_K_S"}, BadRequestError, "^cannot quantize to Q2_K_S: "),
    ("bad remote", {"from_model": "base", "remote_host": "http://"}, BadRequestError, "^bad remote$"),
    ("remote", {"from_model": "base", "remote_host": "other:11434"}, NotSupportedError, "^remote_host: .* other "),
    ("draft quantize", {"from_model": "base", "draft_quantize": "q4_0"}, BadRequestError, "^--draft-quantize requires a DRAFT"),
    (
        "remote draft",
        {"from_model": "base", "remote_host": "other", "draft_files": {"a": UNKNOWN}},
        BadRequestError,
        "^DRAFT cannot be used with remote models$",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "error", "text"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
async def test_bad_request_is_refused_before_the_first_status(
    store: Store, service: CreateService, base: ModelName, request_: Mapping[str, Any], error: type[CorralError], text: str
) -> None:
    before = sorted(path.name for path in (store.root / "blobs").iterdir())
    with pytest.raises(error, match=text):
        async with service.create(CreateRequest(**{"model": "x", **request_})):
            pytest.fail("a stream has begun")
    assert [found.name for found in store.list()] == [base]
    assert sorted(path.name for path in (store.root / "blobs").iterdir()) == before


def test_name_and_paths_are_refused_before_anything_is_awaited(service: CreateService) -> None:
    for request in (CreateRequest(model=""), CreateRequest(model="x", files={"/a": UNKNOWN})):
        with pytest.raises(BadRequestError):
            service.create(request)


async def test_quantized_model_is_not_quantized_again(store: Store, service: CreateService, tmp_path: Path) -> None:
    path = write_scripted(tmp_path / "q.gguf", "Hi!", metadata={"general.file_type": 3})
    add_model(store, "q4", path)
    for source in ({"from_model": "q4"}, {"files": {"a.gguf": upload(store, path)}}):
        with pytest.raises(BadRequestError, match=r"^quantization is only supported for F16, BF16 and F32 models$"):
            await made(service, model="x", quantize="q8_0", **source)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"GGUF", b"GGUF\x03\x00\x00\x00"], ids=["empty", "text", "magic", "version"]
)
async def test_file_that_is_no_gguf_is_refused_by_its_name(store: Store, service: CreateService, content: bytes) -> None:
    digest = store.put_blob(content, MODEL_LAYER)[0].digest
    with pytest.raises(BadRequestError, match=r"^dir/a\.gguf: .*GGUF|^supplied file was not in GGUF format$"):
        await made(service, model="x", files={"dir/a.gguf": digest})
    assert store.list() == []


async def test_file_without_a_known_ending_is_known_by_its_beginning(
    store: Store, service: CreateService, tmp_path: Path
) -> None:
    digest = upload(store, write_scripted(tmp_path / "a.gguf", "Hi!"))
    other = store.put_blob(b"text", MODEL_LAYER)[0].digest
    assert (await made(service, model="x", files={"weights": digest}))[-1] == "success"
    with pytest.raises(BadRequestError, match=r"^unknown type$"):
        await made(service, model="y", files={"weights": other})
    with pytest.raises(BadRequestError, match=r"^supplied file was not in GGUF format$"):
        await made(service, model="y", files={"weights": digest, "more": other})


async def test_full_disk_leaves_the_old_model(
    store: Store, service: CreateService, base: ModelName, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(service, model="m", from_model="base", system="one")

    def full(_fd: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match="No space left"):
        await made(service, model="m", from_model="base", system="two")
    monkeypatch.undo()
    assert model(store, "m").system == "one"
    assert not [path for path in (store.root / "blobs").iterdir() if path.name.startswith(".")]


async def chunks(*data: bytes) -> AsyncIterator[bytes]:
    for chunk in data:
        yield chunk


async def test_upload_is_kept_under_its_digest(store: Store, tmp_path: Path) -> None:
    service, path = BlobService(store), write_scripted(tmp_path / "a.gguf", "Hi!")
    data = path.read_bytes()
    digest = upload(Store(tmp_path / "elsewhere"), path)
    assert not await service.has(digest)
    assert await service.put(digest, chunks(data[:70_000], data[70_000:]))
    assert await service.has(digest.replace(":", "-"))
    assert not await service.put(digest, chunks(b"not looked at"))


async def test_upload_that_breaks_off_leaves_nothing(store: Store) -> None:
    service = BlobService(store)

    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * (2 << 20)
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        await service.put(UNKNOWN, broken())
    with pytest.raises(BadRequestError, match=r"^digest mismatch, expected"):
        await service.put(UNKNOWN, chunks(b"x"))
    with pytest.raises(BadRequestError, match=r"^invalid digest format$"):
        await service.put("sha256:zz", chunks(b"x"))
    assert list((store.root / "blobs").iterdir()) == []
