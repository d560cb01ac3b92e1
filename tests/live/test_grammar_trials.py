"""Grammars tried in a process of their own: what takes too long there is refused, and all else passes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from corral.core.errors import BadRequestError
from corral.core.types import Grammar
from corral.engine.llamacpp.worker.grammar.trials import Trials, Words
from corral.parse.grammars import answer_grammar
from tests.support.live_engine import Watch

WORDS = Words([*(bytes([byte]) for byte in range(256)), b"<end>"], [256])
INTERSECTED = {"type": "string", "allOf": [{"pattern": f"(a|b)*a(a|b){{{size}}}"} for size in range(1, 18)]}


@pytest.fixture
def trials() -> Iterator[Trials]:
    made = Trials(WORDS)
    yield made
    made.close()


def grammar(**asked: Any) -> Grammar:
    made = answer_grammar(**asked)
    assert made
    return made


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"choice": [f"choice number {number}" for number in range(5000)]}, id="choices"),
        pytest.param(
            {"format_": {"properties": {f"key{number}": {"type": "string"} for number in range(500)}}}, id="properties"
        ),
        pytest.param({"format_": {"const": "x" * 60_000}}, id="text"),
        pytest.param({"format_": {"allOf": [{"pattern": f"[a-z]{{{size}}}"} for size in range(1, 3)]}}, id="patterns"),
        pytest.param({"grammar": 'root ::= "[" (word ","){10} word "]"\nword ::= [a-z]+'}, id="gbnf"),
    ],
)
def test_large_grammar_passes(trials: Trials, asked: dict[str, Any]) -> None:
    trials.hold(grammar(**asked))


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        pytest.param({"format_": INTERSECTED}, r"more than \d s .*to compile", id="patterns met together"),
        pytest.param({"regex": ".?" * 9000}, r"more than \d s .*to compile", id="long regex"),
        pytest.param({"format_": {"const": "x" * 200_000}}, "dictates 200002 bytes at once, and may dictate 65536", id="text"),
        pytest.param({"grammar": "root ::= " + "[a-z]* [0-9]* " * 4000}, "takes", id="ways to go on"),
        pytest.param({"grammar": "root ::= a b"}, "cannot be used", id="wrong"),
    ],
)
def test_grammar_that_takes_too_much_is_refused(trials: Trials, asked: dict[str, Any], reason: str) -> None:
    began_s = time.monotonic()
    with pytest.raises(BadRequestError, match=reason) as caught:
        trials.hold(grammar(**asked))
    assert time.monotonic() - began_s < 20  # of which a busy machine takes most
    assert "\n" not in str(caught.value)
    trials.hold(grammar(choice=["yes", "no"]))


def test_refused_grammar_is_not_tried_again(trials: Trials) -> None:
    for _ in range(2):
        with pytest.raises(BadRequestError, match=r"takes more than \d s"):
            trials.hold(grammar(format_=INTERSECTED))
    assert not trials.pid


def test_process_that_ended_is_started_again(trials: Trials) -> None:
    trials.hold(grammar(choice=["yes", "no"]))
    first = trials.pid
    os.kill(first, signal.SIGTERM)
    trials.hold(grammar(choice=["yes", "maybe"]))
    assert trials.pid not in (0, first)


def test_process_that_ran_out_of_memory_refuses(trials: Trials) -> None:
    trials.hold(grammar(choice=["yes", "no"]))
    os.kill(trials.pid, signal.SIGABRT)
    with pytest.raises(BadRequestError, match="more than 1024 MB to compile"):
        trials.hold(grammar(choice=["yes", "maybe"]))


def test_process_is_gone_with_its_owner() -> None:
    trials = Trials(WORDS)
    trials.hold(grammar(choice=["yes", "no"]))
    with Watch(trials.pid) as watch:
        del trials
        assert watch.is_gone(10)


def test_process_ends_with_its_worker_in_the_middle_of_a_trial() -> None:
    script = (
        "import sys, threading, time\n"
        "from tests.live.test_grammar_trials import *\n"
        "trials = Trials(WORDS)\n"
        "trials.hold(grammar(choice=['a', 'b']))\n"
        "print(trials.pid, flush=True)\n"
        "trials.hold(grammar(regex='.?' * 9000))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as owner:
        assert owner.stdout
        with Watch(int(owner.stdout.readline())) as watch:
            owner.kill()
            assert watch.is_gone(10)
