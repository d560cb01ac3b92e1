"""Throughput and time to first token against concurrency, Corral and llama.cpp's server, as SVG files."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from contest import HttpRow, contenders
from corral.cli.bench.plot import draw
from corral.cli.bench.results import results
from corral.cli.bench.rounds import Load, run
from subjects import Setting
from verdicts import OURS

_SWEEPS: Final = (
    HttpRow(name="chat", lines=(), figures=(), workload="chat", clients=32, shape={"max_tokens": 64}),
    HttpRow(name="prefix", lines=(), figures=(), workload="prefix", clients=16, shape={"max_tokens": 16}),
)


def pictures(setting: Setting, model: str, folder: Path) -> Iterator[Path]:
    """Draws one for each workload, at 1, 2, 4 and so on clients; gives where it is."""
    subject = setting.subject
    for sweep in _SWEEPS:
        loads = [Load(clients=1 << power) for power in range(sweep.clients.bit_length())]
        with contenders(subject, subject.gguf(), sweep.slots) as targets:
            plan = sweep.plan(setting, targets)
            sweep.warm_up(plan, setting)
            named = [replace(t, name=t.name if t.name == OURS else f"llama-server, {t.name}") for t in targets]
            whole = replace(plan, targets=named, loads=loads, rounds=setting.rounds)
            found = results(asyncio.run(run(whole, setting.tell)))
        path = folder / f"concurrency-{sweep.name}-{model}.svg"
        draw(whole, found, path)
        yield path
