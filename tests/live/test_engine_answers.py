"""What a real engine answers, on small models made for it."""

import asyncio
import re
from pathlib import Path

import pytest

from corral.core.errors import BadRequestError, ContextOverflowError, EngineError
from corral.core.types import EngineInfo, Sampling
from corral.engine.llamacpp import LlamaCppEngine, LlamaCppLauncher
from tests.support.gguf_files import write_random, write_scripted
from tests.support.live_engine import ask, job_of, launched, spec_of

SAY = "One model, many askers: each gets an answer of its own, in whole words. Ça va, 🦙? Good."


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scripted(tmp_path_factory.mktemp("gguf") / "scripted.gguf", SAY, bos="<s>")


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Says random words; greedy it does not end within a test."""
    return write_random(tmp_path_factory.mktemp("gguf") / "random.gguf", context=32768)


async def test_engine_says_its_text_and_what_it_cost(scripted: Path) -> None:
    async with launched(scripted) as engine:
        answer = await ask(engine, "hi")
        finish = answer.finish
    assert answer.text == SAY
    assert (finish.reason, finish.prompt_tokens, finish.cached_tokens) == ("stop", 3, 0)
    assert finish.eval_tokens > 20
    assert finish.prompt_ns > 0
    assert finish.eval_ns > 0


async def test_engine_tells_what_it_is(scripted: Path) -> None:
    async with launched(scripted) as engine:
        info = engine.info
    assert isinstance(info, EngineInfo)
    assert (info.n_ctx, info.n_ctx_train, info.n_parallel, info.can_shift) == (512, 4096, 4, True)
    assert info.size_bytes > 1_000_000
    assert info.devices


async def test_sampled_answer_is_the_same_text_where_the_model_is_sure(scripted: Path) -> None:
    async with launched(scripted) as engine:
        answer = await ask(engine, "hi", sampling=Sampling(temperature=0.8, seed=1, top_k=1))
    assert answer.text == SAY


@pytest.mark.parametrize("seed", [0, 2**32 - 1, 2**63 - 1])
async def test_every_seed_repeats_also_the_one_that_llama_cpp_takes_for_none(endless: Path, seed: int) -> None:
    sampling = Sampling(temperature=2.0, seed=seed)
    async with launched(endless) as engine:
        first, again = [await ask(engine, "hello", num_predict=16, sampling=sampling) for _ in range(2)]
    assert again.text == first.text


async def test_sixteen_jobs_at_once_each_get_their_own_answer(tmp_path: Path) -> None:
    """A prompt that ends in a word of the text is gone on with from there: so each job has another answer."""
    words = [f"{number}-" for number in range(10, 42)]
    path = write_scripted(tmp_path / "words.gguf", "".join(words))
    answers = dict[int, str]()

    async def answer(at: int) -> None:
        answers[at] = (await ask(engine, f"ask {at} " * at + words[at - 1])).text

    async with launched(path, n_parallel=16) as engine, asyncio.TaskGroup() as group:
        for at in range(1, 17):
            group.create_task(answer(at))
    assert answers == {at: "".join(words[at:]) for at in range(1, 17)}


async def test_stop_string_ends_the_answer(scripted: Path) -> None:
    async with launched(scripted) as engine:
        answer = await ask(engine, "hi", stop=("answer", "zzz"))
    assert answer.text == SAY[: SAY.index("answer")]
    assert answer.finish.reason == "stop"


@pytest.mark.parametrize(("num_predict", "text"), [(0, ""), (1, "One"), (2, "One mo")])
async def test_num_predict_bounds_the_answer(scripted: Path, num_predict: int, text: str) -> None:
    async with launched(scripted) as engine:
        answer = await ask(engine, "hi", num_predict=num_predict)
    assert answer.text == text
    assert (answer.finish.reason, answer.finish.eval_tokens) == ("length", num_predict)


async def test_characters_split_over_tokens_come_whole(tmp_path: Path) -> None:
    say = "🦙🦙ü🦙é🦙"
    path = write_scripted(tmp_path / "split.gguf", say, split_characters=True)
    steps = list[str]()
    async with launched(path) as engine, engine.generate(job_of("hi")) as running:
        steps = [step.text async for step in running]
    assert "".join(steps) == say
    assert "\ufffd" not in "".join(steps)


async def test_tokenize_parses_special_tokens_and_adds_one_bos(scripted: Path) -> None:
    async with launched(scripted) as engine:
        bare = await engine.tokenize("hi", add_special=False)
        with_bos = await engine.tokenize("hi")
        with_two = await engine.tokenize("<s>hi")
        special = await engine.tokenize("<|im_start|>", add_special=False)
        nothing = await engine.tokenize("", add_special=False)
    assert with_bos == with_two
    assert with_bos[1:] == bare
    assert (len(bare), len(special), nothing) == (2, 1, [])


async def test_prefix_tokens_stand_for_their_text(scripted: Path) -> None:
    async with launched(scripted) as engine:
        prefix = tuple(await engine.tokenize("hello" + SAY[:3]))
        answer = await ask(engine, SAY[3:6], prefix_tokens=prefix)
    assert answer.text == SAY[6:]
    assert answer.finish.prompt_tokens == len(prefix) + 1


async def test_prefix_token_that_the_model_does_not_have_fails_that_job_alone(scripted: Path) -> None:
    async with launched(scripted) as engine, engine.generate(job_of("hi")) as running:
        with pytest.raises(BadRequestError, match="999999"):
            await ask(engine, "x", prefix_tokens=(999_999,))
        text = "".join([step.text async for step in running])
    assert text == SAY


@pytest.mark.parametrize("num_ctx", [64, 512])
async def test_prompt_that_does_not_fit_is_refused_with_both_numbers(scripted: Path, num_ctx: int) -> None:
    async with launched(scripted) as engine:
        with pytest.raises(ContextOverflowError) as caught:
            await ask(engine, "x" * 1000, num_ctx=num_ctx)
        assert (await ask(engine, "hi")).text == SAY
    assert (caught.value.prompt_tokens, caught.value.num_ctx) == (1001, num_ctx)


async def test_full_context_shifts_and_the_answer_goes_on(endless: Path) -> None:
    async with launched(endless) as engine:
        answer = await ask(engine, "hello", num_ctx=32, num_predict=100)
        again = await ask(engine, "hello", num_ctx=32, num_predict=100)
    assert (answer.finish.reason, answer.finish.eval_tokens) == ("length", 100)
    assert again.text == answer.text


async def test_full_context_without_shift_ends_with_length(endless: Path) -> None:
    async with launched(endless) as engine:
        answer = await ask(engine, "hello", num_ctx=32, num_predict=100, shift=False)
    finish = answer.finish
    assert (finish.reason, finish.prompt_tokens + finish.eval_tokens) == ("length", 32)


@pytest.mark.parametrize(
    "sampling",
    [
        pytest.param(Sampling(temperature=0.0, repeat_last_n=-1, repeat_penalty=100.0), id="repeat"),
        pytest.param(Sampling(temperature=0.0, repeat_last_n=-1, presence_penalty=100.0), id="presence"),
        pytest.param(Sampling(temperature=0.0, repeat_last_n=-1, frequency_penalty=100.0), id="frequency"),
    ],
)
async def test_penalty_keeps_the_model_from_repeating_itself(endless: Path, sampling: Sampling) -> None:
    async with launched(endless) as engine:
        free = await words_of(engine, Sampling(temperature=0.0))
        bound = await words_of(engine, sampling)
        unseen = await words_of(engine, Sampling(temperature=0.0, repeat_penalty=100.0, repeat_last_n=0))
    assert len(free) > len(set(free))
    assert len(bound) == len(set(bound))
    assert unseen == free


async def words_of(engine: LlamaCppEngine, sampling: Sampling) -> list[str]:
    """The tokens of a greedy answer that are words."""
    async with engine.generate(job_of("hello", num_predict=60, sampling=sampling)) as running:
        text = "".join([step.text async for step in running])
    return [word for word in re.findall(r"w\d+", text) if len(word) == 4]


async def test_adapter_that_is_missing_is_named(scripted: Path) -> None:
    launcher = LlamaCppLauncher()
    spec = spec_of(scripted, adapter_paths=("/no/such/adapter.gguf",))
    try:
        with pytest.raises(EngineError, match=r"/no/such/adapter\.gguf.*No such file"):
            await launcher.launch(spec, lambda _share: None)
    finally:
        await launcher.aclose()
