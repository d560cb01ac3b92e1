"""`corral bench`: the flags of the load generator, and the order of its work. All else is imported when it is called."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from corral.cli.usage import Command, Flag
from corral.core.errors import CorralError

if TYPE_CHECKING:
    from corral.cli.bench.rounds import Plan

WORKLOADS: Final = ("chat", "prefix", "turns", "json", "edit", "mixed", "long", "embed")


def _bench(words: tuple[str, ...], *, json_file: str, plot_file: str, **flags: Any) -> None:
    from corral.cli.bench.planning import plan_of, writable
    from corral.cli.bench.plot import check

    plan = plan_of(words[0], **flags)
    document_at, picture_at = writable("--json", json_file), writable("--plot", plot_file)
    if picture_at:
        check(picture_at)
    _measure(plan, document_at, picture_at)


def _measure(plan: "Plan", document_at: Path | None, picture_at: Path | None) -> None:
    import asyncio

    from corral.cli.bench.document import document
    from corral.cli.bench.plot import draw
    from corral.cli.bench.progress import Progress
    from corral.cli.bench.report import show
    from corral.cli.bench.results import results
    from corral.cli.bench.rounds import run

    with Progress(sys.stderr) as progress:
        done = asyncio.run(run(plan, progress.tell))
    found = results(done)
    show(plan, found, sys.stdout)
    if document_at:
        document_at.write_text(json.dumps(document(done, found, datetime.now(UTC)), indent=1) + "\n")
    if picture_at:
        draw(plan, found, picture_at)
    if failed := dict.fromkeys(cell.target for cell in found.cells if not cell.all["completed"]):
        raise CorralError(f"no request to {', '.join(failed)} had a good answer")


_NOTES: Final = """\
Workloads:
  chat     Free text: each request is a question of its own
  prefix   Questions behind a common system prompt, which was --seen once before, or never
  turns    Conversations of several turns, in random order
  json     An object by a JSON Schema
  edit     A list repeated with small changes
  mixed    Prompts of several lengths
  long     Long prompts that arrive while each client reads a stream
  embed    Embeddings of several texts in one request"""

bench = Command(
    "bench",
    _bench,
    usage="bench MODEL",
    summary="Measure a server, or compare several",
    flags=[
        Flag(
            "--url",
            multiple=True,
            placeholder="[NAME=]URL[#MODEL]",
            help="Server to measure, once for each; MODEL where it calls the model differently (default OLLAMA_HOST)",
        ),
        Flag(
            "--api",
            type=click.Choice(["auto", "ollama", "openai"]),
            default="auto",
            placeholder="string",
            help="What to speak: ollama, openai, or auto for what each server answers to (default auto)",
        ),
        Flag(
            "--endpoint",
            type=click.Choice(["chat", "generate"]),
            default="chat",
            placeholder="string",
            help="chat, or generate for plain completions (default chat)",
        ),
        Flag(
            "--workload",
            type=click.Choice(WORKLOADS),
            default="chat",
            placeholder="string",
            help="What is asked for, see below (default chat)",
        ),
        Flag(
            "--clients",
            default="",
            placeholder="ints",
            help="Clients that each send when they are answered, one measurement for each number, e.g. 1,4,16 (default 1)",
        ),
        Flag(
            "--rate",
            default="",
            placeholder="floats",
            help="Requests a second that arrive at random times whatever is answered, instead of --clients, e.g. 0.5,2",
        ),
        Flag(
            "--requests",
            type=click.IntRange(min=0),
            default=0,
            placeholder="int",
            help="Requests of each measurement (default: 4 of each client; prefix 1 of each, long 1 in all, --rate 32)",
        ),
        Flag("--duration", default="", placeholder="duration", help="Send no more requests after so long, e.g. 30s"),
        Flag(
            "--rounds",
            type=click.IntRange(min=1),
            default=None,
            placeholder="int",
            help="Rounds, in each of which every server has its turn (default 3 for several servers, else 1)",
        ),
        Flag(
            "--warmup",
            type=click.IntRange(min=0),
            default=1,
            placeholder="int",
            help="Short requests of each client before each measurement, which do not count (default 1)",
        ),
        Flag("--timeout", default="300s", placeholder="duration", help="Longest time for one request (default 300s)"),
        Flag("--pause", default="", placeholder="duration", help="Rest before each measurement (default 0s)"),
        Flag(
            "--seed",
            type=click.IntRange(min=0),
            default=None,
            placeholder="int",
            help="Makes the same requests again (default: another one each time, shown in the report)",
        ),
        Flag(
            "--max-tokens",
            type=click.IntRange(min=1),
            default=None,
            placeholder="int",
            help="Tokens of an answer at most (default: as the workload has it)",
        ),
        Flag(
            "--prompt-tokens",
            default="",
            placeholder="ints",
            help="About so many tokens of prompt, one of several at random, e.g. 16,512 (default: as the workload has it)",
        ),
        Flag(
            "--temperature",
            type=click.FloatRange(min=0),
            default=None,
            placeholder="float",
            help="Temperature (default 0 for edit, else 0.8)",
        ),
        Flag(
            "--seen",
            type=click.Choice(["once", "never"]),
            default=None,
            placeholder="string",
            help="Whether the server knows the common prompt of prefix: once or never (default once)",
        ),
        Flag(
            "--conversations",
            type=click.IntRange(min=1),
            default=None,
            placeholder="int",
            help="Conversations of the workload turns (default 12)",
        ),
        Flag("--turns", type=click.IntRange(min=1), default=None, placeholder="int", help="Turns of each (default 4)"),
        Flag("--schema", default="", placeholder="file", help="JSON Schema for the workload json, instead of its own"),
        Flag(
            "--texts",
            type=click.IntRange(min=1),
            default=None,
            placeholder="int",
            help="Texts in a request of the workload embed (default 32)",
        ),
        Flag("--header", multiple=True, placeholder="'NAME: VALUE'", help="Header of every request, e.g. for a key"),
        Flag("--extra-body", default="", placeholder="json", help="More fields of every request, as a JSON object"),
        Flag("--json", "json_file", default="", placeholder="file", help="Write the figures there as JSON"),
        Flag(
            "--plot",
            "plot_file",
            default="",
            placeholder="file.svg|.png",
            help="Draw throughput and time to first token against the load; needs matplotlib",
        ),
    ],
    at_least=1,
    at_most=1,
    notes=_NOTES,
)
