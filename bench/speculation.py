"""What drafts from the text itself save and cost, in the worker, without HTTP. One command:

    .venv/bin/python bench/speculation.py [--model FILE.gguf] [--rounds 5] [--streams 1] [--temperature 0]

Four kinds of work: a text copied, a list copied with a name changed, JSON about a list, and free text. For each the tokens a
second of the same answers with drafts and without: the two take turns on one engine, and the printed ratio is the median of
the rounds'. `--curve` prints what a step takes by its number of tokens instead, which is what decides.

At temperature 0 both say the same, as far as llama.cpp's kernels give a token the same logits whatever is computed beside
it; how many answers were the same is printed.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corral.cli.bench.texts import inventory, question
from corral.core.types import Finish, Grammar, Job, Sampling
from corral.engine.llamacpp import LlamaCppEngine
from peers import smollm2_q4_0
from rates import engine

CONTEXT: Final = 2048
TOKENS: Final = 200
LIST_TOKENS: Final = 200
_ITEM: Final = {
    "thing": {"type": "string"},
    "place": {"type": "string"},
    "owner": {"type": "string"},
    "euros": {"type": "integer"},
}
SCHEMA: Final = {
    "type": "array",
    "minItems": 4,
    "maxItems": 6,
    "items": {"type": "object", "properties": _ITEM, "required": list(_ITEM), "additionalProperties": False},
}
GRAMMAR: Final = Grammar(text=f"start: %json {json.dumps(SCHEMA)}", is_json=True)
PROSE: Final = (
    "The library keeps its oldest maps in a cool room under the stairs. Visitors may ask for one of them in the morning, and a "
    "keeper brings it in a flat wooden box. Pens are not allowed at the tables, only pencils, and bags stay in the lockers by "
    "the door. Whoever wants a copy fills in a yellow form, pays at the desk, and comes back on the third day. The room closes "
    "at noon on Fridays, and all of August, when the shelves are counted and the boxes are cleaned.",
    "To repair the pump, first close the blue valve and let the water run out. Take off the screws of the lid and lay them "
    "in a bowl, for they are of two lengths. Lift the wheel by both hands, clean the ring below it with a cloth, and look "
    "for cracks. If there are none, put a little grease on the ring and set the wheel back as it was. Close the lid, open the "
    "valve slowly, and listen: a pump in good order makes hardly any noise.",
    "Our train left the coast before sunrise and followed the river for most of the day. There were barges on it, low in the "
    "water, and behind them boats with red sails. At every station somebody sold bread, cheese and pears through the "
    "windows. Towards evening the hills came closer, the tunnels began, and the lamps were lit. When we arrived it was night, "
    "and snow lay on the roof of the station, though it was only October.",
)
WORKS: Final = ("copy", "edit", "json", "free")


def _chat(text: str, begun: str = "") -> str:
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n{begun}"


def asked(work: str, number: int) -> tuple[str, tuple[Grammar, ...]]:
    """The prompt of that number, and what binds its answer. Copies are begun, for a small model does not keep to the task."""
    draw = random.Random(f"{work}/{number}")
    text, old, new = inventory(draw, LIST_TOKENS)
    first = text.partition("\n")[0]
    match work:
        case "copy":
            prose = PROSE[number % len(PROSE)]
            begun = " ".join(prose.split()[:8])
            return _chat(f"Repeat this text word for word, text number {number}:\n\n{prose}", begun), ()
        case "edit":
            task = f"Repeat this list line by line, but write {new} in place of {old}. Answer with the list alone."
            return _chat(f"{task}\n\n{text}", f"{first.replace(old, new)}\n"), ()
        case "json":
            return _chat(f"Turn this list into JSON.\n\n{text}"), (GRAMMAR,)
        case _:
            return _chat(question(draw)), ()


@dataclass(slots=True)
class Tally:
    """What the rounds of one kind of work have brought."""

    ratios: list[float]
    rates: list[float]
    same: int = 0
    drafted: int = 0
    confirmed: int = 0
    tokens: int = 0

    def line(self, work: str) -> str:
        share = self.confirmed / max(1, self.tokens)
        right = self.confirmed / max(1, self.drafted)
        return (
            f"{work:5}  {statistics.median(self.rates):6.0f} tok/s with drafts   of those without "
            f"{statistics.median(self.ratios):.2f}  ({min(self.ratios):.2f} to {max(self.ratios):.2f})   "
            f"{share:4.0%} of the tokens from drafts, of which {right:4.0%} were right   "
            f"same text in {self.same} of {len(self.ratios)} rounds"
        )


async def answer(loaded: LlamaCppEngine, work: str, number: int, temperature: float, draft: int) -> tuple[str, Finish]:
    prompt, grammars = asked(work, number)
    sampling = Sampling(temperature=temperature, seed=number)
    job = Job(
        prompt=prompt, num_ctx=CONTEXT, sampling=sampling, grammars=grammars, num_predict=TOKENS, draft=draft, stop=("\n\n\n",)
    )
    text = ""
    async with loaded.generate(job) as steps:
        async for step in steps:
            text += step.text
            if step.finish:
                return text, step.finish
    raise AssertionError("the steps ended without a finish")


async def rate(
    loaded: LlamaCppEngine, work: str, first: int, streams: int, temperature: float, draft: int
) -> tuple[float, list[tuple[str, Finish]]]:
    """Tokens a second of so many answers at once, together, and these."""
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(answer(loaded, work, first + at, temperature, draft)) for at in range(streams)]
    answers = [task.result() for task in running]
    return sum((finish.eval_tokens - 1) / (finish.eval_ns / 1e9) for _, finish in answers), answers


async def measure(gguf: Path, rounds: int, streams: int, temperature: float) -> None:
    async with engine(gguf, n_ctx=CONTEXT, n_parallel=streams) as loaded:
        for work in WORKS:  # what steps take, and what guesses are worth, is learned on the way
            await rate(loaded, work, 10**6, streams, temperature, -1)
        tallies = {work: Tally([], []) for work in WORKS}
        for number in range(rounds):
            for work, tally in tallies.items():
                first = number * streams
                turns = (-1, 0) if number % 2 else (0, -1)
                results = {draft: await rate(loaded, work, first, streams, temperature, draft) for draft in turns}
                (with_rate, with_answers), (without_rate, without_answers) = results[-1], results[0]
                tally.ratios.append(with_rate / without_rate)
                tally.rates.append(with_rate)
                tally.same += [text for text, _ in with_answers] == [text for text, _ in without_answers]
                tally.drafted += sum(finish.draft_tokens for _, finish in with_answers)
                tally.confirmed += sum(finish.confirmed_tokens for _, finish in with_answers)
                tally.tokens += sum(finish.eval_tokens for _, finish in with_answers)
    for work, tally in tallies.items():
        print(tally.line(work))


def curve(gguf: Path, rounds: int) -> None:
    """Milliseconds of a step by its tokens of one sequence, all of which give logits, behind 300 others."""
    from corral.engine.llamacpp.worker.batch.threads import ThreadCount
    from corral.engine.llamacpp.worker.native.binding import Model, NativeLog
    from corral.engine.llamacpp.worker.native.context import Context, ContextSettings

    log = NativeLog(debug=False)
    model = Model(str(gguf), gpu_layers=0, main_gpu=0, use_mmap=None, on_progress=lambda _share: None)
    settings = ContextSettings(num_batch=512, threads=ThreadCount(2, is_fixed=True), flash_attention=None, kv_type="f16")
    context = Context(model, settings, sequences=1, cells=1024)
    context.add(0, [1 + token % 1000 for token in range(300)], 0)
    context.decode()
    taken: dict[int, list[float]] = {rows: [] for rows in range(1, context.most_logits + 1)}
    for _ in range(rounds):
        for rows, times in taken.items():
            context.add(0, list(range(100, 100 + rows)), 300, wants_logits=True, drafted=rows - 1)
            began_s = time.perf_counter()
            context.decode()
            times.append((time.perf_counter() - began_s) * 1000)
            context.cut(0, 300)
    assert not log.complaints
    one = min(taken[1])
    for rows, times in taken.items():
        least, usual = min(times), statistics.median(times)
        print(f"{rows:2} tokens  least {least:6.2f} ms, {least / one:.2f} of one   median {usual:6.2f} ms")


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--model", type=Path, help="a GGUF; SmolLM2 135M as Q4_0 unless given")
    args.add_argument("--rounds", type=int, default=5)
    args.add_argument("--streams", type=int, default=1)
    args.add_argument("--temperature", type=float, default=0.0)
    args.add_argument("--curve", action="store_true")
    given = args.parse_args()
    gguf = given.model or smollm2_q4_0()
    if given.curve:
        curve(gguf, 4 * given.rounds)
    else:
        asyncio.run(measure(gguf, given.rounds, given.streams, given.temperature))


if __name__ == "__main__":
    main()
