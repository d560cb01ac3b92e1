"""HEAD and POST /api/blobs: who may name a file by its path, uploads that fail, and the store that a create leaves."""

import asyncio
import hashlib
import json
import os
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.contract.conftest import Rig, Upload
from tests.support.asgi import Call, ask, scope
from tests.support.gguf_files import write_scripted

REFUSED = {"error": "this server does not take that file by its path; upload it"}


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return write_scripted(tmp_path / "ein Modell.gguf", "Hi!")


def digest_of(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


async def offer(rig: Rig, path: Path | str, digest: str, *, peer: str = "127.0.0.1", **headers: str) -> Call:
    """A POST that names a file, from some address."""
    call = Call()
    named = {"x-corral-file": quote(os.fsencode(path)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    asked = scope("POST", f"/api/blobs/{digest}", named.items()) | {"client": (peer, 5000)}
    await rig.corral.asgi(asked, call.receive, call.send)
    return call


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
async def test_file_of_this_machine_is_taken_by_its_path(empty: Rig, gguf: Path, peer: str) -> None:
    digest = digest_of(gguf)
    assert (await offer(empty, gguf, digest, peer=peer)).status == 201
    assert (await offer(empty, gguf, digest, peer=peer)).status == 200
    assert (await empty.http.head(f"/api/blobs/{digest}")).status_code == 200
    made = await empty.http.post("/api/create", json={"model": "m", "files": {"m.gguf": digest}, "stream": False})
    assert made.json() == {"status": "success"}


@pytest.mark.parametrize(
    ("peer", "headers"),
    [
        ("192.168.1.5", {}),
        ("", {}),
        ("unix:", {}),
        ("127.0.0.1", {"x_forwarded_for": "127.0.0.1"}),
        ("127.0.0.1", {"forwarded": "for=127.0.0.1"}),
        ("::1", {"via": "1.1 proxy"}),
    ],
    ids=["another machine", "nobody", "no address", "a proxy", "a newer proxy", "a gateway"],
)
async def test_nobody_from_elsewhere_names_a_path(empty: Rig, gguf: Path, peer: str, headers: dict[str, str]) -> None:
    call = await offer(empty, gguf, digest_of(gguf), peer=peer, **headers)
    assert (call.status, json.loads(call.data)) == (403, REFUSED)
    assert (await empty.http.head(f"/api/blobs/{digest_of(gguf)}")).status_code == 404


async def test_refusal_says_nothing_of_the_file(empty: Rig, gguf: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("1234")
    for path, digest in (
        (secret, digest_of(secret)),
        (tmp_path / "nothing", digest_of(gguf)),
        (gguf, "sha256:" + "0" * 64),
        ("/etc/shadow", "sha256:" + "0" * 64),
        ("../../etc/passwd", "sha256:" + "0" * 64),
        ("/nul\0", "sha256:" + "0" * 64),
    ):
        call = await offer(empty, path, digest)
        assert (call.status, json.loads(call.data)) == (403, REFUSED)
    assert list((tmp_path / "models" / "blobs").iterdir()) == []
    call = await offer(empty, gguf, "sha256:zz")
    assert (call.status, json.loads(call.data)) == (400, {"error": "invalid digest format"})


async def test_upload_that_is_cut_leaves_nothing(empty: Rig, tmp_path: Path) -> None:
    call, blobs = Call(), tmp_path / "models" / "blobs"
    given = 0

    async def receive() -> dict[str, object]:
        nonlocal given
        given += 1
        if given == 1:
            return {"type": "http.request", "body": b"x" * (2 << 20), "more_body": True}
        while not (blobs.exists() and list(blobs.iterdir())):  # noqa: ASYNC110  it is written in a thread, which tells nobody
            await asyncio.sleep(0.001)
        return {"type": "http.disconnect"}

    await empty.corral.asgi(scope("POST", "/api/blobs/sha256:" + "0" * 64), receive, call.send)
    assert call.status == 499
    assert list(blobs.iterdir()) == []


async def test_many_uploads_of_one_file_make_one_blob(empty: Rig, tmp_path: Path, hello_gguf: Upload) -> None:
    async with asyncio.TaskGroup() as tasks:
        uploads = [
            tasks.create_task(
                ask(empty.corral.asgi, path=f"/api/blobs/{hello_gguf.digest}", body=hello_gguf.data), name=f"{at}"
            )
            for at in range(6)
        ]
    assert {upload.result().status for upload in uploads} <= {200, 201}
    (blob,) = (tmp_path / "models" / "blobs").iterdir()
    assert blob.read_bytes() == hello_gguf.data


# The store that comes of it


def blob(data: bytes) -> tuple[str, str, int]:
    """A blob's file name, its digest, its size."""
    hexdigits = hashlib.sha256(data).hexdigest()
    return f"blobs/sha256-{hexdigits}", f"sha256:{hexdigits}", len(data)


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


async def test_store_has_exactly_ollamas_layout(empty: Rig, tmp_path: Path, hello_gguf: Upload) -> None:
    """The tree is built by hand: names, media types, their order and every byte of JSON as a real Ollama writes them."""
    await empty.http.post(f"/api/blobs/{hello_gguf.digest}", content=hello_gguf.data)
    body = {
        "model": "127.0.0.1:5001/me/hello:v1",
        "files": {"hello.gguf": hello_gguf.digest},
        "template": "{{ .System }}|{{ .Prompt }}",
        "system": "You are Mario.",
        "license": "MIT",
        "parameters": {"temperature": 0.2, "stop": ["<a>"]},
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "h&o"}],
        "stream": False,
    }
    made = await empty.http.post("/api/create", json=body)
    assert made.json() == {"status": "success"}, made.text
    parameters = (await empty.http.get("/api/tags")).json()["models"][0]["details"]["parameter_size"]
    config = (
        b'{"model_format":"gguf","model_family":"llama","model_families":["llama"],"model_type":"%s","file_type":"F16",'
        b'"architecture":"amd64","os":"linux"}\n' % parameters.encode()
    )
    layers = [
        ("model", hello_gguf.data),
        ("template", b"{{ .System }}|{{ .Prompt }}"),
        ("system", b"You are Mario."),
        ("license", b"MIT"),
        ("params", b'{"stop":["\\u003ca\\u003e"],"temperature":0.2}\n'),
        ("messages", b'[{"role":"user","content":"hi"},{"role":"assistant","content":"h\\u0026o"}]\n'),
    ]
    described = ",".join(
        f'{{"mediaType":"application/vnd.ollama.image.{kind}","digest":"{blob(data)[1]}","size":{len(data)}}}'
        for kind, data in layers
    )
    manifest = (
        '{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":'
        f'{{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"{blob(config)[1]}","size":{len(config)}}},'
        f'"layers":[{described}]}}'
    )
    expected = {blob(data)[0]: data for _, data in (*layers, ("config", config))}
    expected["manifests/127.0.0.1:5001/me/hello/v1"] = manifest.encode()
    found = tree(tmp_path / "models")
    assert found.pop(".lock") == b""  # ours alone, and nothing that Ollama looks at
    assert found == expected
    (listed,) = (await empty.http.get("/api/tags")).json()["models"]
    assert listed["digest"] == hashlib.sha256(manifest.encode()).hexdigest()
    assert listed["size"] == sum(len(data) for _, data in layers) + len(config)


async def test_copy_is_the_same_manifest_byte_for_byte(rig: Rig, tmp_path: Path) -> None:
    library = tmp_path / "models/manifests/registry.ollama.ai/library"
    path = library / "hello/latest"
    path.write_bytes(path.read_bytes()[:-1] + b',"annotations":{"x": 1}}\n')
    assert (await rig.http.post("/api/copy", json={"source": "HELLO", "destination": "me/New:v1"})).status_code == 200
    copied = tmp_path / "models/manifests/registry.ollama.ai/me/New/v1"
    assert copied.read_bytes() == path.read_bytes()
    digests = {model["digest"] for model in (await rig.http.get("/api/tags")).json()["models"]}
    assert len(digests) == 1
    assert (await rig.http.request("DELETE", "/api/delete", json={"model": "hello"})).status_code == 200
    assert (await rig.http.post("/api/show", json={"model": "ME/new:V1"})).status_code == 200


async def test_copy_over_a_model_removes_what_only_that_one_had(rig: Rig, tmp_path: Path) -> None:
    body = {"model": "other", "from": "hello", "system": "only here", "stream": False}
    assert (await rig.http.post("/api/create", json=body)).json() == {"status": "success"}
    orphan = tmp_path / "models" / blob(b"only here")[0]
    assert orphan.exists()
    assert (await rig.http.post("/api/copy", json={"source": "hello", "destination": "other"})).status_code == 200
    assert not orphan.exists()
    assert (await rig.http.post("/api/show", json={"model": "other"})).status_code == 200


async def test_damaged_model_is_named_in_tags_and_show(rig: Rig, tmp_path: Path) -> None:
    await rig.http.post("/api/copy", json={"source": "hello", "destination": "other"})
    (tmp_path / "models/manifests/registry.ollama.ai/library/other/latest").write_text('{"half')
    listed = (await rig.http.get("/api/tags")).json()
    assert [model["name"] for model in listed["models"]] == ["hello:latest"]
    (damaged,) = listed["damaged"]
    assert damaged["name"] == "other:latest"
    shown = await rig.http.post("/api/show", json={"model": "other"})
    assert (shown.status_code, shown.json()["error"]) == (500, damaged["error"])
    assert "'other:latest' has a damaged manifest" in damaged["error"]


async def test_show_has_renderer_parser_and_requires(rig: Rig) -> None:
    body = {"model": "x", "from": "hello", "requires": "0.14.0", "stream": False}
    assert (await rig.http.post("/api/create", json=body)).json() == {"status": "success"}
    shown = (await rig.http.post("/api/show", json={"model": "x"})).json()
    assert shown["requires"] == "0.14.0"
    assert "REQUIRES 0.14.0\n" in shown["modelfile"]
    assert "renderer" not in shown


@pytest.mark.parametrize(("agent", "named"), [("GitHubCopilotChat/0.26", "HELLO"), ("curl/8", None)])
async def test_copilot_is_told_the_name_that_it_asked_with(rig: Rig, agent: str, named: str | None) -> None:
    shown = await rig.http.post("/api/show", json={"model": "HELLO"}, headers={"User-Agent": agent})
    assert shown.json()["model_info"].get("general.basename") == named


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a\0b", "x" * 10_240, "a/../../b:c"])
async def test_hostile_names_are_refused_everywhere(rig: Rig, tmp_path: Path, name: str) -> None:
    before = tree(tmp_path)
    asked = [
        await rig.http.post("/api/show", json={"model": name}),
        await rig.http.request("DELETE", "/api/delete", json={"model": name}),
        await rig.http.post("/api/copy", json={"source": name, "destination": "x"}),
        await rig.http.post("/api/copy", json={"source": "hello", "destination": name}),
        await rig.http.post("/api/create", json={"model": name, "from": "hello"}),
        await rig.http.post("/api/create", json={"model": "x", "from": name}),
    ]
    assert [reply.status_code for reply in asked] == [400] * 6
    assert all("invalid" in reply.json()["error"] for reply in asked)
    assert tree(tmp_path) == before


async def test_store_is_looked_after_over_http(rig: Rig, tmp_path: Path) -> None:
    use = (await rig.http.get("/admin/store")).json()
    assert (use["root"], use["damaged"], use["leftovers"]) == (str(tmp_path / "models"), [], [])
    assert use["models"][0]["name"] == "hello:latest"
    assert use["used_bytes"] == use["models"][0]["alone_bytes"]
    dead = tmp_path / "models/blobs/.tmp-dead"
    dead.write_bytes(b"x")
    os.utime(dead, (0, 0))
    told = (await rig.http.post("/admin/store/prune", json={"dry_run": True})).json()
    assert [item["path"] for item in told["removed"]] == ["blobs/.tmp-dead"]
    assert dead.exists()
    assert (await rig.http.post("/admin/store/prune", json={})).json()["removed"][0]["path"] == "blobs/.tmp-dead"
    assert not dead.exists()
    assert (await rig.http.post("/admin/store/prune", content=b"")).status_code == 400
