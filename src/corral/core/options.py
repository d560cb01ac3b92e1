"""A model's options as clients and Modelfiles give them: a table of names and types, checked, merged, resolved.

Unknown names are ignored, null means absent, a whole-number option takes a float by dropping its fraction. So does a size
below 1, which is how programs say that they leave it to the server.
A value of a wrong type, or beyond what that type holds, is a BadRequestError in Ollama's words.
Source: ollama@v0.32 api/types.go, Options.FromMap.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal

from corral.core.errors import BadRequestError
from corral.core.types import Sampling

OptionKind = Literal["integer", "float32", "boolean", "string", "array", "biases", "adapters"]

SAMPLING_OPTIONS: Final[Mapping[str, OptionKind]] = {
    "temperature": "float32",
    "top_k": "integer",
    "top_p": "float32",
    "min_p": "float32",
    "typical_p": "float32",
    "repeat_last_n": "integer",
    "repeat_penalty": "float32",
    "presence_penalty": "float32",
    "frequency_penalty": "float32",
    "seed": "integer",
    "top_n_sigma": "float32",
    "xtc_probability": "float32",
    "xtc_threshold": "float32",
    "dry_multiplier": "float32",
    "dry_base": "float32",
    "dry_allowed_length": "integer",
    "dry_penalty_last_n": "integer",
    "dry_sequence_breakers": "array",
    "dynatemp_range": "float32",
    "dynatemp_exponent": "float32",
    "mirostat": "integer",
    "mirostat_tau": "float32",
    "mirostat_eta": "float32",
    "logit_bias": "biases",
}
OPTION_KINDS: Final[Mapping[str, OptionKind]] = {
    **SAMPLING_OPTIONS,
    "num_keep": "integer",
    "num_predict": "integer",
    "stop": "array",
    "num_ctx": "integer",
    "num_batch": "integer",
    "num_gpu": "integer",
    "main_gpu": "integer",
    "use_mmap": "boolean",
    "num_thread": "integer",
    "draft_num_predict": "integer",
    "think_budget": "integer",
    "n_probs": "integer",
    "lora": "adapters",
}
_INT32: Final = (-(2**31), 2**31)
_INT32_DIGITS: Final = 10
_WIDER: Final = {"seed": (-(2**63), 2**63)}
_FLOAT32_MAX: Final = (2 - 2**-23) * 2.0**127
_SIZES: Final = ("num_ctx", "num_batch")
_MOST_BIASES: Final = 1000
_MOST_BIAS_CHARS: Final = 16 << 10  # of all texts in them together: they are tokenized while others wait


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """The known options among these, each of its type; unknown ones, nulls and sizes below 1 are left out.

    Raises BadRequestError for a value of a wrong type.
    """
    typed = {
        name: _typed(name, OPTION_KINDS[name], value)
        for name, value in options.items()
        if name in OPTION_KINDS and value is not None
    }
    return {name: value for name, value in typed.items() if name not in _SIZES or value >= 1}


def _typed(name: str, kind: OptionKind, value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    low, high = _WIDER.get(name, _INT32)
    match kind:
        case "integer" if is_number and low <= value < high:
            return int(value)
        case "float32" if is_number and abs(value) <= _FLOAT32_MAX:
            return float(value)
        case "boolean" if isinstance(value, bool):
            return value
        case "string" if isinstance(value, str):
            return value
        case "array" if isinstance(value, list | tuple):
            return _strings(name, value)
        case "biases" if isinstance(value, list | tuple | Mapping):
            return _biases(name, list(value.items()) if isinstance(value, Mapping) else value)
        case "adapters" if isinstance(value, list | tuple):
            return _adapters(name, value)
        case _:
            raise BadRequestError(f'option "{name}" must be of type {kind}')


def _strings(name: str, value: Sequence[Any]) -> tuple[str, ...]:
    if not all(isinstance(item, str) for item in value):
        raise BadRequestError(f'option "{name}" must be of an array of strings')
    return tuple(value)


def _biases(name: str, pairs: Sequence[Any]) -> tuple[tuple[int | str, float], ...]:
    if len(pairs) > _MOST_BIASES:
        raise BadRequestError(f'option "{name}" has {len(pairs)} pairs; it may have {_MOST_BIASES}')
    biases = tuple(_bias(name, pair) for pair in pairs)
    if (size := sum(len(token) for token, _ in biases if isinstance(token, str))) > _MOST_BIAS_CHARS:
        raise BadRequestError(f'option "{name}" has texts of {size} characters; it may have {_MOST_BIAS_CHARS}')
    return biases


def _bias(name: str, pair: Any) -> tuple[int | str, float]:
    """A token, by its number or as text, and what its logit gains; false stands for never.

    Source: llama.cpp tools/server/README.md, logit_bias; a number in quotes is a number, as OpenAI's clients send it.
    """
    match pair:
        case [int() | str() as token, bool() | int() | float() as gain] if token is not True and token is not False:
            if gain is True or math.isnan(gain) or (isinstance(token, int) and not 0 <= token < _INT32[1]):
                pass
            elif isinstance(token, str) and token.isascii() and token.isdecimal():
                if len(token) <= _INT32_DIGITS and int(token) < _INT32[1]:
                    return int(token), -math.inf if gain is False else float(gain)
            elif token != "":
                return token, -math.inf if gain is False else float(gain)
    raise BadRequestError(f'option "{name}" must be of pairs of a token, by its number or as text, and a number or false')


def _adapters(name: str, value: Sequence[Any]) -> tuple[tuple[int, float], ...]:
    adapters = tuple(_adapter(name, item) for item in value)
    for (before, _), (place, _) in pairwise(sorted(adapters)):
        if place == before:
            raise BadRequestError(f'option "{name}" names adapter {place} more than once')
    return adapters


def _adapter(name: str, item: Any) -> tuple[int, float]:
    """An adapter, by its place among those of the model, and how much of it is applied.

    Source: llama.cpp tools/server/README.md, lora.
    """
    match item:
        case {"id": int() as place, "scale": int() | float() as scale} if not isinstance(place, bool):
            if 0 <= place < _INT32[1] and not isinstance(scale, bool) and abs(scale) <= _FLOAT32_MAX:
                return place, float(scale)
    raise BadRequestError(f'option "{name}" must be of objects with an "id", a whole number from 0 on, and a "scale", a number')


def adapter_scales(adapters: Sequence[tuple[int, float]], count: int) -> tuple[float, ...]:
    """The scales of all `count` adapters of a model: 0 for those not named, 1 for all where none is.

    Raises BadRequestError for one that the model does not have. Source: llama.cpp tools/server, construct_lora_list.
    """
    if not adapters:
        return (1.0,) * count
    scales = [0.0] * count
    for place, scale in adapters:
        if place >= count:
            has = f"has {count}, which are numbered from 0 on" if count else "has none"
            raise BadRequestError(f'option "lora" names adapter {place}, and the model {has}')
        scales[place] = scale
    return tuple(scales)


@dataclass(frozen=True, slots=True)
class Options:
    """All options of one request, resolved: the request's over the model's own over the defaults."""

    sampling: Sampling
    stop: tuple[str, ...] = ()
    num_predict: int = -1
    num_keep: int = 4
    num_ctx: int | None = None  # None: nobody asked; the scheduler chooses
    num_batch: int | None = None  # None: nobody asked; the scheduler chooses
    num_gpu: int = -1
    main_gpu: int = 0
    use_mmap: bool | None = None
    num_thread: int = 0
    draft_num_predict: int = -1  # tokens that a step may compute on a guess, at most; negative: as many as pay; 0: none
    think_budget: int = -1  # tokens that a thought may have; negative: any number
    lora: tuple[
        tuple[int, float], ...
    ] = ()  # the adapters to apply, by their places, and how much of each; (): all, as they are
    n_probs: int = 0  # likeliest tokens to tell beside each token of the answer; 0 or less: none

    @classmethod
    def resolve(cls, *layers: Mapping[str, Any]) -> "Options":
        """Merges option mappings, later ones over earlier ones. Raises BadRequestError for a wrong type."""
        merged: dict[str, Any] = {}
        for layer in layers:
            merged |= checked(layer)
        sampling = Sampling(**{name: merged[name] for name in SAMPLING_OPTIONS if name in merged})
        rest = {name: value for name, value in merged.items() if name not in SAMPLING_OPTIONS}
        return cls(sampling=sampling, **rest)
