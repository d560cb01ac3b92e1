"""Prompts and inputs as OpenAI's clients send them: a text, a list of texts, a list of tokens, or a list of lists of tokens."""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from corral.api.services import TokenService
from corral.service.tokens import DetokenizeRequest

Prompt: TypeAlias = str | tuple[int, ...]

_TOKENS: Final = range(2**31)


def prompts(given: Any) -> list[Prompt] | None:
    """Each text or list of tokens; None where the value is none of the four forms."""
    match given:
        case str():
            return [given]
        case list() if all(isinstance(item, str) for item in given):
            return list(given)
        case list() if _are_tokens(given):
            return [tuple(given)]
        case list() if all(isinstance(item, list) and item and _are_tokens(item) for item in given):
            return [tuple(item) for item in given]
        case _:
            return None


def _are_tokens(items: Sequence[Any]) -> bool:
    return all(type(item) is int and item in _TOKENS for item in items)


async def texts(
    given: Sequence[Prompt], service: TokenService, *, model: str, keep_alive_s: float | None, client: str
) -> list[str]:
    """Each prompt as a text. Raises BadRequestError for a number that is no token of the model's, ModelNotFoundError."""
    out: list[str] = []
    for prompt in given:
        if isinstance(prompt, str):
            out.append(prompt)
        else:
            request = DetokenizeRequest(model=model, tokens=prompt, keep_alive_s=keep_alive_s, client=client)
            out.append((await service.detokenize(request)).text)
    return out
