"""Signing in at a registry: tokens, this machine's key, and where credentials never go."""

import asyncio
import base64
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)

from corral.core.errors import RegistryError
from corral.registry.auth import Challenge
from corral.registry.proxies import ProxyRules
from corral.registry.session import Session
from tests.support.fake_registry import FakeRegistry, Seen, status
from tests.support.pulls import QUICK, Puller

WEIGHTS = bytes(range(256)) * 400
EMPTY = (
    "ZTNiMGM0NDI5OGZjMWMxNDlhZmJmNGM4OTk2ZmI5MjQyN2FlNDFlNDY0OWI5MzRjYTQ5NTk5MWI3ODUyYjg1NQ=="  # base64 of sha256("") in hex
)


@pytest.fixture
async def registry() -> AsyncIterator[FakeRegistry]:
    async with FakeRegistry(token="secret") as fake:
        fake.add(WEIGHTS)
        yield fake


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
async def puller(tmp_path: Path) -> AsyncIterator[Puller]:
    it = Puller(tmp_path / "models", limits=replace(QUICK, stall_s=5.0))
    yield it
    await it.service.aclose()


def key_in(path: Path) -> Ed25519PrivateKey:
    path.parent.mkdir(parents=True)
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return key


def verify(url: str, authorization: str) -> Ed25519PublicKey:
    """The key that signed this request for a token, as a registry checks it. Raises InvalidSignature."""
    public, _, signature = authorization.partition(":")
    key = load_ssh_public_key(f"ssh-ed25519 {public}".encode())
    assert isinstance(key, Ed25519PublicKey)
    key.verify(base64.b64decode(signature), f"GET,{url},{EMPTY}".encode())
    return key


def raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


async def test_a_token_is_asked_for_with_ollamas_key(registry: FakeRegistry, puller: Puller, home: Path) -> None:
    key = key_in(home / ".ollama" / "id_ed25519")
    assert (await puller.pull(registry.name()))[-1].status == "success"
    (url, authorization), *more = registry.signatures
    assert raw(verify(url, authorization)) == raw(key.public_key())
    asked = parse_qs(urlsplit(url).query)
    assert (asked["service"], asked["scope"], len(asked["nonce"][0])) == (["fake"], ["pull"], 22)
    assert asked["ts"][0].isdecimal()
    assert not more
    assert not (home / ".corral" / "id_ed25519").exists()


async def test_a_key_is_made_where_there_is_none(registry: FakeRegistry, puller: Puller, home: Path) -> None:
    await puller.pull(registry.name())
    made = home / ".corral" / "id_ed25519"
    key = load_ssh_private_key(made.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    assert raw(verify(*registry.signatures[0])) == raw(key.public_key())
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert load_ssh_public_key(made.with_name("id_ed25519.pub").read_bytes()) == key.public_key()
    assert sorted(path.name for path in home.joinpath(".corral").glob("*id_*")) == ["id_ed25519", "id_ed25519.pub"]

    registry.token = "another"
    registry.add(WEIGHTS[::-1])
    await puller.pull(registry.name())
    assert raw(verify(*registry.signatures[-1])) == raw(key.public_key())


async def test_no_key_is_made_where_none_is_asked_for(puller: Puller, home: Path) -> None:
    async with FakeRegistry() as registry:
        registry.add(WEIGHTS)
        await puller.pull(registry.name())
    assert not (home / ".corral").exists()


@pytest.mark.parametrize("text", [b"no key at all", b""], ids=["rubbish", "empty"])
async def test_a_key_that_cannot_be_read_leaves_us_anonymous(
    registry: FakeRegistry, puller: Puller, home: Path, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = home / ".ollama" / "id_ed25519"
    path.parent.mkdir(parents=True)
    path.write_bytes(text)
    assert (await puller.pull(registry.name()))[-1].status == "success"
    assert [authorization for _, authorization in registry.signatures] == [""]
    assert "cannot sign in" in caplog.text


async def test_a_token_service_elsewhere_sees_no_signature(registry: FakeRegistry, puller: Puller) -> None:
    async with FakeRegistry(token="secret") as elsewhere:
        registry.token_at = elsewhere.url
        assert (await puller.pull(registry.name()))[-1].status == "success"
        assert [authorization for _, authorization in elsewhere.signatures] == [""]


async def test_a_password_in_the_realm_goes_there_and_nowhere_else(registry: FakeRegistry, puller: Puller) -> None:
    async with FakeRegistry(token="secret") as elsewhere, FakeRegistry(blobs=registry.blobs) as storage:
        registry.token_at = elsewhere.url.replace("http://", "http://me:word@")
        registry.blobs_at = storage.url
        assert (await puller.pull(registry.name()))[-1].status == "success"
        assert [authorization for _, authorization in elsewhere.signatures] == [
            f"Basic {base64.b64encode(b'me:word').decode()}"
        ]
        assert {seen.headers.get("Authorization") for seen in registry.seen} == {None, "Bearer secret"}
        assert {seen.headers.get("Authorization") for seen in storage.seen} == {None}


async def test_a_password_in_the_realm_is_not_shown(registry: FakeRegistry, puller: Puller) -> None:
    registry.token_at = "http://me:word@127.0.0.1:9"
    with pytest.raises(RegistryError) as caught:
        await puller.pull(registry.name())
    assert "127.0.0.1:9/token" in str(caught.value)
    assert "word" not in str(caught.value)


async def test_a_token_that_has_run_out_is_renewed(registry: FakeRegistry, puller: Puller) -> None:
    registry.token_uses = 0
    assert (await puller.pull(registry.name()))[-1].status == "success"
    assert len(registry.signatures) > 2
    assert {seen.headers.get("Authorization") for seen in registry.seen} == {None, "Bearer secret"}


async def test_a_refusal_names_the_key_to_register(registry: FakeRegistry, puller: Puller, home: Path) -> None:
    registry.manifest_faults.extend(
        [status(401, "who are you", WWW_Authenticate=f'Bearer realm="{registry.url}/token",service="fake",scope="pull"')] * 2
    )
    with pytest.raises(RegistryError) as caught:
        await puller.pull(registry.name())
    assert str(caught.value) == (
        f"pull model manifest: unauthorized: access denied (401: who are you); 127.0.0.1:{registry.port} does not let this "
        f"machine's key in: add {home}/.corral/id_ed25519.pub to your account there"
    )


async def test_a_redirect_of_the_token_service_is_not_followed(registry: FakeRegistry, puller: Puller) -> None:
    """It would take the signature, or the password, to another host."""
    seen: list[Seen] = []
    async with FakeRegistry() as thief:
        app = web.Application()

        async def token(_request: web.Request) -> web.StreamResponse:
            return web.Response(status=307, headers={"Location": f"{thief.url}/token"})

        app.router.add_get("/token", token)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        registry.token_at = f"http://me:word@127.0.0.1:{runner.addresses[0][1]}"
        with pytest.raises(RegistryError, match="unauthorized: access denied"):
            await puller.pull(registry.name())
        seen += thief.seen
        assert thief.signatures == []
        await runner.cleanup()
    assert seen == []


async def test_a_realm_without_encryption_needs_insecure(tmp_path: Path) -> None:
    """Over https with a good certificate the registry says `realm="http://…"`: no token is asked for there."""
    session = Session(None, "https://registry.example", insecure=False, proxies=ProxyRules({}), limits=QUICK)  # type: ignore[arg-type]  # nothing may be sent
    with pytest.raises(RegistryError, match="insecure protocol http"):
        await session._sign_in(Challenge("http://registry.example/token"), refused="")


@pytest.mark.parametrize(
    ("realm", "said"),
    [
        pytest.param("http://[", "which is no URL", id="no-url"),
        pytest.param("http://a:99999/token", "which is no URL", id="no-port"),
        pytest.param("file:///etc/passwd", 'unsupported protocol scheme "file"', id="file"),
        pytest.param("/token", 'unsupported protocol scheme ""', id="path"),
        pytest.param("http:///token", "names no host", id="no-host"),
    ],
)
async def test_a_realm_that_leads_nowhere_is_refused(registry: FakeRegistry, puller: Puller, realm: str, said: str) -> None:
    registry.token_at = realm
    with pytest.raises(RegistryError, match="asks to sign in at") as caught:
        await puller.pull(registry.name())
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("url", "is_own"),
    [
        ("https://r.example/v2/", True),
        ("https://R.EXAMPLE:443/x", True),
        ("http://r.example/", False),
        ("https://r.example:444/", False),
        ("https://r.example.evil.example/", False),
        ("https://r.example@evil.example/", False),
        ("https://evil.example\\@r.example/", False),
        ("https://evil.example#@r.example/", False),
        ("https://evil.example?@r.example/", False),
        ("//r.example/", False),
    ],
)
def test_credentials_go_to_the_registrys_own_origin_alone(url: str, is_own: bool) -> None:
    async def check() -> bool:
        session = Session(None, "https://r.example", insecure=False, proxies=ProxyRules({}), limits=QUICK)  # type: ignore[arg-type]  # only asked
        return session.is_own(url)

    assert asyncio.run(check()) == is_own


@pytest.mark.parametrize(
    ("base", "realm", "may"),
    [
        ("https://r.example", "https://r.example/token", True),
        ("https://r.example:5000", "https://r.example:5000/token", True),
        ("https://r.example", "https://auth.r.example/token", False),
        ("https://r.example", "https://me:word@r.example/token", False),
        ("https://r.example", "https://r.example@evil.example/token", False),
        ("https://registry.ollama.ai", "https://ollama.com/token", True),
        ("https://registry.ollama.ai", "http://ollama.com/token", False),
        ("https://registry.ollama.ai", "https://ollama.com.evil.example/token", False),
        ("https://r.example", "https://ollama.com/token", False),
        ("https://huggingface.co", "https://huggingface.co/v2/token", True),
    ],
)
def test_only_the_registrys_own_token_service_sees_a_signature(base: str, realm: str, may: bool) -> None:
    async def check() -> bool:
        session = Session(None, base, insecure=False, proxies=ProxyRules({}), limits=QUICK)  # type: ignore[arg-type]  # only asked
        return session.may_see_signature(realm)

    assert asyncio.run(check()) == may
