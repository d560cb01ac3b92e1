import signal

import pytest

from corral.core.errors import EngineError
from corral.engine.llamacpp.errand import ErrandFailedError, failure, reason

SAID = {
    "nothing": ([], "it gave no reason"),
    "blank": (["", " "], "it gave no reason"),
    "exception": (["Traceback (most recent call last):", '  File "x"', "ValueError: it is too large"], "it is too large"),
    "key": (["KeyError: 'hidden_size'"], "KeyError: 'hidden_size'"),
    "log": (["INFO:hf-to-gguf:Loading", "ERROR:hf-to-gguf:Model X is not supported"], "Model X is not supported"),
    "plain": (["this quantization requires an imatrix!", ""], "this quantization requires an imatrix!"),
    "empty-exception": (["AssertionError"], "AssertionError"),
    "own-error": (["corral.store.safetensors.SafetensorsError: damaged"], "damaged"),
}


@pytest.mark.parametrize(("said", "text"), SAID.values(), ids=SAID.keys())
def test_reason_is_the_last_word(said: list[str], text: str) -> None:
    assert reason(said) == text


def test_failure_tells_a_killed_child_from_one_that_crashed_and_one_that_refused() -> None:
    assert "ran out of memory" in str(failure(-signal.SIGKILL, []))
    assert str(failure(-signal.SIGSEGV, ["last words"])) == "the process that did it crashed (SIGSEGV): last words"
    refused = failure(1, ["ValueError: no"])
    assert isinstance(refused, ErrandFailedError)
    assert not isinstance(failure(-signal.SIGABRT, []), ErrandFailedError)
    assert isinstance(refused, EngineError)
    assert str(refused) == "no"
