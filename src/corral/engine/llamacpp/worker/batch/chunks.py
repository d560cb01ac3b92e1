"""How many tokens of prompts a step may have: so many as are computed in the time that others may wait for them.

Answers that are under way wait for a short moment, or where the model is slow as long as for two tokens of their own. While
there are none, whoever comes waits for the step, and so does a prompt that is given up: that may be a second. How quick the
model reads is measured on the steps themselves; a long prompt is read slower towards its end. Pure.

On a CPU, llama.cpp's attention takes tiles of 64 tokens of one sequence, and what is less than a tile token by token: behind
1,500 tokens, 63 took twice as long as 64. Beside answers the first token of a piece is computed with theirs, apart from the
rest of it. So a piece has whole tiles, and there one token more.
"""

from typing import Final

_GAP_S: Final = 0.08  # a prompt may make running answers wait about so much longer per step; or as long again as they do
_ALONE_S: Final = 1.0  # the same, where there are none
_LEAST: Final = 8  # tokens of prompts in a step, at least
_LEAST_QUICK: Final = 32  # the same, where these make nobody wait for long: small steps cost more a token
_LONG_GAP_S: Final = 0.3
_LEAST_ALONE: Final = 64
TILE: Final = 64  # Source: llama.cpp ggml/src/ggml-cpu/ops.cpp, ggml_fa_tile_config
_NEAR_TILE: Final = 40  # tokens that take longer than a tile
_FIRST: Final = 32  # before anything was measured
_FIRST_ALONE: Final = 128
_LEARN: Final = 0.3  # weight of the newest measurement
_LEARN_SLOWER: Final = 0.6  # the same of one that is slower than was thought


class Chunks:
    """Of one model. A step has `num_batch` tokens at most."""

    def __init__(self, num_batch: int) -> None:
        self._num_batch = num_batch
        self._alone = 0.0  # tokens of prompts in a second of steps without answers
        self._shared = {True: 0.0, False: 0.0}  # the same beside answers, of pieces of whole tiles and of smaller ones
        self._plain_s = 0.0  # what a step without a prompt takes

    def budget(self, *, is_shared: bool, has_tiles: bool = False) -> int:
        """Tokens of prompts for the next step. `is_shared`: answers that are under way wait for it.

        `has_tiles`: they are of one prompt, which has a tile of them.
        """
        if not is_shared:
            size = max(_LEAST_ALONE, int(self._alone * _ALONE_S)) if self._alone else _FIRST_ALONE
        elif speed := self._shared[has_tiles] or self._alone:
            size = max(_least(speed), int(speed * max(_GAP_S, self._plain_s)))
            if has_tiles and speed * _LONG_GAP_S >= TILE:
                size = max(size, TILE)
        else:
            size = _FIRST
        return min(self._num_batch, _tiled(size, more=is_shared))

    def learn(self, tokens: int, elapsed_s: float, *, is_shared: bool, has_tiles: bool = False) -> None:
        """A step with so many tokens of prompts took so long, in all; beside answers, which take their part of it."""
        if not is_shared:
            self._alone = _learned(self._alone, tokens, elapsed_s)
            return
        own_s = max(elapsed_s - self._plain_s, elapsed_s / 2)
        has_tiles = has_tiles and tokens >= TILE
        self._shared[has_tiles] = _learned(self._shared[has_tiles], tokens, own_s)

    def learn_plain(self, elapsed_s: float) -> None:
        """The same of one without."""
        self._plain_s = _mean(self._plain_s, elapsed_s, _LEARN)


def _least(speed: float) -> int:
    return _LEAST_QUICK if speed * _LONG_GAP_S >= _LEAST_QUICK else _LEAST


def _learned(before: float, tokens: int, elapsed_s: float) -> float:
    speed = tokens / max(elapsed_s, 1e-6)
    return _mean(before, speed, _LEARN if speed > before else _LEARN_SLOWER)


def _tiled(tokens: int, *, more: int) -> int:
    """About as many: whole tiles and so many more, or less than a tile."""
    if tokens < _NEAR_TILE:
        return tokens
    return max(TILE, tokens - tokens % TILE) + more


def _mean(before: float, newest: float, weight: float) -> float:
    return (1 - weight) * before + weight * newest if before else newest
