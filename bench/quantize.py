"""What quantizing brings: SmolLM2 135M as it comes, Q4_1, against the Q4_0 that `create --quantize` makes of it. One command:

    .venv/bin/python bench/quantize.py [--rounds 5]

The model is made by the same code as in a server, by way of F16, in a store that is gone afterwards. The two files take turns
in one run, each in a worker of its own; the printed ratio is the median of the rounds' ratios of prefill rates.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from corral.engine.llamacpp import LlamaCppEngine, LlamaCppWorkshop
from corral.service import CreateService
from corral.service.create import CreateRequest
from corral.store import MODEL_LAYER, ModelName, Store
from peers import smollm2_q4_1
from rates import answer, engine

WORDS = 900  # of a prompt, each about a token
_SPELLED = ("red", "stone", "river", "green", "cloud", "house", "seven", "light", "bread", "winter", "open", "small")


def long_prompt(number: int) -> str:
    """A text that shares no beginning with another number's, so nothing of it is known."""
    return f"{number} " + " ".join(_SPELLED[(index * (number + 5) + index // 7) % len(_SPELLED)] for index in range(WORDS))


async def make(store: Store, source: Path) -> Path:
    """The Q4_0 file; prints what it took."""
    data = await asyncio.to_thread(source.read_bytes)
    digest = (await asyncio.to_thread(store.put_blob, data, MODEL_LAYER))[0].digest
    workshop = LlamaCppWorkshop()
    service = CreateService(store, workshop)
    started_s = time.monotonic()
    for request in (
        CreateRequest(model="smollm2:f16", files={"a.gguf": digest}, quantize="f16"),
        CreateRequest(model="smollm2:q4_0", from_model="smollm2:f16", quantize="q4_0"),
    ):
        async with service.create(request) as statuses:
            async for _ in statuses:
                pass
    await service.aclose()
    workshop.close()
    model = await asyncio.to_thread(store.get, ModelName.parse("smollm2:q4_0"))
    took_s = time.monotonic() - started_s
    print(f"made {model.config.file_type} of {source.name}, {model.size_bytes / 1e6:.0f} MB, in {took_s:.1f} s")
    return model.model_path


async def prefill_rate(loaded: LlamaCppEngine, number: int) -> float:
    run = await answer(loaded, long_prompt(number), tokens=1)
    finish = run.finish
    return (finish.prompt_tokens - finish.cached_tokens) / finish.prompt_ns * 1e9


async def measure(rounds: int) -> None:
    source = smollm2_q4_1()
    with tempfile.TemporaryDirectory() as folder:
        made = await make(Store(Path(folder)), source)
        rates: dict[str, list[float]] = {"Q4_1": [], "Q4_0": []}
        async with (
            engine(source, n_ctx=2048, n_parallel=1) as before,
            engine(made, n_ctx=2048, n_parallel=1) as after,
        ):
            for number in range(rounds + 1):
                for name, loaded in (("Q4_1", before), ("Q4_0", after)):
                    rates[name].append(await prefill_rate(loaded, number))
    for name, measured in rates.items():
        print(f"{name}  {statistics.median(measured[1:]):6.0f} tok/s of prefill")  # the first round warms up
    ratios = [after / before for before, after in zip(rates["Q4_1"][1:], rates["Q4_0"][1:], strict=True)]
    print(f"Q4_0 / Q4_1  {statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f}; wanted 1.5)")


def main() -> None:
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--rounds", type=int, default=5)
    asyncio.run(measure(args.parse_args().rounds))


if __name__ == "__main__":
    main()
