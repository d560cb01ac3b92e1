"""A model small enough to be its own proof, in a context that records everything: the batcher's and the slots' test bench.

The toy model's next token is a checksum of all tokens that its sequence holds. So one wrong, missing or stale token in KV
memory gives another answer, and `answer` says without any cache what the right one is.
"""

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from corral.core.errors import EngineError, ModelLoadError
from corral.core.types import Finish, Job
from corral.engine.llamacpp.worker.batch.batcher import Batcher
from corral.engine.llamacpp.worker.batch.below import Below
from corral.engine.llamacpp.worker.batch.memory import KvMemory
from corral.engine.llamacpp.worker.batch.showing import Media, Showing
from corral.engine.llamacpp.worker.batch.slots import SlotTable
from corral.engine.llamacpp.worker.batch.stepping import Fills, Plans
from corral.engine.llamacpp.worker.grammar.grammars import Grammars
from corral.engine.llamacpp.worker.grammar.spelling import Spelling
from corral.engine.llamacpp.worker.speculation.speculation import Speculation
from corral.engine.llamacpp.worker.texts import Reads, TextTooLargeError
from corral.wire.link import Frame, JobFailed, Overflow, StepFrame

END: Final = 0
BOS: Final = 1
VOCABULARY: Final = 256


def next_token(tokens: Sequence[int]) -> int:
    """A lower-case letter, or in one case of 40 the end of the answer."""
    mark = zlib.crc32(bytes(tokens))
    return END if mark % 40 == 0 else ord("a") + mark // 40 % 26


def adapted(tokens: Sequence[int], scales: Sequence[float]) -> list[int]:
    """What is held of the tokens in KV memory with these scales of the model's adapters: each is another."""
    if all(scale == 1 for scale in scales):
        return list(tokens)
    shift = zlib.crc32(repr(tuple(scales)).encode())
    return [(token + shift) % VOCABULARY for token in tokens]


@dataclass(slots=True)
class ToyWords:
    """A token is an ASCII character."""

    adds_bos: bool = False
    size: int = VOCABULARY
    unreadable: str = "\n"  # a text with this cannot be tokenized
    has_infill: bool = True
    most: int = 1_000_000  # characters of a text; a longer one is not tokenized

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        if len(text) > self.most:
            raise TextTooLargeError(len(text))
        if self.unreadable in text:
            raise EngineError(f"llama.cpp cannot tokenize a text of {len(text)} bytes")
        return [BOS] * (add_special and self.adds_bos) + list(text.encode("ascii"))

    def least_tokens(self, text: str) -> int:
        return len(text) // 2

    def infill(self, before: str, after: str, *, add_special: bool) -> list[int] | None:
        if not self.has_infill:
            return None
        return self.tokenize(f"<{before}|{after}>", add_special=add_special)

    def spelled(self, token: int) -> bytes:
        return b"<end>" if token == END else self.piece(token)

    def piece(self, token: int) -> bytes:
        return bytes([token])

    def ends(self, token: int) -> bool:
        return token == END

    def is_control(self, token: int) -> bool:
        return token in (END, BOS)


@dataclass(slots=True)
class ToyContext:
    """KV memory as lists of tokens. Fails the test on whatever llama.cpp would not take: holes, overflow, use after close."""

    sequences: int
    cells: int
    num_batch: int = 64
    can_drop: bool = True
    cuts: bool = True  # False: it lacks what comes before a cut, and what it keeps is of no use
    can_shift: bool = True
    restores: bool = True
    forks: bool = False
    saves: bool = True
    failures: int = 0  # so many next batches cannot be computed
    on_decode: Callable[[], None] = lambda: None
    model: Callable[[Sequence[int]], int] = next_token
    kv: dict[int, list[int]] = field(default_factory=dict)
    batches: list[list[tuple[int, int, int]]] = field(default_factory=list)  # sequence, position, count
    logits: dict[int, int] = field(default_factory=dict)
    log: list[tuple[Any, ...]] = field(default_factory=list)
    is_closed: bool = False
    scales: tuple[float, ...] = ()
    spare_logits: int = 15
    is_even: bool = True
    _batch: list[tuple[int, int, tuple[int, ...], int]] = field(default_factory=list)

    @property
    def most_logits(self) -> int:
        return self.sequences + self.spare_logits

    def adapt(self, scales: tuple[float, ...]) -> None:
        assert not self._batch
        if scales != self.scales:
            self.log.append(("adapt", scales))
        self.scales = scales

    def add(self, sequence: int, tokens: Sequence[int], position: int, *, wants_logits: bool = False, drafted: int = 0) -> int:
        assert len(tokens) > drafted >= 0
        assert 0 <= sequence < self.sequences
        self._batch.append((sequence, position, tuple(tokens), (1 + drafted) * wants_logits))
        return sum(len(piece) for _, _, piece, _ in self._batch) - 1 - drafted

    def decode(self) -> None:
        batch, self._batch = self._batch, []
        if not batch:
            return
        self.batches.append([(sequence, position, len(tokens)) for sequence, position, tokens, _ in batch])
        assert not self.is_closed
        assert 0 < sum(len(tokens) for _, _, tokens, _ in batch) <= self.num_batch + self.sequences
        self.on_decode()
        self.logits = {}
        if self.failures:
            self.failures -= 1
            raise EngineError("llama_decode gave -3")
        at = -1
        assert sum(wanted for _, _, _, wanted in batch) <= self.most_logits
        for sequence, position, tokens, wanted in batch:
            held = self.kv.setdefault(sequence, [])
            assert position == len(held), f"a hole in sequence {sequence}: {position} after {len(held)}"
            held += adapted(tokens, self.scales)
            at += len(tokens)
            assert len(held) <= self.cells
            for back in range(wanted):
                self.logits[at - back] = self.model(held[: len(held) - back])

    @property
    def batch_size(self) -> int:
        return self.num_batch + self.sequences

    def decode_rows(self, sequence: int, rows: npt.NDArray[Any], places: npt.NDArray[Any], *, is_causal: bool) -> None:
        """Each row is held as what its first value says."""
        assert not self._batch
        assert not self.is_closed
        assert 0 < len(rows) == places.shape[1] <= self.batch_size
        held = self.kv.setdefault(sequence, [])
        assert places[0].tolist() == list(range(len(held), len(held) + len(rows)))
        held += [int(row[0]) % VOCABULARY for row in rows]
        assert len(held) <= self.cells
        self.log.append(("rows", sequence, len(rows), is_causal))

    def cut(self, sequence: int, begin: int) -> bool:
        assert not self.is_closed
        assert begin <= len(self.kv.get(sequence, []))
        self.log.append(("cut", sequence, begin))
        if not self.can_drop:
            return False
        del self.kv[sequence][begin:]
        if not self.cuts:
            self.kv[sequence][:1] = [VOCABULARY - 1]
        return self.cuts

    def forget(self, sequence: int) -> None:
        assert not self.is_closed
        self.kv.pop(sequence, None)

    def fork(self, source: int, target: int) -> bool:
        assert not self.is_closed
        assert target not in self.kv, "a fork takes the place of a sequence"
        if self.forks:
            self.log.append(("fork", source, target))
            self.kv[target] = list(self.kv[source])
        return self.forks

    def shift(self, sequence: int, begin: int, end: int, used: int) -> bool:
        if not self.can_shift:
            return False
        assert 0 <= begin < end <= used == len(self.kv[sequence])
        self.log.append(("shift", sequence, begin, end))
        del self.kv[sequence][begin:end]
        return True

    def save(self, sequence: int) -> list[int]:
        assert not self.is_closed
        if not self.saves:
            raise EngineError(f"llama.cpp could not save sequence {sequence}")
        self.log.append(("save", sequence, len(self.kv[sequence])))
        return list(self.kv[sequence])

    def restore(self, sequence: int, state: list[int]) -> bool:
        assert not self.is_closed
        self.kv.pop(sequence, None)
        if not self.restores or len(state) > self.cells:
            return False
        self.log.append(("restore", sequence, len(state)))
        self.kv[sequence] = list(state)
        return True

    def close(self) -> None:
        assert not self.is_closed
        self.is_closed = True


@dataclass(slots=True)
class ToySampler:
    """Greedy: the context's logits are the token."""

    seen: list[int] = field(default_factory=list)
    draws_twice: bool = True
    is_closed: bool = False

    def see(self, tokens: Sequence[int]) -> None:
        self.seen += tokens

    def see_only(self, tokens: Sequence[int]) -> None:
        self.seen = list(tokens)

    def chances(self, context: ToyContext, index: int, token: int, top: int) -> tuple[float, list[tuple[int, float]]]:
        return -float(index), [(token, -float(index)), (END, -100.0)][:top]

    def draw(self, context: ToyContext, index: int) -> int:
        assert not self.is_closed
        self.seen.append(context.logits[index])
        return context.logits[index]

    def draw_among(self, context: ToyContext, index: int, allowed: npt.NDArray[np.bool_], *, keeps: bool = False) -> int:
        """The first one that is allowed, from the one on that it would draw."""
        wanted = self.draw(context, index)
        self.seen[-1] = int((np.roll(allowed, -wanted).argmax() + wanted) % VOCABULARY)
        return self.seen[-1]

    def close(self) -> None:
        assert not self.is_closed
        self.is_closed = True


@dataclass(slots=True)
class Outcome:
    """What one job has brought so far."""

    text: str = ""
    finish: Finish | None = None
    refusal: Frame | None = None

    @property
    def is_over(self) -> bool:
        return self.finish is not None or self.refusal is not None


class Toy:
    """A batcher on toy contexts, stepped by hand. `memory_for` tokens fit in memory; what is left goes to contexts."""

    def __init__(
        self,
        *,
        first: int = 4,
        most: int = 4,
        cells: int = 4096,
        num_batch: int = 64,
        memory_for: int = 1_000_000,
        adds_bos: bool = False,
        clock_s: Callable[[], float] | None = None,
        make_sampler: Callable[[], "ToySampler"] | None = None,
        filling: Fills | None = None,
        speculation: Plans | None = None,
        words: ToyWords | None = None,
        media: Media | None = None,
        adapters: int = 0,
        texts: Reads | None = None,
        below: Below[Any] | None = None,
        context_type: "type[ToyContext] | None" = None,
        **context: Any,
    ) -> None:
        self.made: list[ToyContext] = []
        self._memory_for = memory_for
        self._settings = {"num_batch": num_batch, **context}
        self._context_type = context_type or ToyContext
        self.words = words or ToyWords(adds_bos)
        self.samplers: list[ToySampler] = []
        self._new_sampler = make_sampler or ToySampler
        memory = KvMemory(self._make_context, sequences=first, cells=cells, most_sequences=most, most_cells=4096)
        self.slots = SlotTable(memory, can_drop=bool(context.get("can_drop", True)), below=below)
        guides = Grammars(Spelling(self.words))
        self.batcher = Batcher(
            self.slots,
            self.words,
            self._make_sampler,
            guides,
            most=most,
            num_batch=num_batch,
            filling=filling,
            speculation=speculation or Speculation(is_off=True),
            showing=Showing(media),
            adapters=adapters,
            texts=texts,
            now_s=clock_s or time.monotonic,
        )
        self.outcomes: dict[int, Outcome] = {}

    @property
    def context(self) -> ToyContext:
        assert self.slots.context is self.made[-1]
        return self.made[-1]

    def submit(self, prompt: str, *, num_ctx: int = 1000, **more: Any) -> int:
        number = len(self.outcomes) + 1
        self.outcomes[number] = Outcome()
        if refusal := self.batcher.submit(number, Job(prompt=prompt, num_ctx=num_ctx, **more)):
            self.outcomes[number].refusal = refusal
        return number

    def step(self, times: int = 1) -> None:
        for _ in range(times):
            for frame in self.batcher.step():
                self._take(frame)

    def finish(self) -> None:
        """Steps until nothing is left to do."""
        for _ in range(20_000):
            if not self.batcher.has_work:
                break
            self.step()
        assert not self.batcher.has_work
        assert all(sampler.is_closed for sampler in self.samplers)

    def run(self, prompt: str, **more: Any) -> Outcome:
        number = self.submit(prompt, **more)
        self.finish()
        return self.outcomes[number]

    def _take(self, frame: Frame) -> None:
        match frame:
            case StepFrame():
                assert frame.gains
                for gain in frame.gains:
                    outcome = self.outcomes[gain.job_id]
                    assert not outcome.is_over
                    assert gain.text or gain.finish
                    outcome.text += gain.text
                    outcome.finish = gain.finish
            case JobFailed() | Overflow():
                assert not self.outcomes[frame.job_id].is_over
                self.outcomes[frame.job_id].refusal = frame
            case _:
                raise AssertionError(frame)

    def _make_context(self, sequences: int, cells: int) -> ToyContext:
        if sequences * cells > self._memory_for:
            raise ModelLoadError("no memory")
        assert not self.made or self.made[-1].is_closed, "two contexts at once"
        self.made.append(self._context_type(sequences, cells, **self._settings))
        return self.made[-1]

    def _make_sampler(self, _job: Job) -> ToySampler:
        self.samplers.append(self._new_sampler())
        return self.samplers[-1]


def answer(
    prompt: str,
    *,
    num_ctx: int = 1000,
    adds_bos: bool = False,
    can_shift: bool = True,
    scales: Sequence[float] = (),
    **more: Any,
) -> tuple[str, str]:
    """The text and the reason to end, as the toy model gives them alone in a fresh context; token by token, without a cache."""
    job = Job(prompt=prompt, num_ctx=num_ctx, **more)
    tokens = [*job.prefix_tokens, *ToyWords(adds_bos).tokenize(prompt, add_special=not job.prefix_tokens)]
    size, text = len(tokens), ""
    limit = job.num_predict if 0 <= job.num_predict <= 10 * num_ctx else 10 * num_ctx
    for _ in range(limit):
        token = next_token(adapted(tokens, scales))
        if token == END:
            return text, "stop"
        tokens.append(token)
        text += chr(token)
        if ends := [text.index(stop) for stop in job.stop if stop in text]:
            return text[: min(ends)], "stop"
        if len(tokens) >= num_ctx:
            keep = min(size if job.num_keep < 0 else job.num_keep + adds_bos, size, max(0, num_ctx - 4))
            if not (job.shift and can_shift):
                return text, "length"
            del tokens[keep : keep + (len(tokens) - 1 - keep) // 2]
    return text, "length"
