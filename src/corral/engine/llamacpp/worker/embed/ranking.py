"""How a model that ranks reads a query and a text together. Pure; worker side.

Source: llama.cpp tools/server, format_prompt_rerank. Otherwise than there, a query is never taken for a part of the template,
and behind a text stands what the tokenizer puts behind every text.
"""

import re
from dataclasses import dataclass
from typing import Final, Protocol

from corral.engine.llamacpp.worker.embed.reading import Words

_PLACES: Final = re.compile(r"\{query\}|\{document\}")
_LONGEST_TOKEN_CHARS: Final = 256  # text beyond so many characters a token cannot be among the tokens that are kept


class Ranking(Protocol):
    def prompt(self, query: str, text: str, *, limit: int | None) -> list[int]:
        """The tokens of both, the text cut to make them `limit`. More than that where the query leaves no room for any of it.

        Raises EngineError where a text is not to be tokenized.
        """
        ...


@dataclass(frozen=True, slots=True)
class MarkedPair:
    """The two between the tokenizer's own marks."""

    words: Words
    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]

    def prompt(self, query: str, text: str, *, limit: int | None) -> list[int]:
        if limit is not None:
            text = text[: limit * _LONGEST_TOKEN_CHARS]
        asked, told = (self.words.tokenize(one, add_special=False, parse_special=False) for one in (query, text))
        head = [*self.before, *asked, *self.between]
        if limit is not None and (room := limit - len(head) - len(self.after)) > 0:
            told = told[:room]
        return [*head, *told, *self.after]


@dataclass(frozen=True, slots=True)
class TemplatedPair:
    """The two in the places that the model's own template for ranking has for them."""

    words: Words
    template: str

    def prompt(self, query: str, text: str, *, limit: int | None) -> list[int]:
        if limit is None:
            return self._tokens(query, text)
        text = text[: limit * _LONGEST_TOKEN_CHARS]
        tokens = self._tokens(query, text)
        if len(tokens) <= limit:
            return tokens
        least = len(self._tokens(query, text[:1]))
        while len(tokens) > limit and len(text) > 1 and least <= limit:  # as many characters as there are tokens too many
            told = len(tokens) - least + 1
            text = text[: max(1, len(text) * (told - len(tokens) + limit) // told)]
            tokens = self._tokens(query, text)
        return tokens

    def _tokens(self, query: str, text: str) -> list[int]:
        given = {"{query}": query, "{document}": text}
        whole = _PLACES.sub(lambda place: given[place[0]], self.template)
        return self.words.tokenize(whole, add_special=False)
