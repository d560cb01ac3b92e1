"""Decode throughput of the worker process, without HTTP, against llama.cpp's own ceiling on the same file. One command:

    .venv/bin/python bench/engine.py [--model FILE.gguf] [--rounds 5]

The ceiling is llama-batched-bench: a C++ loop that computes the same batches, draws no tokens and makes no text. The two take
turns in one run, as a machine's speed drifts: each of ours is compared with the mean of the ceilings before and after it. The
printed ratio is the median of the rounds' ratios.
"""

import argparse
import asyncio
import re
import statistics
import subprocess
from pathlib import Path

from peers import smollm2_q4_0, tool
from rates import CONTEXT, STREAMS, TOKENS, at_once, decode_rate, engine, prompt


def ceiling(gguf: Path, streams: int) -> float:
    """Tokens a second of llama-batched-bench in text generation."""
    sizes = ("-c", str(CONTEXT * streams), "-npp", "8", "-ntg", str(TOKENS), "-npl", str(streams))
    done = subprocess.run([tool("llama-batched-bench"), "-m", gguf, *sizes], capture_output=True, text=True, check=True)
    row = re.findall(r"^\|\s+8 \|.*$", done.stdout, re.MULTILINE)[-1]
    return float(row.split("|")[8])


async def measure(gguf: Path, rounds: int) -> None:
    for streams in STREAMS:
        ratios, ours = [], []
        after = ceiling(gguf, streams)
        for _ in range(rounds):
            before = after
            async with engine(gguf) as loaded:
                prompts = [prompt(i) for i in range(streams)]
                await at_once(loaded, prompts, tokens=8)  # the context grows to as many sequences
                ours.append(decode_rate(await at_once(loaded, prompts)))
            after = ceiling(gguf, streams)
            ratios.append(ours[-1] / statistics.mean((before, after)))
        low, high = min(ratios), max(ratios)
        print(
            f"{streams:2} streams  {statistics.median(ours):7.0f} tok/s   "
            f"of llama-batched-bench {statistics.median(ratios):.2f}  ({low:.2f} to {high:.2f})"
        )


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--model", type=Path, help="a GGUF; SmolLM2 135M as Q4_0 unless given")
    args.add_argument("--rounds", type=int, default=5)
    given = args.parse_args()
    asyncio.run(measure(given.model or smollm2_q4_0(), given.rounds))


if __name__ == "__main__":
    main()
