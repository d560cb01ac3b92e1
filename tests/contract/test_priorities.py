"""Who asks, and how urgent it is, in every dialect: what reaches the engine of it, what is told again, and what is refused."""

from collections.abc import Mapping
from typing import Any, Final

import pytest

from tests.contract.conftest import Rig

CHAT, GENERATE, COMPLETIONS = "/api/chat", "/api/generate", "/v1/chat/completions"
TEXTS, RESPONSES, MESSAGES = "/v1/completions", "/v1/responses", "/v1/messages"
TURNS: Final = [{"role": "user", "content": "hi"}]
BODIES: Final[dict[str, dict[str, Any]]] = {
    CHAT: {"model": "hello", "messages": TURNS, "stream": False},
    GENERATE: {"model": "hello", "prompt": "hi", "stream": False},
    COMPLETIONS: {"model": "hello", "messages": TURNS},
    TEXTS: {"model": "hello", "prompt": "hi"},
    RESPONSES: {"model": "hello", "input": "hi"},
    MESSAGES: {"model": "hello", "messages": TURNS, "max_tokens": 20},
}
EMBEDDINGS: Final[dict[str, dict[str, Any]]] = {
    "/api/embed": {"model": "hello", "input": "hi"},
    "/api/embeddings": {"model": "hello", "prompt": "hi"},
    "/v1/embeddings": {"model": "hello", "input": "hi"},
}


async def asked(rig: Rig, path: str, headers: Mapping[str, str] | None = None, **more: Any) -> tuple[str, int, Any]:
    """The client and the priority of the job that the request became, and the answer."""
    reply = await rig.http.post(path, json=BODIES[path] | more, headers=headers)
    assert reply.status_code == 200, reply.text
    job = rig.launcher.engines[-1].jobs[-1]
    return job.client, job.priority, reply.json()


def error_of(path: str, body: Any) -> str:
    if path.startswith("/api/"):
        assert list(body) == ["error"]
        return str(body["error"])
    assert body["error"]["type"] == "invalid_request_error"
    return str(body["error"]["message"])


@pytest.mark.parametrize("path", BODIES)
async def test_priority_reaches_the_engine(rig: Rig, path: str) -> None:
    for given, priority in ((-3, -3), (7, 7), (0, 0), (None, 0)):
        assert (await asked(rig, path, priority=given))[1] == priority
    assert (await asked(rig, path))[:2] == ("127.0.0.1", 0)


@pytest.mark.parametrize("path", [*BODIES, *EMBEDDINGS])
@pytest.mark.parametrize("given", ["high", 1.5, [1], {}, True, 2**31, -(2**40), 10**30], ids=str)
async def test_priority_that_is_none_is_refused(rig: Rig, path: str, given: Any) -> None:
    reply = await rig.http.post(path, json=(BODIES | EMBEDDINGS)[path] | {"priority": given})
    assert reply.status_code == 400, reply.text
    assert "priority" in error_of(path, reply.json()) or not isinstance(given, int) or given == 10**30
    assert rig.launcher.specs == [], "no model is loaded for a request that is refused"


@pytest.mark.parametrize("path", EMBEDDINGS)
async def test_embeddings_take_a_priority(rig: Rig, path: str) -> None:
    reply = await rig.http.post(path, json=EMBEDDINGS[path] | {"priority": 3})
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("header", ["Authorization", "x-api-key", "X-Client-Id"])
async def test_headers_tell_clients_apart(rig: Rig, path: str, header: str) -> None:
    clients = [(await asked(rig, path, {header: value}))[0] for value in ("Bearer one", "Bearer two", "Bearer one")]
    assert clients[0] == clients[2] != clients[1]
    assert "127.0.0.1" not in clients
    assert not any("one" in client for client in clients)


@pytest.mark.parametrize(
    ("path", "name"),
    [(path, name) for path in (COMPLETIONS, TEXTS, RESPONSES) for name in ("user", "safety_identifier", "prompt_cache_key")],
)
async def test_openai_requests_name_their_users(rig: Rig, path: str, name: str) -> None:
    key = {"Authorization": "Bearer all the same"}
    ann, ben, nobody = [(await asked(rig, path, key, **{name: user}))[0] for user in ("ann", "ben", None)]
    assert len({ann, ben, nobody}) == 3
    assert (await asked(rig, path, None, **{name: "ann"}))[0] != ann, "another program's user"
    assert (await asked(rig, path, None, **{name: ""}))[0] == "127.0.0.1"
    wrong = await rig.http.post(path, json=BODIES[path] | {name: 5})
    assert wrong.status_code == 400
    assert name in error_of(path, wrong.json())


async def test_openai_requests_name_the_person_before_the_conversation(rig: Rig) -> None:
    said: dict[str, Any] = {"safety_identifier": "ann", "user": "ben", "prompt_cache_key": "talk 1"}
    first = (await asked(rig, COMPLETIONS, **said))[0]
    assert first == (await asked(rig, COMPLETIONS, **said | {"user": "cid", "prompt_cache_key": "talk 2"}))[0]
    assert first != (await asked(rig, COMPLETIONS, **said | {"safety_identifier": None}))[0]


async def test_anthropic_requests_name_their_users(rig: Rig) -> None:
    ann, ben = [(await asked(rig, MESSAGES, metadata={"user_id": user}))[0] for user in ("ann", "ben")]
    assert len({ann, ben, "127.0.0.1"}) == 3
    for said in (None, {}, {"user_id": None}, {"other": 1}):
        assert (await asked(rig, MESSAGES, metadata=said))[0] == "127.0.0.1"
    wrong = await rig.http.post(MESSAGES, json=BODIES[MESSAGES] | {"metadata": {"user_id": 5}})
    assert wrong.status_code == 400
    assert "user_id" in error_of(MESSAGES, wrong.json())


@pytest.mark.parametrize("path", [COMPLETIONS, TEXTS, RESPONSES])
@pytest.mark.parametrize(
    ("tier", "priority"), [("auto", 0), ("default", 0), ("scale", 0), ("flex", 1), ("priority", -1), (None, 0)], ids=str
)
async def test_service_tier_is_a_priority(rig: Rig, path: str, tier: str | None, priority: int) -> None:
    assert (await asked(rig, path, service_tier=tier))[1] == priority
    assert (await asked(rig, path, service_tier=tier, priority=5))[1] == 5, "a number says more"


@pytest.mark.parametrize(("tier", "told"), [("auto", "default"), ("flex", "flex"), ("priority", "priority")])
async def test_service_tier_is_told_where_it_was_asked_for(rig: Rig, tier: str, told: str) -> None:
    assert (await asked(rig, RESPONSES, service_tier=tier))[2]["service_tier"] == told
    assert (await asked(rig, COMPLETIONS, service_tier=tier))[2]["service_tier"] == told
    reply = await rig.http.post(COMPLETIONS, json=BODIES[COMPLETIONS] | {"service_tier": tier, "stream": True})
    chunks = [line for line in reply.text.splitlines() if line.startswith("data: {")]
    assert all(f'"service_tier":"{told}"' in chunk for chunk in chunks)
    assert "service_tier" not in (await asked(rig, COMPLETIONS))[2]


@pytest.mark.parametrize("path", [COMPLETIONS, TEXTS, RESPONSES])
@pytest.mark.parametrize("tier", ["fast", 5], ids=str)
async def test_service_tier_that_is_none_is_refused(rig: Rig, path: str, tier: Any) -> None:
    reply = await rig.http.post(path, json=BODIES[path] | {"service_tier": tier})
    assert reply.status_code == 400
    assert "service_tier" in error_of(path, reply.json())
