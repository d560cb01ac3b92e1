"""`corral bench` against our own server over a scripted engine, and against ones that stream, lack and break as others do."""

import asyncio
import io
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from corral.cli.bench.dialects import Dialect, OllamaDialect, OpenAIDialect
from corral.cli.bench.figures import figures
from corral.cli.bench.results import results
from corral.cli.bench.rounds import BenchError, Load, Plan, Target, run
from corral.cli.bench.sending import Sender, Sent, Server, http_session
from corral.cli.bench.workloads import KINDS, Ask, Message
from corral.cli.main import main
from corral.engine.fake import Script
from tests.contract.conftest import LiveServer
from tests.support.process import free_port
from tests.support.raw_server import Raw, RawServer, raw_server

CHAT = "/v1/chat/completions"
ASK = Ask((Message("user", "Hi."),), max_tokens=9)


def event(item: object) -> bytes:
    return b"data: " + json.dumps(item).encode() + b"\n\n"


def said(text: str) -> bytes:
    return event({"choices": [{"delta": {"content": text}}]})


STOP = event({"choices": [{"delta": {}, "finish_reason": "stop"}]})
USAGE = event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}})
DONE = b"data: [DONE]\n\n"
HELLO = (said("Hel"), said("lo"), STOP, USAGE, DONE)


@asynccontextmanager
async def sending(url: str, dialect: Dialect | None = None, *, timeout_s: float = 30.0, **more: Any) -> AsyncIterator[Sender]:
    async with http_session() as session:
        yield Sender(session, Server("s", url, "m", dialect or OpenAIDialect(), **more), timeout_s)


async def send(server: RawServer, ask: Ask = ASK, **more: Any) -> Sent:
    async with sending(f"{server.url}/v1", **more) as sender:
        return await sender.send(ask)


@pytest.fixture
async def raw() -> AsyncIterator[RawServer]:
    async with raw_server() as server:
        yield server


def kind_of(sent: Sent) -> str:
    assert sent.sample.failure
    assert sent.text is None
    return sent.sample.failure.kind


async def test_a_stream_is_heard_piece_by_piece(raw: RawServer) -> None:
    raw.answer(CHAT, *HELLO)
    sent = await send(raw)
    one = sent.sample
    assert (sent.text, one.failure, len(one.pieces_ns)) == ("Hello", None, 2)
    assert (one.prompt_tokens, one.output_tokens, one.tokens) == (5, 3, 3)
    assert one.sent_ns < one.pieces_ns[0] <= one.pieces_ns[1] <= one.end_ns


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([b"".join(HELLO)], id="all-at-once"),
        pytest.param([bytes([byte]) for byte in b"".join(HELLO)], id="byte-by-byte"),
        pytest.param([piece.replace(b"data: ", b"data:") for piece in HELLO], id="no-space"),
        pytest.param([piece.replace(b"\n\n", b"\r\n\r\n") for piece in HELLO], id="crlf"),
        pytest.param([piece.replace(b"\n\n", b"\n") for piece in HELLO], id="no-blank-lines"),
        pytest.param([*HELLO[:4]], id="no-done"),
        pytest.param([*HELLO[:2], HELLO[3], HELLO[4].strip()], id="no-finish-reason-and-no-last-newline"),
    ],
)
async def test_streams_are_read_however_they_are_cut_and_spelled(raw: RawServer, pieces: list[bytes]) -> None:
    raw.answer(CHAT, *pieces)
    sent = await send(raw)
    assert (sent.text, sent.sample.failure, sent.sample.output_tokens) == ("Hello", None, 3)


async def test_pieces_stand_for_tokens_where_there_is_no_usage(raw: RawServer) -> None:
    raw.answer(CHAT, said("a"), said("b"), STOP, DONE)
    sent = await send(raw)
    assert (sent.sample.output_tokens, sent.sample.tokens) == (None, 2)


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        pytest.param(Raw([said("Hel")], is_cut=True), "broken off", "closed the connection", id="cut"),
        pytest.param(Raw([said("Hel")]), "broken off", "before it said that it was over", id="no-end"),
        pytest.param(Raw(is_dropped=True), "broken off", "closed the connection", id="dropped"),
        pytest.param(Raw([b'{"error": {"message": "busy"}}'], status=503), "HTTP 503", "busy", id="refused"),
        pytest.param(Raw([b"<h1>no</h1>"], status=502), "HTTP 502", "<h1>no</h1>", id="a-page"),
        pytest.param(Raw(status=302), "HTTP 302", "Said", id="redirected"),
        pytest.param(Raw([said("a"), event({"error": {"message": "OOM"}})]), "error in mid-stream", "OOM", id="error"),
        pytest.param(Raw([b"data: {oops\n\n"]), "not understood", "{oops", id="no-json"),
        pytest.param(Raw([b'{"choices": []}']), "not understood", "no stream of events", id="no-stream"),
    ],
)
async def test_what_goes_wrong_is_counted_by_its_kind(raw: RawServer, answer: Raw, kind: str, text: str) -> None:
    raw.answers[CHAT] = lambda _body: answer
    sent = await send(raw)
    assert kind_of(sent) == kind
    assert sent.sample.failure
    assert text in sent.sample.failure.text
    assert figures([sent.sample], 1.0)["failed"] == 1


async def test_a_server_that_does_not_go_on_is_a_timeout(raw: RawServer) -> None:
    raw.answer(CHAT, said("Hel"), hold=asyncio.Event())
    sent = await send(raw, timeout_s=0.05)
    assert kind_of(sent) == "timeout"


async def test_nobody_there_is_no_connection() -> None:
    async with sending(f"http://127.0.0.1:{free_port()}/v1") as sender:
        sent = await sender.send(ASK)
    assert kind_of(sent) == "no connection"
    assert sent.sample.failure
    assert sent.sample.failure.text == "connection refused"


async def test_a_kept_connection_that_the_server_closed_meanwhile_is_no_failure(raw: RawServer) -> None:
    raw.answer(CHAT, *HELLO)
    async with sending(f"{raw.url}/v1") as sender:
        assert (await sender.send(ASK)).text == "Hello"
        answers = iter([Raw(is_dropped=True), Raw(HELLO)])
        raw.answers[CHAT] = lambda _body: next(answers)
        assert (await sender.send(ASK)).text == "Hello"
        raw.answer(CHAT, is_dropped=True)
        assert kind_of(await sender.send(ASK)) == "broken off"  # a new connection, too


async def test_headers_and_more_fields_go_with_every_request(raw: RawServer) -> None:
    raw.answer(CHAT, *HELLO)
    await send(raw, headers={"Authorization": "Bearer x"}, extra_body={"ignore_eos": True})
    assert "authorization: bearer x" in raw.heads[0].lower()
    assert raw.bodies(CHAT)[0]["ignore_eos"] is True


async def test_answers_that_are_to_be_json_are_looked_at(raw: RawServer) -> None:
    asked = replace(ASK, schema={"type": "object"})
    raw.answer(CHAT, said('{"a"'), said(": 1}"), STOP)
    assert (await send(raw, asked)).sample.is_json is True
    raw.answer(CHAT, *HELLO)
    assert (await send(raw, asked)).sample.is_json is False
    assert (await send(raw)).sample.is_json is None


async def test_vectors_must_be_as_many_as_texts(raw: RawServer) -> None:
    raw.answer("/v1/embeddings", b'{"data": [{}, {}], "usage": {"prompt_tokens": 4}}')
    good = await send(raw, Ask(inputs=("a", "b")))
    assert (good.sample.failure, good.sample.texts, good.sample.prompt_tokens) == (None, 2, 4)
    assert kind_of(await send(raw, Ask(inputs=("a", "b", "c")))) == "not understood"


def a_plan(url: str, workload: str = "chat", **more: Any) -> Plan:
    load = more.pop("load", Load(clients=2))
    shape = replace(KINDS[workload].shape, **more.pop("shape", {}))
    return Plan([Target("s", url, "hello")], [load], workload, shape, seed=1, **more)


async def test_the_dialect_is_found_out(raw: RawServer) -> None:
    raw.answer("/v1/models", b'{"object": "list", "data": []}')
    raw.answer(CHAT, *HELLO)
    done = await run(a_plan(raw.url, requests=4))
    assert isinstance(done.servers[0].dialect, OpenAIDialect)
    assert len(done.measured[0].samples) == 4


@dataclass(frozen=True, slots=True)
class Wrong:
    answers: dict[str, Raw]
    says: str


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(Wrong({}, "speaks neither Ollama's API nor OpenAI's"), id="neither"),
        pytest.param(Wrong({"/api/version": Raw([b"<html>"])}, "speaks neither"), id="a-page"),
        pytest.param(Wrong({"/api/version": Raw(is_dropped=True)}, "does not answer"), id="dropped"),
        pytest.param(
            Wrong({"/v1/models": Raw([b'{"data": []}'])}, "no answer to a first request (HTTP 404: not found)"), id="no-chat"
        ),
    ],
)
async def test_a_server_that_cannot_be_measured_is_named(raw: RawServer, wrong: Wrong) -> None:
    for path, answer in wrong.answers.items():
        raw.answers[path] = lambda _body, answer=answer: answer  # type: ignore[misc]
    with pytest.raises(BenchError, match=re.escape(wrong.says)):
        await run(a_plan(raw.url))


async def test_usage_is_not_asked_for_where_the_server_refuses_to_be_asked(raw: RawServer) -> None:
    refusal = Raw([b'{"error": {"message": "unknown field: stream_options"}}'], status=400)
    raw.answers[CHAT] = lambda body: refusal if "stream_options" in body else Raw([said("a"), STOP])
    found = results(await run(a_plan(f"{raw.url}/v1", requests=2)))
    assert found.cells[0].counts_pieces
    assert (found.cells[0].all["completed"], found.cells[0].all["failed"]) == (2, 0)


async def test_failures_in_the_middle_of_a_run_are_counted_with_the_good_answers(raw: RawServer) -> None:
    count = iter(range(1000))
    raw.answers[CHAT] = lambda _body: Raw(HELLO) if next(count) % 2 == 0 else Raw([b"{}"], status=429)
    found = results(await run(a_plan(f"{raw.url}/v1", requests=6, load=Load(clients=1))))
    cell = found.cells[0]
    assert (cell.all["completed"], cell.all["failed"]) == (3, 3)
    assert cell.failures == [("HTTP 429", 3, "{}")]


async def test_servers_take_turns_and_another_one_begins_each_round(raw: RawServer) -> None:
    raw.answer(CHAT, *HELLO)
    async with raw_server() as other:
        other.answer(CHAT, *HELLO)
        targets = [Target("a", f"{raw.url}/v1", "m"), Target("b", f"{other.url}/v1", "m")]
        done = await run(replace(a_plan(""), targets=targets, loads=[Load(clients=1), Load(clients=2)], rounds=2, requests=2))
    assert [(part.round, str(part.load), part.target) for part in done.measured] == [
        (0, "1 client", "a"), (0, "1 client", "b"), (0, "2 clients", "a"), (0, "2 clients", "b"),
        (1, "1 client", "b"), (1, "1 client", "a"), (1, "2 clients", "b"), (1, "2 clients", "a"),
    ]  # fmt: skip
    ours, theirs = (sorted(json.dumps(body) for body in server.bodies(CHAT)[1:]) for server in (raw, other))
    assert ours == theirs  # both got the same requests


async def test_one_server_under_two_names_gets_texts_of_its_own_for_each(raw: RawServer) -> None:
    raw.answer(CHAT, *HELLO)
    targets = [Target("a", f"{raw.url}/v1", "m"), Target("b", f"{raw.url}/v1", "m")]
    await run(replace(a_plan(""), targets=targets, requests=2))
    prompts = [body["messages"][0]["content"] for body in raw.bodies(CHAT)]
    assert len(set(prompts)) == len(prompts)


async def test_warm_up_requests_are_apart_and_short(raw: RawServer) -> None:
    raw.answer(CHAT, *HELLO)
    done = await run(a_plan(f"{raw.url}/v1", requests=3, warmup=2))
    limits = [body["max_tokens"] for body in raw.bodies(CHAT)]
    assert limits == [8] * 5 + [128] * 3  # one to see whether it answers, two of each client
    assert len(done.measured[0].samples) == 3


async def test_a_common_prompt_is_seen_once_before_or_never(raw: RawServer) -> None:
    raw.answer(CHAT, *HELLO)
    for seen, before in (("once", 1), ("never", 0)):
        raw.asked.clear()
        done = await run(a_plan(f"{raw.url}/v1", "prefix", warmup=0, shape={"seen": seen, "prompt_tokens": (20,)}))
        systems = {body["messages"][0]["content"] for body in raw.bodies(CHAT)}
        assert (len(systems), len(raw.bodies(CHAT)), len(done.measured[0].samples)) == (1, 2 + before, 2)


OUR_LOADS = [
    pytest.param("chat", {}, Load(clients=2), 8, id="chat"),
    pytest.param("prefix", {}, Load(clients=3), 3, id="prefix"),
    pytest.param("turns", {"conversations": 3, "turns": 2}, Load(clients=2), 6, id="turns"),
    pytest.param("edit", {}, Load(clients=1), 4, id="edit"),
    pytest.param("mixed", {}, Load(clients=2), 8, id="mixed"),
    pytest.param("chat", {}, Load(rate=200.0), 32, id="arrivals"),
]


@pytest.mark.parametrize(("workload", "shape", "load", "count"), OUR_LOADS)
async def test_workloads_are_answered_by_our_own_server(
    live_server: LiveServer, workload: str, shape: dict[str, Any], load: Load, count: int
) -> None:
    if workload in ("prefix", "mixed"):
        shape = shape | {"prompt_tokens": (30,)}
    found = results(await run(a_plan(live_server.url, workload, load=load, shape=shape)))
    cell = found.cells[0]
    assert cell.failures == []
    assert cell.all["completed"] == count
    assert cell.all["total_output_tokens"] == 4 * count  # as the engine counts: three words and the end
    assert {"median_ttft_ms", "median_e2el_ms", "output_throughput"} <= set(cell.all)


async def test_a_long_prompt_beside_streams_is_answered_by_our_own_server(live_server: LiveServer) -> None:
    found = results(await run(a_plan(live_server.url, "long", shape={"prompt_tokens": (30,)})))
    assert found.cells[0].failures == []
    assert set(found.cells[0].groups) == {"streams", "long prompt"}
    assert found.cells[0].groups["long prompt"]["completed"] == 1


async def test_turns_send_the_answers_back(live_server: LiveServer) -> None:
    live_server.launcher.scripts.extend(Script(("Yes.",)) for _ in range(20))
    await run(a_plan(live_server.url, "turns", load=Load(clients=1), warmup=0, shape={"conversations": 1, "turns": 3}))
    prompts = [job.prompt for engine in live_server.launcher.engines for job in engine.jobs]
    assert [prompt.count("Yes.") for prompt in prompts] == [0, 1, 2]


async def test_the_endpoint_may_be_generate(live_server: LiveServer) -> None:
    done = await run(a_plan(live_server.url, requests=2, endpoint="generate"))
    assert done.servers[0].dialect == OllamaDialect("generate")
    assert results(done).cells[0].all["completed"] == 2


def test_the_command_prints_a_table_and_writes_its_files(
    live_server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, err = io.StringIO(), io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        files = ["--json", str(tmp_path / "x.json"), "--plot", str(tmp_path / "x.svg")]
        code = main(["bench", "hello", "--url", f"us={live_server.url}", "--clients", "1,2", "--requests", "2", *files])
    assert code == 0, err.getvalue()
    assert "Output token throughput (tok/s)" in out.getvalue()
    assert err.getvalue() == "us: warming up\nround 1/1, 1 client: us\nround 1/1, 2 clients: us\n"
    assert [cell["max_concurrency"] for cell in json.loads((tmp_path / "x.json").read_text())["results"]] == [1, 2]
    assert (tmp_path / "x.svg").read_text().startswith("<?xml")


def test_the_command_fails_where_nothing_was_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = io.StringIO(), io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        url = f"http://127.0.0.1:{free_port()}"
        code = main(["bench", "m", "--url", f"x={url}", "--api", "ollama", "--warmup", "0", "--requests", "2"])
    assert code == 1
    assert "x: 2 failed with no connection: connection refused" in out.getvalue()
    assert err.getvalue().endswith("Error: no request to x had a good answer\n")
