"""Drawing the next token: one llama.cpp sampler chain a sequence, in the order of llama.cpp's own tools. Worker side."""

import random
from collections.abc import Sequence
from typing import Any, Final, Protocol

import llama_cpp.llama_cpp as api
import numpy as np
import numpy.typing as npt

from corral.core.types import Sampling

_INT32_MAX: Final = 2**31 - 1
_SEEDS: Final = 2**32 - 1  # llama.cpp's seeds are below it; this very number asks it for a random one


class Logits(Protocol):
    """Where the logits of a batch are."""

    pointer: Any

    def logits(self, index: int) -> npt.NDArray[np.float32]: ...


class Sampler:
    """Penalties, top_k, typical_p, top_p, min_p, temperature, then the draw; steps that would change nothing are left out.

    Source: llama.cpp common/sampling.cpp, common_sampler_init.
    """

    def __init__(self, sampling: Sampling, *, vocabulary_size: int, num_ctx: int) -> None:
        self._chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
        self._last_n = num_ctx if sampling.repeat_last_n < 0 else min(sampling.repeat_last_n, num_ctx)
        self._has_penalties = self._last_n > 0 and (
            sampling.repeat_penalty not in (0.0, 1.0) or sampling.presence_penalty != 0 or sampling.frequency_penalty != 0
        )
        self._is_greedy = sampling.temperature <= 0 and not self._has_penalties
        for step in self._steps(sampling, vocabulary_size):
            api.llama_sampler_chain_add(self._chain, step)

    def _steps(self, sampling: Sampling, vocabulary_size: int) -> list[Any]:
        steps: list[Any] = []
        if self._has_penalties:
            repeat = sampling.repeat_penalty if sampling.repeat_penalty > 0 else 1.0
            steps.append(
                api.llama_sampler_init_penalties(
                    vocabulary_size, self._last_n, repeat, sampling.frequency_penalty, sampling.presence_penalty
                )
            )
        if sampling.temperature <= 0:
            return [*steps, api.llama_sampler_init_greedy()]
        if sampling.top_k > 0:
            steps.append(api.llama_sampler_init_top_k(min(sampling.top_k, _INT32_MAX)))
        if sampling.typical_p < 1:
            steps.append(api.llama_sampler_init_typical(sampling.typical_p, 0))
        if sampling.top_p < 1:
            steps.append(api.llama_sampler_init_top_p(sampling.top_p, 0))
        if sampling.min_p > 0:
            steps.append(api.llama_sampler_init_min_p(sampling.min_p, 0))
        steps.append(api.llama_sampler_init_temp(sampling.temperature))
        seed = random.randrange(_SEEDS) if sampling.seed < 0 else sampling.seed % _SEEDS  # noqa: S311  not a secret
        steps.append(api.llama_sampler_init_dist(seed))
        return steps

    def see(self, prompt: Sequence[int]) -> None:
        """Lets the penalties know what the prompt ends with."""
        if self._has_penalties:
            for token in prompt[-self._last_n :]:
                api.llama_sampler_accept(self._chain, token)

    def draw(self, context: Logits, index: int) -> int:
        """The next token, from the logits of that index of the last batch."""
        if self._is_greedy:
            return int(context.logits(index).argmax())
        return int(api.llama_sampler_sample(self._chain, context.pointer, index))

    def close(self) -> None:
        if self._chain:
            api.llama_sampler_free(self._chain)
            self._chain = None
