"""Embeddings over HTTP: many texts in one request, against as many requests, and against llama.cpp's server. One command:

    .venv/bin/python bench/embed.py [--model FILE.gguf] [--texts 256] [--rounds 5]

The model is all-MiniLM-L6-v2 unless given; CORRAL_BENCH_MINILM names its file where it cannot be converted here. All are
measured in turns in the same run and printed as ratios: the machine may be shared, so trust the ratios. llama.cpp's server
runs as it starts by itself, and with 16 slots; the quicker of the two counts.
"""

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from http_load import Connection
from peers import minilm
from servers import NAME, Server, corral, peer

_WORDS: Final = (  # noqa: SIM905  a list of them would be a page
    "the sky is blue and grass green water runs down hill while people walk home after long days of work in small towns "
    "near old rivers where birds sing at dawn before rain falls on quiet fields of corn"
).split()
_SHORT, _LONG = 5, 28  # words of a text: about 7 and 30 tokens
_SINGLE_CONNECTION = 64  # requests; llama.cpp's server closes a connection after a hundred


def texts(count: int, words: int) -> list[str]:
    """The same ones each time, all different."""
    draw = random.Random(words)
    return [" ".join(draw.choices(_WORDS, k=words)) for _ in range(count)]


async def _post(port: int, path: str, bodies: Sequence[Mapping[str, Any]]) -> float:
    """Seconds for all of them, one after the other."""
    took_s = 0.0
    for begin in range(0, len(bodies), _SINGLE_CONNECTION):
        connection = await Connection.open(port)
        began_s = time.monotonic()
        for body in bodies[begin : begin + _SINGLE_CONNECTION]:
            await connection.post(path, body)
        took_s += time.monotonic() - began_s
        connection.close()
    return took_s


def one_request_s(server: Server, inputs: Sequence[str]) -> float:
    return asyncio.run(_post(server.port, "/api/embed", [{"model": NAME, "input": list(inputs)}]))


def single_requests_s(server: Server, inputs: Sequence[str]) -> float:
    return asyncio.run(_post(server.port, "/api/embed", [{"model": NAME, "input": text} for text in inputs]))


def peer_s(port: int, inputs: Sequence[str]) -> float:
    return asyncio.run(_post(port, "/v1/embeddings", [{"input": list(inputs)}]))


def measure(gguf: Path, count: int, rounds: int, words: int) -> None:
    inputs = texts(count, words)
    batch, singles, peers = list[float](), list[float](), list[list[float]]()
    options = ["--embedding"]
    with corral() as server, peer(gguf, slots=-1, more=options) as few, peer(gguf, slots=16, more=options) as many:
        server.add(NAME, gguf)
        for run in range(rounds + 1):
            took = one_request_s(server, inputs), single_requests_s(server, inputs), [peer_s(p, inputs) for p in (few, many)]
            if run:  # the first one loads models and warms up
                batch.append(took[0])
                singles.append(took[1])
                peers.append(took[2])
    ours, alone = statistics.median(batch), statistics.median(singles)
    by_slots = [statistics.median(run[at] for run in peers) for at in range(2)]
    print(f"{count} texts of {words} words, in one request     {ours:8.3f} s   {count / ours:7.0f} texts/s")
    wanted = " (wanted: 3 or more)" if words == _SHORT else ""  # a long text keeps the cores busy alone
    print(f"  as {count} requests                      {alone:8.3f} s   ratio {alone / ours:.2f}{wanted}")
    best = min(by_slots)
    print(
        f"  llama-server --embedding               {best:8.3f} s   ratio {best / ours:.2f} (wanted: 1 or more)"
        f"   by itself {by_slots[0]:.3f} s, 16 slots {by_slots[1]:.3f} s"
    )


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--model", type=Path, help="a GGUF; all-MiniLM-L6-v2 unless given")
    args.add_argument("--texts", type=int, default=256)
    args.add_argument("--rounds", type=int, default=5)
    given = args.parse_args()
    gguf = given.model or minilm()
    for words in (_SHORT, _LONG):
        measure(gguf, given.texts, given.rounds, words)


if __name__ == "__main__":
    main()
