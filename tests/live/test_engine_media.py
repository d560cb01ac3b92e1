"""Images and sounds in a real worker: small projectors with random weights, against what llama.cpp's own tools make of them."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from corral.core.errors import BadRequestError, ContextOverflowError, ModelLoadError
from corral.core.types import Step
from corral.engine.llamacpp import LlamaCppEngine
from tests.support.gguf_files import write_random
from tests.support.gguf_vision import (
    MLP_TOKENS,
    SOUND_TOKENS,
    WIDTH,
    ProjectorKind,
    picture,
    sound,
    write_projector,
    write_seeing,
)
from tests.support.live_engine import ask, job_of, launched

KINDS: tuple[ProjectorKind, ...] = ("mlp", "gemma3", "qwen2vl", "idefics3", "ultravox")
TEXT = " What is there to be seen in what was shown?"


def medium(kind: ProjectorKind, seed: int = 0) -> bytes:
    return sound(0.3, hertz=300.0 + 200 * seed) if kind == "ultravox" else picture(seed, (60, 90))


@pytest.fixture
async def seeing(tmp_path: Path) -> AsyncIterator[LlamaCppEngine]:
    text, projector = write_seeing(tmp_path)
    async with launched(text, projector_paths=(str(projector),)) as engine:
        yield engine


async def first_logprobs(engine: LlamaCppEngine, prompt: str, **more: Any) -> list[float]:
    """Of the likeliest first tokens of an answer."""
    found: list[Step] = []
    async with engine.generate(job_of(prompt, num_predict=1, logprobs=5, **more)) as steps:
        async for step in steps:
            found.append(step)
            if step.finish:
                break
    return [chance.logprob for step in found for logprob in step.logprobs for chance in logprob.top]


def oracle(text: Path, projector: Path, prompt: str, files: dict[str, bytes]) -> dict[str, Any]:
    for name, data in files.items():
        (text.parent / name).write_bytes(data)
    paths = [str(text.parent / name) for name in files]
    command = [sys.executable, "-m", "tests.support.mtmd_oracle", str(text), str(projector), prompt, *paths]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    return found


@pytest.mark.parametrize("num_batch", [512, 7], ids=["at-once", "in-pieces"])
@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_comes_from_what_llama_cpp_computes(tmp_path: Path, kind: ProjectorKind, num_batch: int) -> None:
    text, projector = write_seeing(tmp_path, kind, bos="<s>")
    shown = (medium(kind, 1), medium(kind, 2))
    expected = await asyncio.to_thread(
        oracle, text, projector, f"See <__media__> and <__media__>{TEXT}", {"one": shown[0], "two": shown[1]}
    )
    async with launched(text, projector_paths=(str(projector),), num_batch=num_batch) as engine:
        prompt = f"See [img-0] and [img-1]{TEXT}"
        answer = await ask(engine, prompt, media=shown, num_predict=1)
        found = await first_logprobs(engine, prompt, media=shown)
        others = await first_logprobs(engine, prompt, media=shown[::-1])
    assert answer.finish.prompt_tokens == expected["tokens"]
    assert found == pytest.approx(expected["top"], abs=2e-3)
    assert others != pytest.approx(expected["top"], abs=2e-3)


async def test_another_image_is_another_answer(seeing: LlamaCppEngine) -> None:
    answers = {(await ask(seeing, f"[img-0]{TEXT}", media=(picture(seed),), num_predict=20)).text for seed in range(4)}
    assert len(answers) > 1
    assert (await ask(seeing, f"[img-0]{TEXT}", media=(picture(0),), num_predict=20)).text in answers


@pytest.mark.parametrize("kind", KINDS)
async def test_a_second_turn_neither_encodes_nor_computes_the_image_again(tmp_path: Path, kind: ProjectorKind) -> None:
    text, projector = write_seeing(tmp_path, kind, window=2048)
    async with launched(text, projector_paths=(str(projector),), n_ctx=1024) as engine:
        prompt, shown = f"[img-0]{TEXT}", medium(kind)
        first = await ask(engine, prompt, media=(shown,), num_predict=8, num_ctx=1024)
        encoded = engine.info.media_encoded
        second = await ask(engine, prompt + first.text + " And?", media=(shown,), num_predict=8, num_ctx=1024)
        again = await ask(engine, prompt, media=(shown,), num_predict=8, num_ctx=1024)
        assert engine.info.media_encoded == encoded >= 1
    assert second.finish.cached_tokens >= first.finish.prompt_tokens - 1
    assert again.finish.cached_tokens == first.finish.prompt_tokens - 1
    assert again.text == first.text


@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_reused_answers_as_what_is_computed_anew(tmp_path: Path, kind: ProjectorKind) -> None:
    """A conversation goes on from a part of another one, in a copy, with memory that has grown."""
    text, projector = write_seeing(tmp_path, kind, window=2048)
    shown = (medium(kind, 1), medium(kind, 2))
    long, short = f"{TEXT} [img-0][img-1]{TEXT}", f"{TEXT} [img-0]{TEXT} No."
    settings: dict[str, Any] = {"num_predict": 12, "num_ctx": 1536}
    async with launched(text, projector_paths=(str(projector),), n_ctx=1536) as engine:
        fresh_short = await ask(engine, short, media=shown[:1], **settings)
    async with launched(text, projector_paths=(str(projector),), n_ctx=1536) as engine:
        first = await ask(engine, long, media=shown, **settings)
        reused = await ask(engine, short, media=shown[:1], **settings)
        async with asyncio.TaskGroup() as tasks:
            both = [tasks.create_task(ask(engine, long, media=shown, **settings)) for _ in range(4)]
        encoded = engine.info.media_encoded
        last = await ask(engine, long + " " * 600, media=shown, **settings)
        again = await ask(engine, long, media=shown, **settings)
        assert engine.info.media_encoded == encoded
    assert 0 < reused.finish.cached_tokens < first.finish.prompt_tokens
    assert reused.text == fresh_short.text
    assert {task.result().text for task in both} == {first.text}
    assert last.finish.cached_tokens >= first.finish.prompt_tokens - 1
    assert again.text == first.text


async def test_the_same_image_in_two_answers_at_once_is_encoded_once(seeing: LlamaCppEngine) -> None:
    async with asyncio.TaskGroup() as tasks:
        prompts = (f"[img-0]{TEXT}", f"Look: [img-0]{TEXT}")
        asked = [tasks.create_task(ask(seeing, prompt, media=(picture(5),), num_predict=8)) for prompt in prompts]
    assert all(task.result().text for task in asked)
    assert seeing.info.media_encoded == 1


async def test_texts_go_on_beside_images(seeing: LlamaCppEngine) -> None:
    alone = [(await ask(seeing, f"{number}. {TEXT}", num_predict=40)).text for number in range(3)]
    async with asyncio.TaskGroup() as tasks:
        texts = [tasks.create_task(ask(seeing, f"{number}. {TEXT}", num_predict=40)) for number in range(3)]
        tasks.create_task(ask(seeing, f"[img-0][img-1]{TEXT}", media=(picture(1), picture(2)), num_predict=40))
    assert [task.result().text for task in texts] == alone


async def test_an_image_counts_as_many_tokens_as_it_is(seeing: LlamaCppEngine) -> None:
    bare = await ask(seeing, TEXT, num_predict=1)
    with_image = await ask(seeing, f"[img-0]{TEXT}", media=(picture(),), num_predict=1)
    assert with_image.finish.prompt_tokens == bare.finish.prompt_tokens + MLP_TOKENS


async def test_images_that_do_not_fit_are_refused_with_both_numbers(seeing: LlamaCppEngine) -> None:
    shown = tuple(picture(seed) for seed in range(40))
    prompt = "".join(f"[img-{number}]" for number in range(40)) + "What?"
    with pytest.raises(ContextOverflowError) as caught:
        await ask(seeing, prompt, media=shown)
    assert (caught.value.prompt_tokens, caught.value.num_ctx) == (40 * MLP_TOKENS + 5, 512)
    assert seeing.info.media_encoded == 0
    assert (await ask(seeing, TEXT, num_predict=1)).finish.eval_tokens == 1


async def test_a_full_context_ends_an_answer_about_an_image(seeing: LlamaCppEngine) -> None:
    answer = await ask(seeing, f"[img-0]{TEXT}", media=(picture(),), num_ctx=100, num_predict=300)
    assert (answer.finish.reason, answer.finish.prompt_tokens + answer.finish.eval_tokens) == ("length", 100)


async def test_a_prompt_that_ends_in_an_image_is_answered(seeing: LlamaCppEngine) -> None:
    answer = await ask(seeing, "Look: [img-0]", media=(picture(),), num_predict=3)
    assert answer.finish.eval_tokens == 3
    again = await ask(seeing, "Look: [img-0]", media=(picture(),), num_predict=3)
    assert (again.text, again.finish.cached_tokens) == (answer.text, answer.finish.prompt_tokens - 1)


@pytest.mark.parametrize(
    ("prompt", "media", "reason"),
    [
        pytest.param("[img-0]", (b"no image",), "image 1 cannot be read: it is no JPEG, PNG, GIF, BMP or WebP", id="text"),
        pytest.param("[img-0][img-1]", (picture(), picture()[:90]), "image 2 cannot be read: it is broken", id="cut"),
        pytest.param("[img-0]", (sound(),), "sound 1 cannot be read: this model cannot hear", id="sound"),
        pytest.param("what?", (picture(),), "image 1 has no place in the prompt; put [img-0] where it belongs", id="no-tag"),
        pytest.param("[img-0]", (picture(size=(10_000, 6_000)),), "image 1 cannot be read: it has 10000 x 6000", id="large"),
    ],
)
async def test_what_cannot_be_shown_is_refused(
    seeing: LlamaCppEngine, prompt: str, media: tuple[bytes, ...], reason: str
) -> None:
    with pytest.raises(BadRequestError) as caught:
        await ask(seeing, prompt, media=media)
    assert str(caught.value).startswith(reason)
    assert (await ask(seeing, f"[img-0]{TEXT}", media=(picture(),), num_predict=1)).finish.eval_tokens == 1


@pytest.mark.parametrize("form", ["JPEG", "GIF", "BMP", "WEBP"])
async def test_every_form_of_image_is_shown(seeing: LlamaCppEngine, form: str) -> None:
    answer = await ask(seeing, f"[img-0]{TEXT}", media=(picture(1, form=form),), num_predict=2)
    assert answer.finish.eval_tokens == 2


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (2, 2), (1999, 3)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("kind", KINDS[:4])
async def test_images_of_odd_sizes_are_shown_or_refused(tmp_path: Path, kind: ProjectorKind, size: tuple[int, int]) -> None:
    text, projector = write_seeing(tmp_path, kind)
    async with launched(text, projector_paths=(str(projector),), n_ctx=2048) as engine:
        try:
            answer = await ask(engine, f"[img-0]{TEXT}", media=(picture(size=size),), num_predict=2, num_ctx=2048)
            assert answer.finish.eval_tokens == 2
        except (BadRequestError, ContextOverflowError):
            pass
        assert (await ask(engine, TEXT, num_predict=1)).finish.eval_tokens == 1


async def test_leaving_early_leaves_nothing_behind(seeing: LlamaCppEngine) -> None:
    for count in range(3):
        shown = tuple(picture(10 * count + seed) for seed in range(5))
        prompt = "".join(f"[img-{number}]" for number in range(5)) + TEXT
        async with seeing.generate(job_of(prompt, media=shown)) as steps:
            if count:
                await anext(steps)
    answer = await ask(seeing, f"[img-0]{TEXT}", media=(picture(),), num_predict=5)
    assert answer.finish.eval_tokens == 5


async def test_an_engine_can_be_closed_while_it_encodes(tmp_path: Path) -> None:
    text = write_random(tmp_path / "text.gguf", width=WIDTH)
    projector = write_projector(tmp_path / "mmproj.gguf", layers=8, vit=512, ff=2048, side=448)
    job = job_of(f"[img-0]{TEXT}", media=(picture(),), num_ctx=4608)
    async with launched(text, projector_paths=(str(projector),), n_ctx=4608) as engine, engine.generate(job):
        await engine.tokenize("the job has been taken")
    assert not engine.is_alive


async def test_a_text_model_takes_no_images(tmp_path: Path) -> None:
    async with launched(write_random(tmp_path / "text.gguf")) as engine:
        with pytest.raises(BadRequestError, match="this model has no projector"):
            await ask(engine, f"[img-0]{TEXT}", media=(picture(),))


async def test_a_model_that_hears_takes_sounds_and_no_images(tmp_path: Path) -> None:
    text, projector = write_seeing(tmp_path, "ultravox")
    async with launched(text, projector_paths=(str(projector),)) as engine:
        bare = await ask(engine, TEXT, num_predict=1)
        heard = await ask(engine, f"[img-0]{TEXT}", media=(sound(),), num_predict=1)
        assert heard.finish.prompt_tokens == bare.finish.prompt_tokens + SOUND_TOKENS
        with pytest.raises(BadRequestError, match="it is no WAV, MP3 or FLAC, and this model can only hear"):
            await ask(engine, f"[img-0]{TEXT}", media=(picture(),))


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        pytest.param("other-width", "mismatch between text model", id="of-another-model"),
        pytest.param("text", "cannot load", id="no-projector"),
        pytest.param("missing", "the projector's file is not there", id="not-there"),
        pytest.param("two", "2 projectors and can use one", id="two"),
    ],
)
async def test_a_projector_that_does_not_fit_is_refused(tmp_path: Path, made: str, reason: str) -> None:
    text, projector = write_seeing(tmp_path)
    paths: tuple[Path, ...] = {
        "other-width": (write_projector(tmp_path / "other.gguf", width=32),),
        "text": (text,),
        "missing": (tmp_path / "missing.gguf",),
        "two": (projector, projector),
    }[made]
    with pytest.raises(ModelLoadError, match=reason):
        async with launched(text, projector_paths=tuple(map(str, paths))):
            pass


async def test_large_images_that_come_in_pieces_are_what_they_were(seeing: LlamaCppEngine) -> None:
    large = picture(1, (900, 900), "BMP")  # 2.4 MB
    media = (large, picture(2), large)
    prompt = f"[img-0][img-1][img-2]{TEXT}"
    first = await first_logprobs(seeing, prompt, media=media)
    assert first == pytest.approx(await first_logprobs(seeing, prompt, media=media), abs=1e-3)
    assert (await ask(seeing, prompt, media=media, num_predict=2)).finish.prompt_tokens > 3 * MLP_TOKENS


async def test_a_job_that_is_left_while_its_images_are_sent_leaves_the_worker_free(seeing: LlamaCppEngine) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await ask(seeing, f"[img-0]{TEXT}", media=(picture(1, (900, 900), "BMP"),))
    assert (await ask(seeing, f"[img-0]{TEXT}", media=(picture(2),), num_predict=2)).finish.eval_tokens
