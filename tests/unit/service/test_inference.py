"""Chat and generate over a scripted engine: what reaches the engine, what comes back, and what is refused."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corral.core.errors import (
    BadRequestError,
    CapabilityError,
    ContextOverflowError,
    CorralError,
    EngineCrashedError,
    ModelNotFoundError,
)
from corral.core.types import Message
from corral.engine.fake import Script
from corral.service.prompt import Prompt
from corral.service.requests import ChatRequest, Delta, Done, GenerateRequest, Loaded, Rendered, Started, Truncation
from tests.support.inference_bench import BOS, bench, system, text_of, user
from tests.support.models import make_model

WRONG = {"lora": [{"id": 3, "scale": 1}]}
TEMPLATE = "{{ range .Messages }}[{{ .Role }}] {{ .Content }} {{ end }}"


async def test_chat_gives_the_answer_in_pieces_and_then_its_cost(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m", template=TEMPLATE), scripts=[Script(("a", "b"), cached_tokens=1)]) as b:
        *deltas, done = await b.chat("m", user("hi"))
    assert deltas == [Delta(content="a"), Delta(content="b")]
    assert isinstance(done, Done)
    assert (done.reason, done.prompt_tokens, done.cached_tokens, done.eval_tokens) == ("stop", 2, 1, 3)
    assert done.context is None
    assert done.total_ns >= done.load_ns > 0


async def test_the_start_is_told_where_it_is_wanted(tmp_path: Path) -> None:
    script = Script(("a",), cached_tokens=1, stop_text="END")
    async with bench(make_model(tmp_path, "m", template=TEMPLATE), scripts=[script]) as b:
        first, delta, done = await b.chat("m", user("hi"), needs_start=True)
    assert (first, delta) == (Started(prompt_tokens=2, cached_tokens=1), Delta(content="a"))
    assert isinstance(done, Done)
    assert done.stop_text == "END"


async def test_the_start_tells_what_was_left_out(tmp_path: Path) -> None:
    turns = [user("w " * 150), user("w " * 150), user("last")]
    async with bench(make_model(tmp_path, "m", template=TEMPLATE)) as b:
        first, *_ = await b.chat("m", *turns, needs_start=True, options={"num_ctx": 256})
    assert isinstance(first, Started)
    assert first.truncation
    assert first.truncation.dropped_messages > 0


async def test_thinking_that_may_be_skipped_is_no_reason_to_refuse(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m", template=TEMPLATE)) as b:
        *_, done = await b.chat("m", user("hi"), think="high", may_skip_thinking=True)
        assert isinstance(done, Done)
        with pytest.raises(CapabilityError, match="does not support thinking"):
            await b.chat("m", user("hi"), think="high")


async def test_the_models_system_and_history_come_first(tmp_path: Path) -> None:
    model = make_model(tmp_path, "m", template=TEMPLATE, system="S", messages=(Message(role="assistant", content="old"),))
    async with bench(model) as b:
        await b.chat("m", user("hi"))
        await b.chat("m", system("own"), user("hi"))
        await b.generate("m", "hi")
        await b.generate("m", "hi", system="own", context=(1, 2))
    assert b.prompts == [
        "[system] S [assistant] old [user] hi ",
        "[assistant] old [system] own [user] hi ",
        "[system] S [assistant] old [user] hi ",
        "[system] own [user] hi ",
    ]


async def test_model_parameters_hold_where_the_request_is_silent(tmp_path: Path) -> None:
    model = make_model(tmp_path, "m", template=TEMPLATE, parameters={"temperature": 0.3, "stop": ["x"], "num_ctx": 1024})
    async with bench(model) as b:
        await b.chat("m", user("hi"), options={"stop": ["y"], "num_predict": 2})
    job = b.launcher.engines[0].jobs[0]
    assert (job.sampling.temperature, job.stop, job.num_ctx, job.num_predict) == (0.3, ("y",), 1024, 2)


async def test_generate_returns_the_tokens_of_prompt_and_answer_unless_raw(tmp_path: Path) -> None:
    model = make_model(tmp_path, "m", template="{{ .Prompt }}")
    async with bench(model, scripts=[Script((" c", " d")), Script((" c", " d")), Script((" c",))]) as b:
        contexts = [
            event.context
            for options in ({}, {"context": (9, 8)}, {"raw": True})
            for event in await b.generate("m", "a b", **options)
            if isinstance(event, Done)
        ]
    assert contexts == [(BOS, 0, 1, 2, 3), (9, 8, 0, 1, 2, 3), None]


async def test_a_model_without_template_chats_as_chatml_and_generates_from_the_bare_prompt(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m")) as b:
        await b.chat("m", user("hi"))
        await b.generate("m", "hi")
    chat, generate = b.prompts
    assert "<|im_start|>user\nhi<|im_end|>" in chat
    assert generate == "hi"


async def test_nothing_to_answer_loads_and_keep_alive_zero_unloads(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m")) as b:
        assert await b.chat("m") == [Loaded("load")]
        assert [r.model.name.short for r in b.inference.running()] == ["m:latest"]
        assert await b.generate("m", keep_alive_s=0) == [Loaded("unload")]
        assert b.inference.running() == []
        assert await b.chat("m", keep_alive_s=0) == [Loaded("unload")]


async def test_unloading_works_for_models_that_cannot_chat(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m", is_embedding=True)) as b:
        assert await b.chat("m", keep_alive_s=0) == [Loaded("unload")]


async def test_rendering_alone_loads_nothing(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m", template=TEMPLATE)) as b:
        assert await b.chat("m", user("hi"), debug_render_only=True) == [Rendered("[user] hi ")]
        assert b.launcher.specs == []


async def test_a_template_of_the_request_is_used_go_or_jinja(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m", template=TEMPLATE)) as b:
        await b.generate("m", "hi", template="Q: {{ .Prompt }}")
        await b.generate("m", "hi", template="{% for m in messages %}<{{ m.content }}>{% endfor %}")
    assert b.prompts == ["Q: hi", "<hi>"]


async def test_an_over_long_chat_loses_old_turns_and_says_so(tmp_path: Path) -> None:
    words = "w " * 150
    turns = [system("S"), user(words), Message(role="assistant", content=words), user("last")]
    async with bench(make_model(tmp_path, "m", template=TEMPLATE), scripts=[Script(), Script(("yes",))]) as b:
        events = await b.chat("m", *turns, options={"num_ctx": 256})
    done = events[-1]
    assert text_of(events) == "yes"
    assert isinstance(done, Done)
    assert done.truncation == Truncation(prompt_tokens_total=306, dropped_messages=2)
    assert b.prompts[-1] == "[system] S [user] last "


async def test_a_huge_chat_is_rendered_beside_the_event_loop_also_when_it_is_shortened(tmp_path: Path) -> None:
    huge = "w " * 20_000
    turns = [user(huge), Message(role="assistant", content="a"), user("last")]
    model = make_model(tmp_path, "m", template=TEMPLATE)
    where: dict[int, set[str]] = {}
    render = Prompt.render

    def watched(prompt: Prompt, **how: Any) -> str:
        where.setdefault(len(prompt.messages), set()).add(threading.current_thread().name.partition("_")[0])
        return render(prompt, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Prompt, "render", watched)
        async with bench(model, scripts=[Script(), Script(("yes",))]) as b:
            assert text_of(await b.chat("m", *turns, options={"num_ctx": 256})) == "yes"
    assert where == {3: {"corral-render"}, 1: {"MainThread"}}


async def test_an_over_long_chat_is_refused_with_both_numbers_when_it_must_not_be_cut(tmp_path: Path) -> None:
    long = user("w " * 300)
    async with bench(make_model(tmp_path, "m", template=TEMPLATE)) as b:
        for request in (
            b.chat("m", long, user("last"), options={"num_ctx": 256}, truncate=False),
            b.chat("m", long, options={"num_ctx": 256}),
            b.generate("m", long.content, options={"num_ctx": 256}),
        ):
            with pytest.raises(ContextOverflowError) as caught:
                await request
            assert caught.value.num_ctx == 256
            assert caught.value.prompt_tokens > 300


async def test_a_prompt_too_long_to_be_counted_is_not_cut_to_measure(tmp_path: Path) -> None:
    overflow = ContextOverflowError(3_000_000, 256, is_least=True)
    async with bench(make_model(tmp_path, "m", template=TEMPLATE), scripts=[Script((), failure=overflow)]) as b:
        with pytest.raises(ContextOverflowError, match=r"request \(at least 3000000 tokens\) exceeds"):
            await b.chat("m", user("first"), user("last"))
        assert b.launcher.engines[0].tokenized == []


async def test_adapters_reach_the_engine_and_unknown_ones_load_nothing(tmp_path: Path) -> None:
    model = replace(
        make_model(tmp_path, "m", template=TEMPLATE, parameters={"lora": [{"id": 1, "scale": 0.5}]}),
        adapter_paths=(tmp_path / "a", tmp_path / "b"),
    )
    async with bench(model) as b:
        for wrong in (b.chat("m", user("hi"), options={"lora": [{"id": 2, "scale": 1}]}), b.generate("m", "hi", options=WRONG)):
            with pytest.raises(BadRequestError, match=r'option "lora" names adapter [23], and the model has 2'):
                await wrong
        assert not b.launcher.engines
        await b.chat("m", user("hi"))
        await b.generate("m", "hi", options={"lora": [{"id": 0, "scale": 1}]})
        await b.generate("m", "hi", options={"lora": []})
    assert [job.adapters for job in b.jobs] == [((1, 0.5),), ((0, 1.0),), ()]


async def test_a_crash_in_mid_answer_comes_after_what_was_said(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m"), scripts=[Script(("a", "b"), crash_after=1), Script(("fine",))]) as b:
        async with b.inference.chat(ChatRequest(model="m", messages=(user("hi"),))) as events:
            assert await anext(events) == Delta(content="a")
            with pytest.raises(EngineCrashedError, match="unexpected EOF"):
                await anext(events)
        assert text_of(await b.chat("m", user("hi"))) == "fine"


async def test_leaving_frees_the_place(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m")) as b:
        async with b.inference.chat(ChatRequest(model="m", messages=(user("hi"),))) as events:
            await anext(events)
            assert b.launcher.engines[0].running == 1
        assert b.launcher.engines[0].running == 0


IMAGE = Message(role="user", content="x", images=(b"png",))


@pytest.mark.parametrize(
    ("request_", "kind", "text"),
    [
        (ChatRequest(model=""), BadRequestError, "model is required"),
        (GenerateRequest(model=""), ModelNotFoundError, "model '' not found"),
        (ChatRequest(model="nope"), ModelNotFoundError, "model 'nope' not found"),
        (ChatRequest(model="a b"), BadRequestError, "invalid model name"),
        (ChatRequest(model="nope", top_logprobs=21), BadRequestError, "top_logprobs must be between 0 and 20"),
        (ChatRequest(model="e", messages=(user("x"),)), CapabilityError, '"e" does not support chat'),
        (GenerateRequest(model="e", prompt="x"), CapabilityError, '"e" does not support generate'),
        (ChatRequest(model="m", messages=(user("x"),), think=True), CapabilityError, '"m" does not support thinking'),
        (ChatRequest(model="m", messages=(IMAGE,)), CapabilityError, '"m" does not support vision'),
        (
            ChatRequest(model="m", messages=(user("x"),), tools=({},)),
            CapabilityError,
            "registry.ollama.ai/library/m:latest does not support tools",
        ),
        (
            GenerateRequest(model="m", prompt="x", suffix="y"),
            CapabilityError,
            "registry.ollama.ai/library/m:latest does not support insert",
        ),
        (
            GenerateRequest(model="m", prompt="x", raw=True, template="y"),
            BadRequestError,
            "raw mode does not support template, system, or context",
        ),
        (
            ChatRequest(model="m", messages=(user("x"),), options={"temperature": "hot"}),
            BadRequestError,
            'option "temperature" must be of type float32',
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_cannot_be_done_is_said_before_anything_is_loaded(
    tmp_path: Path, request_: ChatRequest | GenerateRequest, kind: type[CorralError], text: str
) -> None:
    models = (make_model(tmp_path, "m", template="{{ .Prompt }}"), make_model(tmp_path, "e", is_embedding=True))
    async with bench(*models) as b:
        use = b.inference.chat(request_) if isinstance(request_, ChatRequest) else b.inference.generate(request_)
        with pytest.raises(kind) as caught:
            async with use:
                pass
        assert text in str(caught.value)
        assert b.launcher.specs == []
