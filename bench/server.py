"""The whole server over HTTP: against its own worker, and against llama.cpp's server. One command:

    .venv/bin/python bench/server.py [--model FILE.gguf] [--rounds 3]

Prints what an idle server takes, how soon it and `corral ls` are there, cold load to first token, small requests one by one,
streamed tokens a second over NDJSON at 1, 8 and 16 streams, and what a streamed token costs the server in each dialect. What
has a peer is measured in turns in the same run and printed as a ratio: the machine may be shared, so trust the ratios.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from http_load import at_once, one_by_one_rate
from peers import scripted_model, smollm2_q4_0
from rates import CONTEXT, STREAMS, TOKENS, decode_rate, engine, prompt
from rates import at_once as engine_at_once
from servers import CORRAL, NAME, STANDBY_S, Server, corral, peer


def elapsed_s(work: Callable[[], object]) -> float:
    began_s = time.monotonic()
    work()
    return time.monotonic() - began_s


def resident_mb(pid: int) -> float:
    rss: int = psutil.Process(pid).memory_info().rss
    return rss / 1e6


def idle(rounds: int) -> None:
    """An idle server, and the command line."""
    with corral() as server:
        time.sleep(STANDBY_S)
        rss_mb = resident_mb(server.pid)
        ls_s = min(
            elapsed_s(lambda: subprocess.run([CORRAL, "ls"], env=os.environ | server.env, check=True, capture_output=True))
            for _ in range(rounds)
        )
    print(f"idle server resident               {rss_mb:8.1f} MB   (wanted: 90 or less)")
    print(f"start to ready                     {server.ready_s:8.2f} s    (wanted: 1 or less)")
    print(f"corral ls                          {ls_s:8.2f} s    (wanted: 0.25 or less)")


def cold(gguf: Path, rounds: int) -> None:
    """From a request for a model that is not loaded to its first token; the peer from process start."""
    ours, theirs = [], []
    body = {"model": NAME, "prompt": "Why is the sky blue?", "raw": True, "options": {"num_predict": 1}}
    with corral() as server:
        server.add(NAME, gguf)
        for _ in range(rounds):
            time.sleep(STANDBY_S)
            ours.append(asyncio.run(at_once(server.port, "/api/generate", [body]))[0].ttft_s)
            asyncio.run(at_once(server.port, "/api/generate", [{"model": NAME, "keep_alive": 0}]))
            began_s = time.monotonic()
            with peer(gguf) as port:
                asyncio.run(at_once(port, "/completion", [{"prompt": body["prompt"], "n_predict": 1}]))
                theirs.append(time.monotonic() - began_s)
    mine, other = statistics.median(ours), statistics.median(theirs)
    print(
        f"cold load to first token           {mine:8.3f} s    "
        f"llama-server {other:.3f} s   ratio {mine / other:.2f} (wanted: 1.3 or less)"
    )


def small_requests(rounds: int) -> None:
    """Requests of one token to a tiny model, one by one."""
    gguf = scripted_model()
    ours, theirs = [], []
    with corral() as server, peer(gguf) as port:
        server.add(NAME, gguf)
        body = {"model": NAME, "prompt": "hi", "raw": True, "stream": False, "options": {"num_predict": 1}}
        for _ in range(rounds):
            ours.append(asyncio.run(one_by_one_rate(server.port, "/api/generate", body, 300)))
            theirs.append(asyncio.run(one_by_one_rate(port, "/completion", {"prompt": "hi", "n_predict": 1}, 300)))
    mine, other = max(ours), max(theirs)
    print(
        f"one-token requests, one by one     {mine:8.0f} /s   "
        f"llama-server {other:.0f} /s   ratio {mine / other:.2f} (wanted: 0.6 or more)"
    )


def http_rate(server: Server, streams: int, tokens: int) -> float:
    """Tokens a second over HTTP of all streams together, each by its own pace."""
    options = {"num_predict": tokens, "temperature": 0.8, "seed": 1, "num_ctx": CONTEXT}
    bodies = [{"model": NAME, "prompt": prompt(i), "raw": True, "options": options} for i in range(streams)]
    return sum((a.tokens - 1) / (a.last_s - a.first_s) for a in asyncio.run(at_once(server.port, "/api/generate", bodies)))


async def own_rate(gguf: Path, streams: int) -> float:
    """The same of a worker without a server."""
    async with engine(gguf) as loaded:
        prompts = [prompt(i) for i in range(streams)]
        await engine_at_once(loaded, prompts, tokens=8)
        return decode_rate(await engine_at_once(loaded, prompts))


def streams(gguf: Path, rounds: int) -> None:
    """Streamed tokens over HTTP as a share of what the worker gives without a server."""
    with corral() as server:
        server.add(NAME, gguf)
        for count in STREAMS:
            shares, ours = [], []
            for _ in range(rounds):
                own = asyncio.run(own_rate(gguf, count))
                http_rate(server, count, 8)  # the model is loaded, with room for as many streams
                time.sleep(STANDBY_S)
                ours.append(http_rate(server, count, TOKENS))
                shares.append(ours[-1] / own)
                asyncio.run(at_once(server.port, "/api/generate", [{"model": NAME, "keep_alive": 0}]))
            print(
                f"{count:2} streams over HTTP               {statistics.median(ours):8.0f} tok/s  "
                f"of the worker's own {statistics.median(shares):.2f} (wanted: 0.90 or more)"
            )


def dialect_bodies(index: int) -> dict[str, dict[str, object]]:
    """The same request in every dialect, by the path it goes to; greedy, so that all have the same answer."""
    said = {"model": NAME, "stream": True, "messages": [{"role": "user", "content": prompt(index)}], "temperature": 0}
    return {
        "/api/chat": said | {"options": {"num_predict": TOKENS, "temperature": 0}},
        "/v1/chat/completions": said | {"max_completion_tokens": TOKENS},
        "/v1/responses": said | {"input": prompt(index), "max_output_tokens": TOKENS},
        "/v1/messages": said | {"max_tokens": TOKENS},
    }


def busy_ns(pid: int) -> int:
    """Time that the process's threads have spent on a core."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())


def dialects(gguf: Path, rounds: int) -> None:
    """What a streamed token costs the server itself, its workers left aside, in each dialect. Linux alone tells."""
    count = STREAMS[1]
    requests = [dialect_bodies(index) for index in range(count)]
    costs: dict[str, list[float]] = {path: [] for path in requests[0]}
    with corral() as server:
        server.add(NAME, gguf)
        asyncio.run(at_once(server.port, "/api/chat", [bodies["/api/chat"] for bodies in requests]))
        for _ in range(rounds):
            for path, taken in costs.items():
                began_ns = busy_ns(server.pid)
                asyncio.run(at_once(server.port, path, [bodies[path] for bodies in requests]))
                taken.append((busy_ns(server.pid) - began_ns) / (count * TOKENS) / 1000)
    for path, taken in costs.items():
        ratios = [one / other for one, other in zip(taken, costs["/api/chat"], strict=True)]
        print(
            f"a streamed token of {path:20} {statistics.median(taken):6.1f} us   "
            f"of NDJSON's {statistics.median(ratios):.2f} (wanted: 1.30 or less)"
        )


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--model", type=Path, help="a GGUF; SmolLM2 135M as Q4_0 unless given")
    args.add_argument("--rounds", type=int, default=3)
    given = args.parse_args()
    gguf = given.model or smollm2_q4_0()
    idle(given.rounds)
    cold(gguf, given.rounds)
    small_requests(given.rounds)
    streams(gguf, given.rounds)
    dialects(gguf, given.rounds)


if __name__ == "__main__":
    main()
