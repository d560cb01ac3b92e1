"""A whole run: every server has its turn in each round and at each load, so that a noisy machine is fair to all of them.

Who begins changes from round to round. Before each measurement a server is warmed up with requests that count for nothing.
"""

import asyncio
import http
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

import aiohttp

from corral.cli.bench.dialects import Api, Dialect, Endpoint, OpenAIDialect, dialect_of
from corral.cli.bench.loops import Until, arrivals_s, beside_streams, closed_loop, open_loop
from corral.cli.bench.sending import Failure, Sample, Sender, Server, http_session, translated
from corral.cli.bench.sources import Conversations, Fresh, Source
from corral.cli.bench.workloads import KINDS, Json, Kind, Shape, long_prompt
from corral.core.aio import cancelling
from corral.core.errors import CorralError
from corral.core.units import NS_PER_S

_WARM_TOKENS: Final = 8
_TICK_S: Final = 0.02
_PROBE_TIMEOUT_S: Final = 10.0
_NOT_KNOWN: Final = (400, 422)  # how servers answer to a field that they do not take


class BenchError(CorralError):
    """A server cannot be measured at all."""

    code = "bench"


@dataclass(frozen=True, slots=True)
class Target:
    """A server as the command line names it. `api` None: to be found out."""

    name: str
    url: str  # without a slash at its end
    model: str
    api: Api | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """One point of a sweep: so many clients in a closed loop, or so many arrivals a second in an open one."""

    clients: int = 0
    rate: float = 0.0

    def __str__(self) -> str:
        if self.rate:
            return f"{self.rate:g} requests/s"
        return f"{self.clients} client{'' if self.clients == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a run is."""

    targets: Sequence[Target]
    loads: Sequence[Load]
    workload: str
    shape: Shape
    seed: int
    rounds: int = 1
    requests: int = 0  # of each measurement; 0: as many as the workload has by itself
    duration_s: float = 0.0  # no request is sent later than so long after the first; 0: no such limit
    warmup: int = 1  # requests of each client
    timeout_s: float = 300.0
    pause_s: float = 0.0
    endpoint: Endpoint = "chat"
    headers: Mapping[str, str] = field(default_factory=dict)
    extra_body: Json = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        return KINDS[self.workload]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one server did in one round at one load."""

    target: str
    load: Load
    round: int
    samples: Sequence[Sample]
    duration_s: float  # from the first request until the last answer's end
    late_ns: Sequence[int] = ()  # how late this program itself was, looked at every now and then


Told: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Run:
    plan: Plan
    servers: Sequence[Server]
    measured: Sequence[Measured]


async def run(plan: Plan, tell: Told = lambda _text: None) -> Run:
    """Measures everything. `tell` hears what is under way. Raises BenchError where a server cannot be measured at all."""
    async with http_session() as session:
        senders = [await _prepared(session, plan, target, tell) for target in plan.targets]
        measured: list[Measured] = []
        for number in range(plan.rounds):
            for load in plan.loads:
                for sender in _in_turn(senders, number):
                    tell(f"round {number + 1}/{plan.rounds}, {load}: {sender.server.name}")
                    measured.append(await _turn(plan, sender, load, number))
    return Run(plan, [sender.server for sender in senders], measured)


def _in_turn(senders: Sequence[Sender], number: int) -> list[Sender]:
    """Another one begins each round."""
    at = number % len(senders)
    return [*senders[at:], *senders[:at]]


async def _prepared(session: aiohttp.ClientSession, plan: Plan, target: Target, tell: Told) -> Sender:
    """A sender to a server that has answered. The first answer may take as long as the model takes to load."""
    tell(f"{target.name}: warming up")
    api = target.api or await _find_api(session, target, plan.headers)
    dialect = dialect_of(api, plan.endpoint)
    url = f"{target.url}/v1" if api == "openai" and not target.url.endswith("/v1") else target.url
    server = Server(target.name, url, target.model, dialect, plan.headers, plan.extra_body)
    if not plan.warmup:
        return Sender(session, server, plan.timeout_s)
    ask = plan.kind.draw(replace(plan.shape, max_tokens=_WARM_TOKENS), f"{plan.seed}/{target.name}/first", 0)
    for choice in _choices(dialect):
        sender = Sender(session, replace(server, dialect=choice), plan.timeout_s)
        failure = (await sender.send(ask)).sample.failure
        if not failure:
            return sender
        if not _is_refused_field(failure):
            break
    assert failure
    raise BenchError(f"{target.name} at {url} gave no answer to a first request ({failure.kind}: {failure.text})")


def _choices(dialect: Dialect) -> list[Dialect]:
    """The dialect, and what is left of it for servers that do not take all of its fields."""
    return [dialect, replace(dialect, asks_usage=False)] if isinstance(dialect, OpenAIDialect) else [dialect]


def _is_refused_field(failure: Failure) -> bool:
    return failure.kind in [f"HTTP {status}" for status in _NOT_KNOWN] and "stream_options" in failure.text


async def _find_api(session: aiohttp.ClientSession, target: Target, headers: Mapping[str, str]) -> Api:
    """Ollama's where the server tells Ollama's version, else OpenAI's where it lists models."""
    if target.url.endswith("/v1"):
        return "openai"
    probes: tuple[tuple[Api, str, str], ...] = (("ollama", "/api/version", "version"), ("openai", "/v1/models", "data"))
    for api, path, name in probes:
        answer: object = None
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S), session.get(target.url + path, headers=headers) as response:
                answer = await response.json(content_type=None) if response.status == http.HTTPStatus.OK else None
        except (aiohttp.ClientConnectionError, TimeoutError, OSError) as exc:
            raise BenchError(
                f"{target.name} at {target.url} does not answer ({translated(exc, _PROBE_TIMEOUT_S).text})"
            ) from exc
        except (aiohttp.ClientError, ValueError):
            continue  # something answers, in another language
        if isinstance(answer, dict) and name in answer:
            return api
    raise BenchError(
        f"{target.name} at {target.url} speaks neither Ollama's API nor OpenAI's; --api says which to use all the same"
    )


async def _turn(plan: Plan, sender: Sender, load: Load, number: int) -> Measured:
    key = f"{plan.seed}/{number}/{load}{_salt(plan, sender.server)}"
    failed = await _warm(plan, sender, load, key)
    await asyncio.sleep(plan.pause_s)
    late_ns: list[int] = []
    async with cancelling(_watch(late_ns), name="lateness"):
        samples = await _load(plan, sender, load, key)
    begin_ns = min((sample.sent_ns for sample in samples), default=0)
    end_ns = max((sample.end_ns for sample in samples), default=0)
    return Measured(sender.server.name, load, number, [*failed, *samples], (end_ns - begin_ns) / NS_PER_S, late_ns)


def _salt(plan: Plan, server: Server) -> str:
    """Two targets that are one server get texts of their own: what one has asked would be in the cache of the other."""
    places = [target.url.removesuffix("/v1") for target in plan.targets]
    return f"/{server.name}" if places.count(server.url.removesuffix("/v1")) > 1 else ""


async def _warm(plan: Plan, sender: Sender, load: Load, key: str) -> list[Sample]:
    """Short answers for as many clients as there will be; then what is to have been seen before. Gives the latter's failure."""
    clients = load.clients or 1
    shape = replace(plan.shape, max_tokens=min(_WARM_TOKENS, plan.shape.max_tokens))
    await closed_loop(sender.send, Fresh(plan.kind, shape, f"{key}/warm-up", clients * plan.warmup), clients, Until())
    if not plan.kind.before or plan.shape.seen == "never":
        return []
    sample = (await sender.send(plan.kind.before(plan.shape, key, 0))).sample
    return [replace(sample, group="")] if sample.failure else []


async def _load(plan: Plan, sender: Sender, load: Load, key: str) -> list[Sample]:
    kind, shape, until = plan.kind, plan.shape, Until.after(plan.duration_s)
    count = plan.requests or (None if plan.duration_s else kind.per_client * (load.clients or 8))
    if plan.workload == "long":
        long_prompts = Fresh(replace(kind, draw=long_prompt), shape, key, plan.requests or (None if plan.duration_s else 1))
        return await beside_streams(sender.send, Fresh(kind, shape, key, None), long_prompts, load.clients, until)
    source: Source = Conversations(kind, shape, key) if plan.workload == "turns" else Fresh(kind, shape, key, count)
    if load.rate:
        return await open_loop(sender.send, source, arrivals_s(load.rate, key), until)
    return await closed_loop(sender.send, source, load.clients, until)


async def _watch(late_ns: list[int]) -> None:
    """Notes how much later than it asked for this program gets the processor."""
    while True:
        due_ns = time.monotonic_ns() + int(_TICK_S * NS_PER_S)
        await asyncio.sleep(_TICK_S)
        late_ns.append(max(0, time.monotonic_ns() - due_ns))
