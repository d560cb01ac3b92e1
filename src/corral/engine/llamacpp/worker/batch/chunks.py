"""How many tokens of prompts a step may have: so many as are computed in the time that others may wait for them.

Answers that are under way wait for a short moment, or where the model is slow as long as for two tokens of their own. While
there are none, whoever comes waits for the step, and so does a prompt that is given up: that may be a second. How quick the
model reads is measured on the steps themselves; a long prompt is read slower towards its end. Pure.

On a CPU, llama.cpp's attention takes tiles of 64 tokens of one sequence, and what is less than a tile token by token: behind
1,500 tokens, 63 took twice as long as 64. Beside answers the first token of a piece is computed with theirs, apart from the
rest of it. So a piece has whole tiles, and there one token more.
"""

from typing import Final

_GAP_S: Final = 0.08  # a prompt may make running answers wait about this long per step
_ALONE_S: Final = 1.0  # the same, where there are none
_PLAIN_STEPS: Final = 2  # a slow model's step may take as long as so many without a prompt
_LEAST: Final = 8  # tokens of prompts in a step, at least
_LEAST_ALONE: Final = 64
_TILE: Final = 64  # Source: llama.cpp ggml/src/ggml-cpu/ops.cpp, ggml_fa_tile_config
_NEAR_TILE: Final = 40  # tokens that take longer than a tile
_FIRST: Final = 32  # before anything was measured
_FIRST_ALONE: Final = 128
_LEARN: Final = 0.3  # weight of the newest measurement
_LEARN_SLOWER: Final = 0.6  # the same of one that is slower than was thought


class Chunks:
    """Of one model. A step has `num_batch` tokens at most."""

    def __init__(self, num_batch: int) -> None:
        self._num_batch = num_batch
        self._shared = 0.0  # tokens of prompts in a second of such steps
        self._alone = 0.0
        self._plain_s = 0.0  # what a step without a prompt takes

    def budget(self, *, is_shared: bool) -> int:
        """Tokens of prompts for the next step. `is_shared`: answers that are under way wait for it."""
        if is_shared:
            speed, wait_s = self._shared or self._alone, max(_GAP_S, _PLAIN_STEPS * self._plain_s)
            least, first = _LEAST, _FIRST
        else:
            speed, wait_s = self._alone or self._shared, _ALONE_S
            least, first = _LEAST_ALONE, _FIRST_ALONE
        return min(self._num_batch, _tiled(max(least, int(speed * wait_s)), more=is_shared) if speed else first)

    def learn(self, tokens: int, elapsed_s: float, *, is_shared: bool) -> None:
        """A step with so many tokens of prompts took so long, in all."""
        speed = tokens / max(elapsed_s, 1e-6)
        if is_shared:
            self._shared = _mean(self._shared, speed, _LEARN if speed > self._shared else _LEARN_SLOWER)
        else:
            self._alone = _mean(self._alone, speed, _LEARN if speed > self._alone else _LEARN_SLOWER)

    def learn_plain(self, elapsed_s: float) -> None:
        """The same of one without."""
        self._plain_s = _mean(self._plain_s, elapsed_s, _LEARN)


def _tiled(tokens: int, *, more: int) -> int:
    """About as many: whole tiles and so many more, or less than a tile."""
    if tokens < _NEAR_TILE:
        return tokens
    return max(_TILE, tokens - tokens % _TILE) + more


def _mean(before: float, newest: float, weight: float) -> float:
    return (1 - weight) * before + weight * newest if before else newest
