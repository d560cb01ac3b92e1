"""What generate alone does: a suffix, a context, images, and a worker that turns out to be dead."""

from pathlib import Path

import pytest

from corral.core.errors import (
    BadRequestError,
    CapabilityError,
    ContextOverflowError,
    EngineCrashedError,
    EngineLostError,
    ForbiddenError,
)
from corral.core.types import PLACE_APART, Message
from corral.engine.fake import Script
from corral.service.checks import MAX_PROMPT_CHARS
from corral.service.requests import Done, Event, Rendered, Truncation
from corral.store import ModelConfig
from tests.support.inference_bench import BOS, bench, text_of, user
from tests.support.models import make_model

MARKS = ("<PRE>", "<SUF>", "<MID>")
WITH_SUFFIX = "{{ if .Suffix }}[{{ .Prompt }}|{{ .Suffix }}]{{ else }}{{ .System }}{{ .Prompt }}{{ end }}"
NO_INSERT = "registry.ollama.ai/library/m:latest does not support insert"


def done_of(events: list[Event]) -> Done:
    assert isinstance(events[-1], Done)
    return events[-1]


# A suffix


async def test_a_suffix_goes_where_the_template_puts_it_and_nothing_else_does(tmp_path: Path) -> None:
    history = (Message(role="user", content="old"),)
    model = make_model(tmp_path, "m", template=WITH_SUFFIX, system="S", messages=history, infill=MARKS)
    async with bench(model) as b:
        await b.generate("m", "def f(", suffix="return x", system="T")
        await b.generate("m", "hi")
    assert [(job.prompt, job.suffix) for job in b.jobs] == [("[def f(|return x]", ""), ("Sold\n\nhi", "")]


@pytest.mark.parametrize("template", [None, "{{ .Prompt }}!"], ids=["no template", "a template without a place for it"])
@pytest.mark.parametrize("raw", [False, True])
async def test_else_it_goes_to_the_engine_beside_the_prompt(tmp_path: Path, template: str | None, raw: bool) -> None:
    async with bench(make_model(tmp_path, "m", template=template, system="S", infill=MARKS)) as b:
        await b.generate("m", "def f(", suffix="return x", raw=raw)
    assert [(job.prompt, job.suffix) for job in b.jobs] == [("def f(", "return x")]


async def test_a_raw_prompt_is_not_put_into_a_template_for_its_suffix(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m", template=WITH_SUFFIX)) as b:
        with pytest.raises(CapabilityError, match=NO_INSERT):
            await b.generate("m", "def f(", suffix="return x", raw=True)
    assert b.launcher.specs == []


async def test_the_prompt_with_its_marks_is_what_is_shown_and_what_the_context_has(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m", infill=MARKS)) as b:
        shown = await b.generate("m", "a ", suffix=" b", debug_render_only=True)
        done = done_of(await b.generate("m", "a ", suffix=" b"))
    assert shown == [Rendered("<PRE>a <SUF> b<MID>")]
    assert b.launcher.engines[0].tokenized == [("<PRE>a <SUF> b<MID>Hello, world", True)]
    assert done.context


# A context


async def test_a_conversation_goes_on_without_a_second_bos(tmp_path: Path) -> None:
    jinja = "{{ bos_token }}{% for m in messages %}[{{ m.content }}]{% endfor %}"
    adds = make_model(tmp_path, "adds", jinja=jinja, metadata={"tokenizer.ggml.add_bos_token": True})
    adds_not = make_model(tmp_path, "not", jinja=jinja, metadata={"tokenizer.ggml.add_bos_token": False})
    async with bench(adds, adds_not) as b:
        await b.generate("adds", "hi")
        await b.generate("adds", "hi", context=(1, 2))
        await b.generate("not", "hi", context=(1, 2))
    assert b.prompts == ["<s>[hi]", "[hi]", "<s>[hi]"]


@pytest.mark.parametrize(
    ("num_keep", "kept"),
    [(4, (0, 1, 2, 3, *range(179, 300))), (0, tuple(range(175, 300)))],
    ids=["four", "none"],
)
async def test_a_conversation_that_is_too_long_loses_its_middle_and_says_so(
    tmp_path: Path, num_keep: int, kept: tuple[int, ...]
) -> None:
    async with bench(make_model(tmp_path, "m", template="{{ .Prompt }}")) as b:
        options = {"num_ctx": 256, "num_keep": num_keep}
        done = done_of(await b.generate("m", "the new prompt", context=tuple(range(300)), options=options))
    assert (b.jobs[-1].prefix_tokens, b.jobs[-1].prompt) == (kept, "the new prompt")
    assert done.truncation == Truncation(prompt_tokens_total=303)
    assert done.context
    assert done.context[: len(kept)] == kept
    assert done.prompt_tokens == 128


async def test_the_bos_of_a_conversation_stays_besides_what_is_to_be_kept(tmp_path: Path) -> None:
    model = make_model(tmp_path, "m", template="{{ .Prompt }}", metadata={"tokenizer.ggml.add_bos_token": True})
    async with bench(model) as b:
        await b.generate("m", "new", context=tuple(range(300)), options={"num_ctx": 256, "num_keep": 2})
    assert b.jobs[-1].prefix_tokens[:5] == (0, 1, 2, 176, 177)
    assert len(b.jobs[-1].prefix_tokens) == 127


@pytest.mark.parametrize(
    "more",
    [
        {"truncate": False},
        {"options": {"num_ctx": 256, "num_keep": -1}},
        {"options": {"num_ctx": 256, "num_keep": 254}},
        {"prompt": "w " * 256},
    ],
    ids=["not wanted", "all is to be kept", "too much is to be kept", "the prompt alone is too long"],
)
async def test_a_conversation_that_cannot_be_cut_is_refused_with_both_numbers(tmp_path: Path, more: dict[str, object]) -> None:
    async with bench(make_model(tmp_path, "m", template="{{ .Prompt }}")) as b:
        with pytest.raises(ContextOverflowError, match=r"\(\d+ tokens\) exceeds the available context size \(256 tokens\)"):
            await b.generate("m", **{"prompt": "the new", "context": tuple(range(300)), "options": {"num_ctx": 256}} | more)  # type: ignore[arg-type]  # a table of arguments


async def test_the_models_own_history_is_dropped_by_turns(tmp_path: Path) -> None:
    history = (user("w " * 150), Message(role="assistant", content="w " * 150))
    template = "{{ range .Messages }}[{{ .Role }}] {{ .Content }} {{ end }}"
    model = make_model(tmp_path, "m", template=template, system="S", messages=history)
    async with bench(model, scripts=[Script(), Script(("yes",))]) as b:
        events = await b.generate("m", "new", options={"num_ctx": 256})
    assert text_of(events) == "yes"
    assert done_of(events).truncation == Truncation(prompt_tokens_total=306, dropped_messages=2)
    assert b.prompts[-1] == "[system] S [user] new "


# Images


async def test_images_are_numbered_through_in_the_text(tmp_path: Path) -> None:
    template = "{{ range .Messages }}<{{ .Content }}>{{ end }}"
    turns = (
        Message(role="user", content="what is [img]?", images=(b"0",)),
        Message(role="assistant", content="a cat"),
        Message(role="user", content="and these, [img]?", images=(b"1", b"2")),
    )
    async with bench(make_model(tmp_path, "m", template=template, reads_images=True)) as b:
        assert await b.chat("m", *turns, debug_render_only=True) == [
            Rendered("<what is [img-0]?><a cat><[img-2]and these, [img-1]?>", image_count=3)
        ]
        assert await b.generate("m", "look", images=(b"0", b"1"), debug_render_only=True) == [
            Rendered("<[img-0][img-1]look>", image_count=2)
        ]
        assert await b.generate("m", "[img-0] look", images=(b"0",), raw=True, debug_render_only=True) == [
            Rendered("[img-0] look", image_count=1)
        ]
        assert b.launcher.specs == []


async def test_a_text_that_says_what_stands_for_an_image_stays_as_it_is(tmp_path: Path) -> None:
    turn = Message(role="user", content=f"[img] and {PLACE_APART}, again [img]", images=(b"0",))
    template = "{{ range .Messages }}{{ .Content }}{{ end }}"
    async with bench(make_model(tmp_path, "m", template=template, reads_images=True)) as b:
        assert await b.chat("m", turn, debug_render_only=True) == [Rendered("[img] and [img-0], again [img]", image_count=1)]
    async with bench(make_model(tmp_path, "m", template=template), ignores_images=True) as b:
        assert await b.chat("m", turn, debug_render_only=True) == [Rendered("[img] and , again [img]")]


@pytest.mark.parametrize("suffix", ["", "y"])
async def test_a_prompt_that_no_context_holds_is_refused_before_anything_is_loaded(tmp_path: Path, suffix: str) -> None:
    async with bench(make_model(tmp_path, "m", infill=MARKS)) as b:
        with pytest.raises(BadRequestError, match="the prompt has more than 33554432 characters"):
            await b.generate("m", "x" * (MAX_PROMPT_CHARS + 1 - len(suffix)), suffix=suffix, raw=True)
        assert b.launcher.specs == []


async def test_a_choice_that_holds_a_stop_string_is_refused(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m", parameters={"stop": ["<|im_end|>"]})) as b:
        for choice in ("<|im_end|>", "yes<|im_end|>"):
            with pytest.raises(BadRequestError, match=r'choice: ".*" has "<\|im_end\|>" in it, where an answer ends'):
                await b.chat("m", user("hi"), choice=("no", choice))
        await b.chat("m", user("hi"), choice=("no", "<|im_end|>"), options={"stop": ["."]})


async def test_images_that_a_model_cannot_read_are_left_out_where_that_is_set(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m", template="{{ .Prompt }}"), ignores_images=True) as b:
        await b.generate("m", "look", images=(b"0",))
        await b.chat("m", Message(role="user", content="look", images=(b"0",)))
    assert b.prompts == ["look", "look"]


async def test_images_reach_the_engine_in_the_order_of_their_tags(tmp_path: Path) -> None:
    async with bench(
        make_model(tmp_path, "m", template="{{ range .Messages }}{{ .Content }};{{ end }}", reads_images=True)
    ) as b:
        await b.generate("m", "x", images=(b"0", b"1"))
        await b.chat("m", Message(role="user", images=(b"2",)), Message(role="user", content="a [img]", images=(b"3",)))
    assert [job.media for job in b.jobs] == [(b"0", b"1"), (b"2", b"3")]
    assert b.prompts == ["[img-0][img-1]x;", "[img-0]\n\na [img-1];"]


async def test_old_vision_models_take_one_image(tmp_path: Path) -> None:
    config = ModelConfig(model_format="gguf", model_families=("mllama",))
    async with bench(make_model(tmp_path, "m", reads_images=True, config=config)) as b:
        for request in (
            b.generate("m", "x", images=(b"0", b"1")),
            b.chat("m", Message(role="user", content="x", images=(b"0", b"1"))),
        ):
            with pytest.raises(BadRequestError, match="this model only supports one image while more than one image requested"):
                await request


async def test_models_that_make_images_are_refused(tmp_path: Path) -> None:
    config = ModelConfig(model_format="gguf", capabilities=("image",))
    async with bench(make_model(tmp_path, "m", config=config)) as b:
        for request in (b.generate("m", "x"), b.chat("m", user("x"))):
            with pytest.raises(BadRequestError, match="image generation models are not currently supported"):
                await request


@pytest.mark.parametrize(("options", "draft"), [({}, -1), ({"draft_num_predict": 0}, 0), ({"draft_num_predict": 4.9}, 4)])
async def test_draft_num_predict_bounds_what_is_computed_on_a_guess(
    tmp_path: Path, options: dict[str, float], draft: int
) -> None:
    async with bench(make_model(tmp_path, "m")) as b:
        await b.generate("m", "x", options=options)
    assert [job.draft for job in b.jobs] == [draft]


# Models elsewhere


@pytest.mark.parametrize("name", ["gpt-oss:cloud", "gpt-oss:120b-cloud", "gpt-oss:120b-Cloud"])
async def test_models_in_a_cloud_are_refused(tmp_path: Path, name: str) -> None:
    async with bench() as b:
        for request in (b.generate(name, "x"), b.chat(name, user("x"))):
            with pytest.raises(ForbiddenError, match="ollama cloud is disabled: remote model is unavailable"):
                await request


# Shift


@pytest.mark.parametrize(
    ("architecture", "wanted", "given"),
    [("llama", True, True), ("llama", False, False), ("deepseek2", True, False)],
)
async def test_a_full_context_is_shifted_where_the_request_and_the_model_allow(
    tmp_path: Path, architecture: str, wanted: bool, given: bool
) -> None:
    model = make_model(tmp_path, "m", metadata={"general.architecture": architecture})
    async with bench(model) as b:
        await b.generate("m", "x", shift=wanted, options={"num_keep": 9})
    assert [(job.shift, job.num_keep) for job in b.jobs] == [(given, 9)]


# Dead workers


async def test_a_worker_that_was_dead_already_is_replaced_and_the_client_sees_nothing_of_it(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m"), scripts=[Script(is_lost=True), Script(("fine",))]) as b:
        assert text_of(await b.chat("m", user("hi"))) == "fine"
        assert len(b.launcher.engines) == 2
        assert [engine.running for engine in b.launcher.engines] == [0, 0]


async def test_a_second_dead_worker_is_an_error(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m"), scripts=[Script(is_lost=True), Script(is_lost=True), Script(("fine",))]) as b:
        with pytest.raises(EngineLostError, match="model runner has unexpectedly stopped"):
            await b.generate("m", "hi")
        assert text_of(await b.generate("m", "hi")) == "fine"
        assert len(b.launcher.engines) == 3


async def test_a_worker_that_dies_of_the_job_is_not_fed_it_again(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m"), scripts=[Script(crash_after=0), Script(("fine",))]) as b:
        with pytest.raises(EngineCrashedError) as caught:
            await b.generate("m", "hi")
        assert not isinstance(caught.value, EngineLostError)
        assert len(b.launcher.engines) == 1


async def test_a_bos_is_counted_in_the_context_of_a_first_turn(tmp_path: Path) -> None:
    async with bench(make_model(tmp_path, "m", template="{{ .Prompt }}")) as b:
        done = done_of(await b.generate("m", "a b"))
        assert done.context
        await b.generate("m", "c", context=done.context)
    assert done.context[0] == BOS
    assert b.jobs[-1].prefix_tokens == done.context
