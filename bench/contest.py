"""A load on several servers in turns, by the machinery of `corral bench`: the same requests, in the same dialect, streamed.

Every load has servers of its own, so that it measures the same alone and in a whole table; only one is busy at a time, and
another one begins each round. All draw tokens by the same rules, those that llama.cpp's server has by itself.
"""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from corral.cli.bench.results import Cell, results
from corral.cli.bench.rounds import Load, Plan, Target, run
from corral.cli.bench.workloads import KINDS
from peers import tool
from servers import NAME, corral, peer
from subjects import Setting, Subject
from verdicts import OURS, Figures, Line, Outcome

CEILING: Final = "llama-bench"
_CEILING_TOKENS: Final = 128  # as many as a free answer has
_SAMPLING: Final = {"top_k": 40, "top_p": 0.95, "min_p": 0.05, "repeat_penalty": 1.0}
_SHORT: Final[Mapping[str, Any]] = {"max_tokens": 8}
_WARM_SEED: Final = 1000  # so far from the first round's
_TIMEOUT_S: Final = 600.0
_LATE_MS: Final = 10.0
_PROMPTS_DIFFER, _ANSWERS_DIFFER = 0.03, 0.1  # share by which token counts may, without a word about it


@dataclass(frozen=True, slots=True)
class Figure:
    """Which of `corral bench`'s figures: of all requests, or of one group of them; times this."""

    name: str
    group: str = ""
    scale: float = 1.0

    def of(self, cell: Cell) -> float | None:
        value = (cell.groups.get(self.group, {}) if self.group else cell.all).get(self.name)
        return None if value is None else value * self.scale


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRow:
    """Some lines of the table that one load fills. `quick` and `warm` change its shape for short runs, and before the first."""

    name: str
    lines: tuple[Line, ...]
    figures: tuple[Figure, ...]  # of the lines
    workload: str
    clients: int
    slots: Sequence[int] = (8, 1)
    shape: Mapping[str, Any] = field(default_factory=dict)
    requests: int = 0  # 0: as many as the workload has by itself
    quick: Mapping[str, Any] = field(default_factory=dict)
    quick_requests: int = 0
    warm: Mapping[str, Any] = field(default_factory=lambda: _SHORT)
    most_rounds: int = 99
    has_ceiling: bool = False  # llama-bench takes part
    subject: Subject | None = None  # another model than that of the other rows

    def measure(self, setting: Setting) -> Outcome:
        subject = self.subject or setting.subject
        gguf = subject.gguf()
        with contenders(subject, gguf, self.slots) as targets:
            plan = self.plan(setting, targets)
            self.warm_up(plan, setting)
            return self._rounds(plan, setting, gguf if self.has_ceiling else None)

    def plan(self, setting: Setting, targets: Sequence[Target]) -> Plan:
        kind = KINDS[self.workload]
        shape = {**self.shape, **(self.quick if setting.is_quick else {})}
        return Plan(
            targets,
            [Load(clients=self.clients)],
            self.workload,
            replace(kind.shape, **shape),
            setting.seed,
            requests=self.quick_requests if setting.is_quick and self.quick_requests else self.requests,
            warmup=0,
            timeout_s=_TIMEOUT_S,
            extra_body=_SAMPLING if kind.generates else {},
        )

    def warm_up(self, plan: Plan, setting: Setting) -> None:
        """The model is loaded, and our memory grows to what the load takes; the others take all of theirs at the start."""
        first = replace(plan, seed=plan.seed + _WARM_SEED, shape=replace(plan.shape, **self.warm))
        if plan.kind.is_open and not plan.kind.before:
            _measured(replace(first, requests=self.clients), setting)
            return
        ours, *others = plan.targets
        _measured(replace(first, targets=[ours]), setting)
        chat = replace(KINDS["chat"].shape, **_SHORT)
        _measured(replace(first, targets=others, workload="chat", shape=chat, requests=self.clients), setting)

    def _rounds(self, plan: Plan, setting: Setting, ceiling: Path | None) -> Outcome:
        found: list[list[Figures]] = [[] for _ in self.lines]
        cells: list[Cell] = []
        for number in range(min(setting.rounds, self.most_rounds)):
            setting.tell(f"{self.name}: round {number + 1}")
            at = number % len(plan.targets)
            turns = [*plan.targets[at:], *plan.targets[:at]]
            measured = _measured(replace(plan, targets=turns, seed=plan.seed + number), setting)
            measured.sort(key=lambda cell: [target.name for target in plan.targets].index(cell.target))
            more = {CEILING: llama_bench(ceiling)} if ceiling else {}
            for line, figure in zip(found, self.figures, strict=True):
                values = {cell.target: value for cell in measured if (value := figure.of(cell)) is not None}
                line.append(values | more)
            cells += measured
        rounds = {line.key: values for line, values in zip(self.lines, found, strict=True)}
        return Outcome(rounds, tuple(dict.fromkeys(_notes(cells))), is_whole=not any(cell.failures for cell in cells))


def _measured(plan: Plan, setting: Setting) -> list[Cell]:
    return list(results(asyncio.run(run(plan, lambda text: setting.tell(f"  {text}")))).cells)


@contextlib.contextmanager
def contenders(subject: Subject, gguf: Path, slots: Sequence[int]) -> Iterator[list[Target]]:
    """Corral first, then llama.cpp's server with each number of slots; each loads the file, and all are idle."""
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(corral({"CORRAL_KEEP_ALIVE": "-1"}))
        ours.add(NAME, gguf, subject.go_template)
        targets = [Target(OURS, f"http://127.0.0.1:{ours.port}", NAME, "openai")]
        for count in slots:
            port = stack.enter_context(peer(gguf, count, subject.peer_options(count)))
            targets.append(Target(slots_name(count), f"http://127.0.0.1:{port}", NAME, "openai"))
        yield targets


def slots_name(count: int) -> str:
    """
    >>> slots_name(1), slots_name(16)
    ('1 slot', '16 slots')
    """
    return f"{count} slot{'' if count == 1 else 's'}"


def llama_bench(gguf: Path) -> float:
    """Tokens a second of one stream, of llama.cpp's own benchmark: a loop that draws no tokens and makes no text."""
    sizes = ("-p", "0", "-n", str(_CEILING_TOKENS), "-r", "1")
    done = subprocess.run([tool("llama-bench"), "-m", gguf, *sizes, "-o", "json"], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)[0]["avg_ts"])


def _notes(cells: Sequence[Cell]) -> Iterator[str]:
    """What must be known to read the figures: failures, work that was not the same, and a program that was kept waiting."""
    for cell in cells:
        for kind, count, text in cell.failures:
            yield f"{cell.target}: {count} failed with {kind}: {text}"
    late_ms = max((cell.late_ms for cell in cells), default=0.0)
    if late_ms > _LATE_MS:
        yield f"the load generator had to wait for the processor, up to {late_ms:.0f} ms (P99 of a round)"
    for name, what, share in (
        ("mean_input_tokens", "prompts", _PROMPTS_DIFFER),
        ("mean_output_tokens", "answers", _ANSWERS_DIFFER),
    ):
        means = _means(cells, name)
        if len(means) > 1 and max(means.values()) > (1 + share) * min(means.values()):
            yield f"{what} differ in length: " + ", ".join(f"{target} {mean:.0f} tokens" for target, mean in means.items())


def _means(cells: Sequence[Cell], name: str) -> dict[str, float]:
    """Of all rounds, by contender."""
    values: dict[str, list[float]] = {}
    for cell in cells:
        if name in cell.all:
            values.setdefault(cell.target, []).append(cell.all[name])
    return {target: fmean(each) for target, each in values.items()}
