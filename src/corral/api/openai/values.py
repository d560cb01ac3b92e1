"""What chat and completions take alike: sampling options, limits, stops, thinking, and what is refused by name.

The model's own parameters hold where a request is silent, so nothing is filled in. Where OpenAI has a range, it is checked.
"""

import secrets
from collections.abc import Iterator, Mapping
from typing import Any, Final

from corral.api.clients import named, priority_of
from corral.api.errors import FieldError, UnsupportedFieldError
from corral.api.values import choice, keep_alive, quoted, think
from corral.core.errors import BadRequestError
from corral.service.requests import Think
from corral.wire import openai as wire

MAX_CHOICES: Final = 128  # answers to one prompt. Source: OpenAI's API reference
_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "min_p": (0, 1),
}
_PLAIN: Final = ("seed", "top_k", "num_ctx", "repeat_penalty")
_SEEDS: Final = 2**63
_MAX_BIAS: Final = 100
_EFFORTS: Final[Mapping[str, Think]] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "max": "max",
    "xhigh": "max",
    "ultra": "max",
}
_EFFORT_WORDS: Final = '"minimal", "low", "medium", "high", "xhigh", "ultra", "max", or "none"'
_TIERS: Final[Mapping[str, int]] = {"auto": 0, "default": 0, "scale": 0, "flex": 1, "priority": -1}  # with their priorities
_STRUCTURED: Final = "send response_format, grammar, regex or choice instead"
_REFUSED: Final[Mapping[str, str]] = {
    "audio": "no model here speaks; leave it out",
    "prediction": "leave it out",
    "web_search_options": "the server does not search the web; send a tool of your own",
    "functions": "it is an old form; send tools",
    "function_call": "it is an old form; send tool_choice",
    "moderation": "leave it out",
    "chat_template": "give the model another template, as a Modelfile does",
    "chat_template_kwargs": "send think to switch thinking on or off",
    "structured_outputs": _STRUCTURED,
    "guided_json": _STRUCTURED,
    "guided_regex": _STRUCTURED,
    "guided_choice": _STRUCTURED,
    "guided_grammar": _STRUCTURED,
    "min_tokens": "leave it out",
    "ignore_eos": "leave it out",
    "stop_token_ids": "send stop",
    "bad_words": "send logit_bias",
    "prompt_logprobs": "the logprobs of a prompt are not computed; leave it out",
    "use_beam_search": "leave it out",
}


def check_refused(request: wire.GenerationRequest) -> None:
    """Raises UnsupportedFieldError for what would change the answer and cannot be had; what is off or empty passes."""
    for name, advice in _REFUSED.items():
        value = getattr(request, name, None)
        if value not in (None, False, 0, "", [], {}):
            raise refused(name, advice)


def refused(field: str, advice: str) -> UnsupportedFieldError:
    return UnsupportedFieldError(field, f"{field} is not supported: {advice}")


def generation(request: wire.GenerationRequest) -> dict[str, Any]:
    """The fields of a domain request that chat and completions have in common, but for the format."""
    check_refused(request)
    return {
        "model": request.model or "",
        "keep_alive_s": keep_alive(request.keep_alive),
        "think": think(request.think),
        "options": dict(_options(request)),
        "grammar": request.grammar or "",
        "regex": request.regex or "",
        "choice": choice(request.choice),
        "priority": _TIERS[_tier(request)] if request.priority is None else priority_of(request.priority),
    }


def user_of(client: str, request: wire.GenerationRequest) -> str:
    """The client, where the request names it."""
    return named(client, request.safety_identifier, request.user, request.prompt_cache_key)


def tier_told(request: wire.GenerationRequest) -> str:
    """The tier as an answer tells it: the one that served the request."""
    tier = _tier(request)
    return tier if _TIERS[tier] else "default"


def _tier(request: wire.GenerationRequest) -> str:
    tier = request.service_tier or "auto"
    if tier not in _TIERS:
        raise FieldError("service_tier", f'service_tier is "{tier}"; it must be one of {", ".join(_TIERS)}')
    return tier


def _options(request: wire.GenerationRequest) -> Iterator[tuple[str, Any]]:
    yield from (request.options or {}).items()
    for name, (low, high) in _RANGES.items():
        value = getattr(request, name)
        if value is not None:
            yield name, within(name, value, low, high)
    for name in _PLAIN:
        if (value := getattr(request, name)) is not None:
            yield name, value
    if request.repetition_penalty is not None and request.repeat_penalty is None:
        yield "repeat_penalty", request.repetition_penalty
    if (stops := _stops(request.stop)) is not None:
        yield "stop", stops
    if request.logit_bias is not None:
        yield (
            "logit_bias",
            {token: within("logit_bias", bias, -_MAX_BIAS, _MAX_BIAS) for token, bias in request.logit_bias.items()},
        )


def within(field: str, value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise FieldError(field, f"{field} is {value:g}; it must be between {low:g} and {high:g}")
    return value


def _stops(value: str | list[str] | None) -> list[str] | None:
    """None where the request has none: then the model's own hold, without which many a model would not end."""
    stops = [value] if isinstance(value, str) else value or []
    return [stop for stop in stops if stop] or None


def limit(field: str, value: int | None, *, least: int = 1) -> dict[str, int]:
    """How many tokens the answer may have, as an option; -1, which many programs send, means any number."""
    if value is None:
        return {}
    if value < least and value != -1:
        raise FieldError(field, f"{field} is {value}; it must be at least {least}, or -1 for no limit")
    return {"num_predict": value}


def effort(word: str | None) -> Think:
    """How much a model is to think, in OpenAI's words. Source: ollama@v0.32 openai/openai.go, reasoning efforts."""
    if word is None:
        return None
    if word not in _EFFORTS:
        raise BadRequestError(f"invalid reasoning value: {quoted(word)} (must be {_EFFORT_WORDS})")
    return _EFFORTS[word]


def choice_count(n: int | None) -> int:
    return 1 if n is None else int(within("n", n, 1, MAX_CHOICES))


def seeded(options: Mapping[str, Any], index: int) -> dict[str, Any]:
    """The options of one of several answers: the first has the request's or the model's own seed, each other another one."""
    if index == 0:
        return dict(options)
    seed = options.get("seed")
    if seed is None:
        return {**options, "seed": secrets.randbelow(_SEEDS)}
    is_fixed = isinstance(seed, int) and seed >= 0
    return {**options, "seed": (seed + index) % _SEEDS if is_fixed else seed}
