"""What grammars save and cost, in the worker, without HTTP. One command:

    .venv/bin/python bench/grammar.py [--model FILE.gguf] [--rounds 5] [--streams 1]

First the tokens a second of answers to a schema with long keys, with what it dictates fed ahead in one step and with a step
for each token: the two take turns on one engine, give the same text, and the printed ratio is the median of the rounds'.
Then what one token of such an answer costs the engine's loop: asking whether a token that was drawn is allowed and going on
from it, and a mask of the whole vocabulary, which is made where it is not.
"""

import argparse
import asyncio
import json
import statistics
import time
from pathlib import Path
from typing import Final

from corral.core.types import Grammar, Job, LoadSpec, Sampling
from corral.engine.llamacpp import LlamaCppEngine
from corral.engine.llamacpp.worker.grammar.grammars import Grammars
from corral.engine.llamacpp.worker.grammar.guide import Guide
from corral.engine.llamacpp.worker.grammar.spelling import Spelling
from corral.engine.llamacpp.worker.native.binding import NativeLog
from corral.engine.llamacpp.worker.words import load_vocabulary
from peers import smollm2_q4_0
from rates import engine

KEYS: Final = (
    "customer_identification_number",
    "shipping_address_is_confirmed",
    "number_of_ordered_articles",
    "payment_has_been_received",
    "expected_days_until_delivery",
    "delivery_requires_signature",
    "customer_wants_to_be_notified",
    "preferred_notification_channel",
)
KINDS: Final = ({"type": "boolean"}, {"type": "integer", "minimum": 0, "maximum": 99}, {"enum": ["email", "phone", "letter"]})
SCHEMA: Final = {
    "type": "object",
    "properties": {key: KINDS[at % len(KINDS)] for at, key in enumerate(KEYS)},
    "required": KEYS,
    "additionalProperties": False,
    "x-guidance": {"whitespace_flexible": False},
}
PROMPT: Final = "<|im_start|>user\nInvent order number {}, as JSON.<|im_end|>\n<|im_start|>assistant\n"
GRAMMAR: Final = Grammar(text=f"start: %json {json.dumps(SCHEMA)}")


async def answer(loaded: LlamaCppEngine, number: int, *, jump: bool) -> tuple[str, float]:
    """The text and its tokens a second, from the first one on."""
    prompt, greedy = PROMPT.format(number), Sampling(temperature=0)
    job = Job(prompt=prompt, num_ctx=loaded.info.n_ctx, sampling=greedy, grammars=(GRAMMAR,), jump=jump, draft=0)
    text = ""
    async with loaded.generate(job) as steps:
        async for step in steps:
            text += step.text
            if finish := step.finish:
                return text, finish.eval_tokens / (finish.eval_ns / 1e9)
    raise AssertionError("the steps ended without a finish")


async def rate(loaded: LlamaCppEngine, streams: int, *, jump: bool) -> tuple[list[str], float]:
    """The texts of so many answers at once, and their tokens a second together."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(answer(loaded, number, jump=jump)) for number in range(streams)]
    results = [task.result() for task in running]
    return [text for text, _ in results], sum(speed for _, speed in results)


async def measure(gguf: Path, rounds: int, streams: int) -> list[str]:
    ratios, fast, same, texts = list[float](), list[float](), 0, list[str]()
    async with engine(gguf, n_parallel=streams) as loaded:
        await rate(loaded, streams, jump=True)
        for _ in range(rounds):
            texts, jumped = await rate(loaded, streams, jump=True)
            walked_texts, walked = await rate(loaded, streams, jump=False)
            ratios.append(jumped / walked)
            fast.append(jumped)
            same += texts == walked_texts
    print(
        f"{streams:2} streams  {statistics.median(fast):7.0f} tok/s with jumps   "
        f"of those without {statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})   "
        f"same text in {same} of {rounds} rounds"
    )
    return texts


def costs(gguf: Path, text: str) -> None:
    """Says this text again under its grammar, by the clock of this thread alone."""
    log = NativeLog(debug=False)
    spelling = Spelling(load_vocabulary(LoadSpec(model_path=str(gguf), n_ctx=512, n_parallel=1, vocab_only=True)))
    grammars = Grammars(spelling)
    began_s = time.perf_counter()
    made = grammars.guide(Job(prompt="", num_ctx=512, grammars=(GRAMMAR,)))
    made.result()
    print(f"vocabulary of {len(spelling.all())} tokens and first grammar: {time.perf_counter() - began_s:.2f} s, once")
    steps_us, masks_us = list[float](), list[float]()
    for _ in range(20):
        guide: Guide = grammars.guide(Job(prompt="", num_ctx=512, grammars=(GRAMMAR,))).result()
        said = b"".join(spelling.of(token) for token, _ in guide.start())
        while not guide.is_over:
            token = spelling.exact(text.encode()[len(said) :])[0]
            began_s = time.thread_time()
            guide.allowed()
            masks_us.append((time.thread_time() - began_s) * 1e6)
            began_s = time.thread_time()
            assert guide.allows(token)
            out = guide.take(token)
            steps_us.append((time.thread_time() - began_s) * 1e6)
            said += b"".join(spelling.of(token) for token, _ in out)
    assert not log.complaints
    for name, values in (("token and what follows from it", steps_us), ("mask", masks_us)):
        print(f"{name}: median {statistics.median(values):.0f} us, worst {max(values):.0f} us")


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--model", type=Path, help="a GGUF; SmolLM2 135M as Q4_0 unless given")
    args.add_argument("--rounds", type=int, default=5)
    args.add_argument("--streams", type=int, default=1)
    given = args.parse_args()
    gguf = given.model or smollm2_q4_0()
    texts = asyncio.run(measure(gguf, given.rounds, given.streams))
    costs(gguf, texts[0])


if __name__ == "__main__":
    main()
