"""Eight requests at once that share a system prompt of 1,300 tokens, seen once before. One command:

    .venv/bin/python bench/prefix.py [--model FILE.gguf] [--rounds 5]

Prints the time until all of them have a first token, as a share of the time that reading the prompt once took in this run.
"""

import argparse
import asyncio
import statistics
import time
from pathlib import Path

from peers import smollm2_q4_0
from rates import answer, at_once, engine

CLIENTS = 8
_SENTENCE = "You are a careful assistant for customers of a shop; you answer briefly, kindly and only about the shop. "
_QUESTIONS = ("opening hours", "returns", "gift cards", "delivery", "prices", "jobs", "parking", "repairs")


def system_prompt(index: int) -> str:
    """About 1,300 tokens; another one for each round."""
    return f"<|im_start|>system\nShop number {index}. " + _SENTENCE * 62 + "<|im_end|>\n"


def question(topic: str) -> str:
    return f"<|im_start|>user\nTell me about {topic}.<|im_end|>\n<|im_start|>assistant\n"


async def measure(gguf: Path, rounds: int) -> None:
    shares = []
    async with engine(gguf, n_ctx=2048) as loaded:
        await at_once(loaded, [f"{i}" for i in range(CLIENTS)], tokens=2)  # the context has grown to as many sequences
        for index in range(rounds):
            system = system_prompt(index)
            first = await answer(loaded, system + question("you"), tokens=1)
            cold_s = first.finish.prompt_ns / 1e9
            began_s = time.monotonic()
            runs = await at_once(loaded, [system + question(topic) for topic in _QUESTIONS], tokens=2)
            all_s = max(run.first_s for run in runs) - began_s
            shares.append(all_s / cold_s)
            print(
                f"prompt of {first.finish.prompt_tokens} tokens read in {cold_s:.2f} s; {CLIENTS} requests that share it "
                f"have a first token after {all_s:.3f} s: {all_s / cold_s:.3f} of it"
            )
    print(f"median {statistics.median(shares):.3f} (wanted: 0.200 or less)")


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--model", type=Path, help="a GGUF; SmolLM2 135M as Q4_0 unless given")
    args.add_argument("--rounds", type=int, default=5)
    given = args.parse_args()
    asyncio.run(measure(given.model or smollm2_q4_0(), given.rounds))


if __name__ == "__main__":
    main()
