"""Drawing the next token: one llama.cpp sampler chain a sequence, in the order of llama.cpp's own tools. Worker side."""

import ctypes
import math
import random
from collections.abc import Sequence
from typing import Any, Final, Protocol

import llama_cpp.llama_cpp as api
import numpy as np
import numpy.typing as npt

from corral.core.errors import BadRequestError
from corral.core.types import Sampling

_INT32_MAX: Final = 2**31 - 1
_MIROSTATS: Final = (1, 2)  # its versions
_MIROSTAT_M: Final = 100  # tokens from which the first version estimates the distribution; llama.cpp's choice
_SEEDS: Final = 2**32 - 1  # llama.cpp's seeds are below it; this very number asks it for a random one


class Logits(Protocol):
    """Where the logits of a batch are."""

    pointer: Any

    def logits(self, index: int) -> npt.NDArray[np.float32]: ...


class Vocabulary(Protocol):
    pointer: Any
    size: int
    suppressed: tuple[int, ...]  # tokens that the model's makers never want to see

    def tokenize(self, text: str, *, add_special: bool) -> list[int]: ...


class Sampler:
    """Biases, penalties, DRY, top-n-sigma, top_k, typical_p, top_p, min_p, XTC, temperature, then the draw.

    Steps that would change nothing are left out. Mirostat takes the place of all that follow the biases, as in llama.cpp.
    Source: llama.cpp common/sampling.cpp, common_sampler_init.
    """

    def __init__(self, sampling: Sampling, *, vocabulary: Vocabulary, num_ctx: int) -> None:
        self._chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
        self._last_n = 0  # tokens that the penalties look back at
        self._vocabulary = vocabulary
        self._seed = random.randrange(_SEEDS) if sampling.seed < 0 else sampling.seed % _SEEDS  # noqa: S311  not a secret
        self._never: list[int] = []
        self._remembering = self._penalties(sampling, num_ctx)
        self.draws_twice = sampling.mirostat not in _MIROSTATS  # nothing else learns from a draw
        before = [*self._biases(sampling), *self._remembering]
        self._is_greedy = sampling.temperature <= 0 and not before
        for step in (*before, *self._choice(sampling)):
            api.llama_sampler_chain_add(self._chain, step)

    def _biases(self, sampling: Sampling) -> list[Any]:
        gains = dict.fromkeys(self._vocabulary.suppressed, -math.inf)
        for token, gain in sampling.logit_bias:
            found = self._vocabulary.tokenize(token, add_special=False) if isinstance(token, str) else [token]
            gains |= {number: gain for number in found if number < self._vocabulary.size}
        if not gains:
            return []
        self._never = [token for token, gain in gains.items() if gain == -math.inf]
        biases = (api.llama_logit_bias * len(gains))(*(api.llama_logit_bias(*gain) for gain in gains.items()))
        return [api.llama_sampler_init_logit_bias(self._vocabulary.size, len(gains), biases)]

    def _penalties(self, sampling: Sampling, num_ctx: int) -> list[Any]:
        """What depends on the tokens so far. Mirostat looks at none of them."""
        if sampling.mirostat in _MIROSTATS:
            return []
        steps: list[Any] = []
        last_n = num_ctx if sampling.repeat_last_n < 0 else min(sampling.repeat_last_n, num_ctx)
        has_penalties = sampling.repeat_penalty not in (0.0, 1.0) or sampling.presence_penalty or sampling.frequency_penalty
        if last_n and has_penalties:
            repeat = sampling.repeat_penalty if sampling.repeat_penalty > 0 else 1.0
            steps.append(
                api.llama_sampler_init_penalties(
                    self._vocabulary.size, last_n, repeat, sampling.frequency_penalty, sampling.presence_penalty
                )
            )
            self._last_n = last_n
        dry_last_n = num_ctx if sampling.dry_penalty_last_n < 0 else min(sampling.dry_penalty_last_n, num_ctx)
        if dry_last_n and sampling.dry_multiplier > 0 and sampling.dry_base >= 1:
            breakers = [text.encode() for text in sampling.dry_sequence_breakers if text]
            steps.append(
                api.llama_sampler_init_dry(
                    self._vocabulary.pointer,
                    sampling.dry_multiplier,
                    sampling.dry_base,
                    sampling.dry_allowed_length,
                    dry_last_n,
                    (ctypes.c_char_p * len(breakers))(*breakers),
                    len(breakers),
                )
            )
            self._last_n = max(self._last_n, dry_last_n)
        return steps

    def _choice(self, sampling: Sampling) -> list[Any]:
        """Which tokens are left over, and which of them it is."""
        if sampling.temperature <= 0:
            return [api.llama_sampler_init_greedy()]
        seed = self._seed
        if sampling.mirostat in _MIROSTATS:
            temperature = api.llama_sampler_init_temp(sampling.temperature)
            tau, eta = sampling.mirostat_tau, sampling.mirostat_eta
            if sampling.mirostat == 1:
                return [temperature, api.llama_sampler_init_mirostat(self._vocabulary.size, seed, tau, eta, _MIROSTAT_M)]
            return [temperature, api.llama_sampler_init_mirostat_v2(seed, tau, eta)]
        steps: list[Any] = []
        if sampling.top_n_sigma > 0:
            steps.append(api.llama_sampler_init_top_n_sigma(sampling.top_n_sigma))
        if sampling.top_k > 0:
            steps.append(api.llama_sampler_init_top_k(min(sampling.top_k, _INT32_MAX)))
        if sampling.typical_p < 1:
            steps.append(api.llama_sampler_init_typical(sampling.typical_p, 0))
        if sampling.top_p < 1:
            steps.append(api.llama_sampler_init_top_p(sampling.top_p, 0))
        if sampling.min_p > 0:
            steps.append(api.llama_sampler_init_min_p(sampling.min_p, 0))
        if sampling.xtc_probability > 0:
            steps.append(api.llama_sampler_init_xtc(sampling.xtc_probability, sampling.xtc_threshold, 0, seed))
        temperature, spread = sampling.temperature, sampling.dynatemp_range
        steps.append(api.llama_sampler_init_temp_ext(temperature, spread, sampling.dynatemp_exponent))
        steps.append(api.llama_sampler_init_dist(seed))
        return steps

    def see(self, tokens: Sequence[int]) -> None:
        """Lets the penalties know what these tokens end with. Those that are drawn they see by themselves."""
        for token in tokens[-self._last_n :] if self._last_n else ():
            if token >= 0:  # else it stands for a part of an image
                api.llama_sampler_accept(self._chain, token)

    def see_only(self, tokens: Sequence[int]) -> None:
        """Lets the penalties forget all that they saw: a token was drawn that is not taken."""
        for step in self._remembering:
            api.llama_sampler_reset(step)
        self.see(tokens)

    def draw(self, context: Logits, index: int) -> int:
        """The next token, from the logits of that index of the last batch."""
        if self._is_greedy:
            return int(context.logits(index).argmax())
        return int(api.llama_sampler_sample(self._chain, context.pointer, index))

    def draw_among(self, context: Logits, index: int, allowed: npt.NDArray[np.bool_], *, keeps: bool = False) -> int:
        """The next token, one of these. The logits are changed, unless they are to be kept.

        Raises BadRequestError where the biases allow none of them.
        """
        if self._never:
            allowed[self._never] = False
            if not allowed.any():
                raise BadRequestError("logit_bias leaves the answer no token that its grammar takes")
        logits = context.logits(index)
        kept = logits.copy() if keeps else None
        np.putmask(logits, ~allowed, -np.inf)
        token = self.draw(context, index)
        if kept is not None:
            logits[:] = kept
        return token

    def chances(self, context: Logits, index: int, token: int, top: int) -> tuple[float, list[tuple[int, float]]]:
        """The logarithm of that token's probability, and the `top` likeliest tokens with theirs, best first."""
        logits = context.logits(index).astype(np.float64)
        largest = logits.max()
        total = largest + math.log(np.exp(logits - largest).sum())
        top = min(top, len(logits) - 1)
        best = np.argpartition(-logits, top)[:top]
        best = best[np.argsort(-logits[best], kind="stable")]
        return float(logits[token] - total), [(int(other), float(logits[other] - total)) for other in best]

    def close(self) -> None:
        if self._chain:
            api.llama_sampler_free(self._chain)
            self._chain = None
