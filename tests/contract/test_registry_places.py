"""Where a model's name leads: Hugging Face's two names, mirrors, proxies."""

import datetime
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from corral.app import Corral
from corral.core.errors import RegistryError
from corral.core.settings import Settings
from corral.engine.fake import FakeLauncher
from corral.registry import Reach
from corral.store import ModelName
from tests.support.fake_registry import FakeRegistry
from tests.support.proxy import TinyProxy
from tests.support.pulls import QUICK, Puller

WEIGHTS = bytes(range(256)) * 400
HF = "hf.co/Some-User/Tiny-1.5B-GGUF"
PATIENT = replace(QUICK, stall_s=5.0)


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry() as fake:
        yield fake


@pytest.mark.parametrize(
    ("name", "insecure", "mirrors", "url"),
    [
        ("llama3", False, {}, "https://registry.ollama.ai"),
        ("hf.co/me/x:Q4_K_M", False, {}, "https://huggingface.co"),
        ("HF.co/me/x", False, {}, "https://huggingface.co"),
        ("huggingface.co/me/x", False, {}, "https://huggingface.co"),
        ("box:5000/me/x", False, {}, "https://box:5000"),
        ("http://box:5000/me/x", False, {}, "https://box:5000"),
        ("http://box:5000/me/x", True, {}, "http://box:5000"),
        ("https://box:5000/me/x", True, {}, "https://box:5000"),
        ("hf.co/me/x", False, {"hf.co": "http://mirror/hf"}, "http://mirror/hf"),
        ("llama3", False, {"hf.co": "http://mirror/hf"}, "https://registry.ollama.ai"),
        ("http://box:5000/me/x", True, {"box:5000": "https://mirror"}, "https://mirror"),
    ],
)
def test_base_url_is_where_the_name_leads(name: str, insecure: bool, mirrors: Mapping[str, str], url: str) -> None:
    reach = Reach(mirrors=mirrors)
    assert reach.base_url(ModelName.parse(name), insecure=insecure) == url


def test_a_push_never_goes_to_a_mirror() -> None:
    reach = Reach(mirrors={"registry.ollama.ai": "http://mirror"})
    assert reach.base_url(ModelName.parse("me/x"), insecure=False, pushes=True) == "https://registry.ollama.ai"


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        (HF, "latest"),
        (f"{HF}:Q4_K_M", "Q4_K_M"),
        (f"{HF}:q4_k_m", "q4_k_m"),
        (f"{HF}:Tiny-1.5B.IQ3_M.gguf", "Tiny-1.5B.IQ3_M.gguf"),
    ],
    ids=["default", "quant", "small-letters", "file"],
)
async def test_hugging_faces_names_are_asked_for_as_typed(
    registry: FakeRegistry, tmp_path: Path, typed: str, asked: str
) -> None:
    """Which file `latest` or a level in small letters is, Hugging Face decides."""
    registry.add(WEIGHTS, path="Some-User/Tiny-1.5B-GGUF", tag=asked)
    puller = Puller(tmp_path / "models", mirrors={"hf.co": registry.url})
    assert (await puller.pull(typed, insecure=False))[-1].status == "success"
    assert registry.seen[0].path == f"/v2/Some-User/Tiny-1.5B-GGUF/manifests/{asked}"
    names = puller.store.root.joinpath("manifests", "hf.co", "Some-User", "Tiny-1.5B-GGUF")
    assert names.joinpath(asked).is_file()
    await puller.service.aclose()


async def test_a_level_in_another_case_is_the_same_model_here(registry: FakeRegistry, tmp_path: Path) -> None:
    puller = Puller(tmp_path / "models", mirrors={"hf.co": registry.url})
    for tag in ("Q4_K_M", "q4_k_m"):
        registry.add(WEIGHTS, path="Some-User/Tiny-1.5B-GGUF", tag=tag)
        await puller.pull(f"{HF}:{tag}", insecure=False)
    assert [name.short for name in puller.store._own.manifests.names()] == [f"{HF}:Q4_K_M"]
    await puller.service.aclose()


async def test_what_hugging_face_says_is_passed_on(registry: FakeRegistry, tmp_path: Path) -> None:
    from tests.support.fake_registry import status

    said = '{"error":"The specified tag is not a valid quantization scheme."}'
    registry.manifest_faults.append(status(400, said))
    puller = Puller(tmp_path / "models", mirrors={"hf.co": registry.url})
    with pytest.raises(RegistryError) as caught:
        await puller.pull(f"{HF}:Q9", insecure=False)
    assert str(caught.value) == f"pull model manifest: 400: {said}"
    await puller.service.aclose()


async def test_a_mirror_below_a_path_is_asked_there(registry: FakeRegistry, tmp_path: Path) -> None:
    puller = Puller(tmp_path / "models", mirrors={"registry.ollama.ai": f"{registry.url}/models"})
    with pytest.raises(RegistryError, match="file does not exist"):
        await puller.pull("tiny", insecure=False)
    assert registry.seen == []  # the fake knows nothing below that path, and was asked nothing else
    await puller.service.aclose()


async def test_a_mirrors_password_goes_to_the_mirror_alone(registry: FakeRegistry, tmp_path: Path) -> None:
    registry.add(WEIGHTS)
    async with FakeRegistry(blobs=registry.blobs) as storage:
        registry.blobs_at = storage.url
        mirror = registry.url.replace("//", "//me:word@")
        puller = Puller(tmp_path / "models", mirrors={"registry.ollama.ai": mirror})
        assert (await puller.pull("tiny", insecure=False))[-1].status == "success"
        assert {seen.headers.get("Authorization") for seen in registry.seen} == {"Basic bWU6d29yZA=="}
        assert {seen.headers.get("Authorization") for seen in storage.seen} == {None}
        with pytest.raises(RegistryError) as caught:
            await puller.pull("nope", insecure=False)
        assert "word" not in str(caught.value)
        await puller.service.aclose()


@pytest.fixture
async def proxied(registry: FakeRegistry) -> AsyncIterator[TinyProxy]:
    async with TinyProxy(registry.port) as proxy:
        yield proxy


async def test_http_goes_through_the_proxy(registry: FakeRegistry, proxied: TinyProxy, tmp_path: Path) -> None:
    registry.add(WEIGHTS)
    puller = Puller(tmp_path / "models", limits=PATIENT, env={"HTTP_PROXY": proxied.url})
    assert (await puller.pull("http://registry.test/library/tiny"))[-1].status == "success"
    assert proxied.asked[0] == "GET http://registry.test/v2/library/tiny/manifests/latest"
    assert len(proxied.asked) == len(registry.seen) > 3
    await puller.service.aclose()


async def test_the_proxys_password_is_for_the_proxy(registry: FakeRegistry, proxied: TinyProxy, tmp_path: Path) -> None:
    registry.add(WEIGHTS)
    url = proxied.url.replace("//", "//me:word@")
    puller = Puller(tmp_path / "models", limits=PATIENT, env={"HTTP_PROXY": url})
    await puller.pull("http://registry.test/library/tiny")
    assert "Proxy-Authorization: Basic bWU6d29yZA==" in proxied.headers
    assert not any("Authorization" in seen.headers for seen in registry.seen)
    await puller.service.aclose()


async def test_no_proxy_is_heeded(registry: FakeRegistry, proxied: TinyProxy, tmp_path: Path) -> None:
    registry.add(WEIGHTS)
    puller = Puller(tmp_path / "models", env={"HTTP_PROXY": proxied.url, "NO_PROXY": "registry.test"})
    with pytest.raises(RegistryError, match=r"dial tcp: lookup registry\.test"):
        await puller.pull("http://registry.test/library/tiny")
    assert (await puller.pull(registry.name()))[-1].status == "success"  # this machine itself is never behind a proxy
    assert proxied.asked == []
    await puller.service.aclose()


async def test_a_proxy_that_is_not_there_is_named(tmp_path: Path) -> None:
    puller = Puller(tmp_path / "models", env={"HTTP_PROXY": "http://me:word@127.0.0.1:9"})
    with pytest.raises(RegistryError) as caught:
        await puller.pull("http://registry.test/library/tiny")
    assert "proxyconnect tcp: dial tcp 127.0.0.1:9: connect: connection refused" in str(caught.value)
    assert "word" not in str(caught.value)
    await puller.service.aclose()


def certificate(folder: Path) -> ssl.SSLContext:
    """A server's context with a certificate that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry.test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + made.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


async def test_https_goes_through_a_tunnel_of_the_proxy(tmp_path: Path) -> None:
    async with FakeRegistry(tls=certificate(tmp_path)) as registry, TinyProxy(registry.port) as proxy:
        registry.add(WEIGHTS)
        puller = Puller(tmp_path / "models", limits=PATIENT, env={"HTTPS_PROXY": proxy.url})
        assert (await puller.pull("https://registry.test/library/tiny"))[-1].status == "success"
        assert set(proxy.asked) == {"CONNECT registry.test:443"}
        await puller.service.aclose()


async def test_a_certificate_that_nobody_vouches_for_needs_insecure(tmp_path: Path) -> None:
    async with FakeRegistry(tls=certificate(tmp_path)) as registry:
        registry.add(WEIGHTS)
        puller = Puller(tmp_path / "models", limits=PATIENT)
        name = registry.name().removeprefix("https://")
        with pytest.raises(RegistryError, match="tls: failed to verify certificate"):
            await puller.pull(name, insecure=False)
        assert registry.seen == []
        assert (await puller.pull(name))[-1].status == "success"
        await puller.service.aclose()


async def test_transfer_streams_and_mirrors_are_settings(tmp_path: Path) -> None:
    env = {"OLLAMA_MAX_TRANSFER_STREAMS": "2", "CORRAL_REGISTRY_MIRROR": "hf.co=http://box", "CORRAL_MODELS": str(tmp_path)}
    corral = Corral(Settings.from_env(env), launcher=FakeLauncher())
    assert (corral.pull._limits.connections, corral.push._limits.connections) == (2, 2)
    assert corral.pull._reach.mirrors == {"hf.co": "http://box"}
    await corral.aclose()
