"""Templates that mean harm, as a client can send one with a request: the server says no, in time, and serves the others."""

import asyncio
import time

import pytest

from tests.contract.conftest import Rig

GENERATE = "/api/generate"
ASK = {"model": "hello", "prompt": "hi", "stream": False}
HOSTILE = {
    "go loop": "{{ range 1000000000 }}{{ end }}{{ .Prompt }}",
    "go recursion": '{{ define "t" }}{{ template "t" }}{{ end }}{{ template "t" }}',
    "go doubling": '{{ $x := "aaaaaaaaaa" }}{{ range 1000 }}{{ $x = print $x $x }}{{ end }}',
    "go width": '{{ range 1000000 }}{{ printf "%1000000d" 1 }}{{ end }}',
    "go nesting": "{{ " + "(" * 30_000 + "1" + ")" * 30_000 + " }}",
    "jinja memory": "{% set x = 1 %}{{ 'a' * 10 ** 10 }}",
    "jinja folding": "{% set x = 'a' * 10 ** 9 %}{{ x }}",
    "jinja recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "jinja dunder": "{% set x = ''.__class__.__mro__[1].__subclasses__() %}{{ x[0] }}",
    "jinja nesting": "{% if " + "(" * 50_000,
    "too long": "{% if 1 %}" + "a" * 1_000_000,
}


@pytest.mark.parametrize("template", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_template_is_a_bad_request_and_nothing_more(rig: Rig, template: str) -> None:
    reply = await rig.http.post(GENERATE, json={**ASK, "template": template})
    assert (reply.status_code, list(reply.json())) == (400, ["error"])
    assert "template" in reply.json()["error"]
    assert (await rig.http.post(GENERATE, json=ASK)).json()["response"] == "Hello, world"


async def test_server_answers_others_while_it_renders(rig: Rig) -> None:
    longest_s = 0.0
    async with asyncio.TaskGroup() as tasks:
        hostile = tasks.create_task(rig.http.post(GENERATE, json={**ASK, "template": HOSTILE["go loop"]}))
        while not hostile.done():
            began = time.perf_counter()
            assert (await rig.http.get("/api/version")).status_code == 200
            longest_s = max(longest_s, time.perf_counter() - began)
    assert hostile.result().status_code == 400
    assert longest_s < 0.5  # the rendering takes a second or more


async def test_hostile_template_of_a_model_is_refused_at_each_request(rig: Rig) -> None:
    bad = {"model": "bad", "from": "hello", "template": HOSTILE["go loop"], "stream": False}
    made = await rig.http.post("/api/create", json=bad)
    assert made.status_code == 200
    for path, more in (("/api/chat", {"messages": [{"role": "user", "content": "hi"}]}), (GENERATE, {"prompt": "hi"})):
        reply = await rig.http.post(path, json={"model": "bad", "stream": False, **more})
        assert reply.status_code == 400
        assert "it may loop without end" in reply.json()["error"]
    assert (await rig.http.post("/api/show", json={"model": "bad"})).status_code == 200
