"""The lines of the table that are about the life of a process: a restart, a cold start, and the memory that it takes."""

import asyncio
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from contest import slots_name
from corral.cli.bench.texts import drawing, filler
from footprints import beyond_mb
from http_load import at_once
from servers import NAME, STANDBY_S, Server, corral, peer, peer_process
from subjects import Setting
from verdicts import OURS, Figures, Line, Outcome, at_most

_COLD: Final = "cold"
_SLOTS: Final = (8, 1)
_PEERS: Final = tuple(map(slots_name, _SLOTS))
_KNOWN_TOKENS: Final = 1300
_WRITE_S: Final = 2.0  # what is to outlive a server is written behind its back
_STREAMS: Final = 16
_STREAM_TOKENS: Final = 64
_LOG: Final = {"CORRAL_DEBUG": "1"}
_LOG_OF_PEER: Final = ("-lv", "4")


@dataclass(frozen=True, slots=True)
class Restart:
    """Corral alone: a prompt that it read before it was stopped, by the time that reading it took then."""

    name: str = "restart"
    lines: tuple[Line, ...] = (
        Line("restart", "known 1,300-token prompt after a restart: first token", "s", (at_most(1 / 10, _COLD),)),
    )

    def measure(self, setting: Setting) -> Outcome:
        gguf, rounds = setting.subject.gguf(), list[Figures]()
        with tempfile.TemporaryDirectory() as store, tempfile.TemporaryDirectory() as kv:
            with corral(store=Path(store)) as server:
                server.add(NAME, gguf)
            for number in range(setting.rounds):
                setting.tell(f"{self.name}: round {number + 1}")
                prompt = f"{number}. {filler(drawing(setting.seed, number, 'known'), _KNOWN_TOKENS)}"
                cold_s, known_s = (_first_token_s(Path(store), kv, prompt, other) for other in ("Before", "After"))
                rounds.append({_COLD: cold_s, OURS: known_s})
        return Outcome({self.lines[0].key: rounds})


def _first_token_s(store: Path, kv: str, prompt: str, other: str) -> float:
    """Of the prompt, in a server just started that has loaded the model for another one."""
    with corral({"CORRAL_KV_DIR": kv}, store=store) as server:
        _generate_s(server, f"{other} that", tokens=1)
        time.sleep(STANDBY_S)
        took_s = _generate_s(server, prompt, tokens=8)
        time.sleep(_WRITE_S)
        return took_s


def _generate_s(server: Server, prompt: str, *, tokens: int) -> float:
    """Time to the first token."""
    return asyncio.run(at_once(server.port, "/api/generate", [_body(prompt, tokens)]))[0].ttft_s


def _body(prompt: str, tokens: int) -> Mapping[str, Any]:
    return {"model": NAME, "prompt": prompt, "raw": True, "options": {"num_predict": tokens, "temperature": 0}}


@dataclass(frozen=True, slots=True)
class ColdLoad:
    """From a request for a model that is not loaded to its first token; the peer's from the start of its process."""

    name: str = "cold"
    lines: tuple[Line, ...] = (Line("cold", "cold load to first token", "s", (at_most(1.0, *_PEERS),)),)

    def measure(self, setting: Setting) -> Outcome:
        subject, rounds = setting.subject, list[Figures]()
        gguf = subject.gguf()
        with corral() as server:
            server.add(NAME, gguf)
            for number in range(setting.rounds):
                setting.tell(f"{self.name}: round {number + 1}")
                time.sleep(STANDBY_S)
                found = {OURS: _generate_s(server, "Why is the sky blue?", tokens=1)}
                asyncio.run(at_once(server.port, "/api/generate", [{"model": NAME, "keep_alive": 0}]))
                time.sleep(STANDBY_S)
                for slots, name in zip(_SLOTS, _PEERS, strict=True):
                    found[name] = _peer_s(gguf, slots, subject.peer_options(slots))
                rounds.append(found)
        return Outcome({self.lines[0].key: rounds})


def _peer_s(gguf: Path, slots: int, options: list[str]) -> float:
    began_s = time.monotonic()
    with peer(gguf, slots, options) as port:
        asyncio.run(at_once(port, "/completion", [{"prompt": "Why is the sky blue?", "n_predict": 1}]))
        return time.monotonic() - began_s


@dataclass(frozen=True, slots=True)
class Memory:
    """After 16 streams at once, when all that a server keeps ready is there. The peer's figure is there to compare with."""

    name: str = "memory"
    lines: tuple[Line, ...] = (Line("memory", "memory beyond weights and KV cache", "MB", (at_most(250.0),)),)

    def measure(self, setting: Setting) -> Outcome:
        subject = setting.subject
        gguf = subject.gguf()
        prompts = [f"{number}. Once upon a time" for number in range(_STREAMS)]
        found = dict[str, float]()
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "log"
            with corral(_LOG, log=log) as server:
                setting.tell(f"{self.name}: {OURS}")
                server.add(NAME, gguf)
                asyncio.run(at_once(server.port, "/api/generate", [_body(prompt, _STREAM_TOKENS) for prompt in prompts]))
                time.sleep(STANDBY_S)
                found[OURS] = beyond_mb(server.pid, gguf, log)
            for slots, name in zip(_SLOTS, _PEERS, strict=True):
                setting.tell(f"{self.name}: {name}")
                with peer_process(gguf, slots, [*subject.peer_options(slots), *_LOG_OF_PEER], log) as (port, pid):
                    bodies = [{"prompt": prompt, "n_predict": _STREAM_TOKENS} for prompt in prompts]
                    asyncio.run(at_once(port, "/completion", bodies))
                    found[name] = beyond_mb(pid, gguf, log)
        return Outcome({self.lines[0].key: [found]})


LIFETIME_ROWS: Final = (Restart(), ColdLoad(), Memory())
