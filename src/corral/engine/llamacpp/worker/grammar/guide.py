"""The course of one answer: where it thinks, where it is bound by a grammar, where it is free, and what it is made to say.

Pure: texts and tokens in, tokens out. It knows grammars as matchers and tokens by what they spell; who draws the tokens, from
which logits, and who computes them, is no matter of it. An answer that has neither thought nor grammar has no guide.

A token that was drawn is not computed before the next step. So a token that runs on behind a marker into text that the
grammar does not take can still be replaced, by the tokens of its text up to the end of the marker.
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

import numpy as np

from corral.core.errors import BadRequestError, EngineError
from corral.core.types import Thought
from corral.engine.llamacpp.worker.grammar.matching import Allowed, Matcher, Part, Said, Spells

_GAP_TOKENS: Final = 4  # of white space between a thought and the part that a grammar binds
RUN: Final = 256  # tokens that a grammar dictates at once; there are grammars that dictate without end
_SPACE: Final = b" \t\r\n"
_CHARACTER: Final = 4  # bytes of one in UTF-8, at most


class _Stage(Enum):
    OPENING = auto()  # a thought may begin here, or the answer
    THOUGHT = auto()
    GAP = auto()  # the thought is over, and nothing of what the grammar binds has come
    BOUND = auto()
    FREE = auto()
    DONE = auto()  # free, and nothing can come of it any more


class Guide:
    """One answer's course. `whole` binds all of it behind the thought; else each of `parts` binds what follows its text."""

    def __init__(
        self, spelling: Spells, *, thought: Thought | None = None, whole: Matcher | None = None, parts: Sequence[Part] = ()
    ) -> None:
        self._spelling = spelling
        self._whole = whole
        self._parts = tuple(sorted(parts, key=lambda part: -len(part.after)))
        # Templates have white space around the tags, and models are free with it: it counts only where the engine writes them.
        self._open = thought.open.strip().encode() if thought else b""
        self._close = thought.close.strip().encode() if thought else b""
        self._closing = thought.close.encode() if thought else b""
        self._budget = thought.budget if thought else -1
        self._spent = 0  # tokens of the thought
        self._gap = _GAP_TOKENS
        self._tail = b""  # what a marker may have begun in, of the thought or of the free answer
        self._head: bytes | None = b""  # the answer behind the thought, while it may be a marker that counts at the start only
        self._opener = b""  # the answer, while it may be the beginning of a thought
        self._opening_tokens = 0
        self._live = whole  # what binds now, or would if the thought did not open
        self._dictates = True
        self._ends = whole is not None  # the answer ends where `_live` does
        self._stage = _Stage.DONE
        self.thought_tokens = 0
        self.is_over = False  # the answer ends behind the tokens that were given last
        self.has_more = False  # the grammar dictates more than was given: `more`
        self._begin(thought)

    def _begin(self, thought: Thought | None) -> None:
        if thought and thought.is_open:
            self._stage = _Stage.THOUGHT
        elif thought and thought.may_open and thought.open:
            self._stage = _Stage.OPENING
            self._live = self._whole.copy() if self._whole else None
        elif self._whole:
            self._stage = _Stage.BOUND
        else:
            self._be_free(is_start=True)

    # What the next token may be

    @property
    def is_done(self) -> bool:
        """The rest of the answer is free."""
        return self._stage is _Stage.DONE

    @property
    def is_binding(self) -> bool:
        """A token cannot just be drawn: `allows` and `allowed` have a say."""
        return self._stage in (_Stage.BOUND, _Stage.GAP) or (self._stage is _Stage.OPENING and self._live is not None)

    def allows(self, token: int) -> bool:
        """May this token come next, where the answer is bound?"""
        live = self._live
        assert live is not None
        if self._spelling.ends(token):
            return live.accepts
        if live.allows((token,)) or self._may_leave:
            return True
        if self._stage is _Stage.OPENING:
            return self._opens_with(self._spelling.of(token))
        return self._stage is _Stage.GAP and self._fits_gap(token)

    def allowed(self, loop: int = -1) -> Allowed:
        """All tokens that may come next, where the answer is bound. Raises BadRequestError where there are none.

        With a token that the answer does not get away from, those that lead it away, if there are any.
        """
        assert self._live is not None
        allowed = self._live.allowed()
        if self._stage is _Stage.OPENING:
            opener = self._spelling.exact(self._open[len(self._opener.lstrip(_SPACE)) :])
            allowed[opener[0]] = True  # not whatever else may begin one: a bare "<" is as good as never meant for that
        elif self._stage is _Stage.GAP and self._gap:
            allowed[self._spelling.blanks()] = True
        if not allowed.any():
            raise BadRequestError("the answer can neither go on nor end by its grammar; nothing meets it")
        if loop >= 0:
            allowed = self._live.closing(allowed)
            allowed[loop] &= np.count_nonzero(allowed) == 1
        return allowed

    @property
    def _may_leave(self) -> bool:
        """A part's grammar has all it needs: what does not go on with it is the free answer's again."""
        return self._stage is _Stage.BOUND and not self._ends and self._live is not None and self._live.accepts

    # What becomes of the answer

    def start(self) -> list[Said]:
        """What the answer has to begin with, before anything is drawn."""
        if self._stage is _Stage.THOUGHT and self._budget == 0:
            return self._end_thought()
        return self.more() if self._stage is _Stage.BOUND else []

    def end(self) -> list[Said]:
        """A token was drawn that ends the answer: what it goes on with instead. Nothing: it does end."""
        return self._end_thought() if self._stage is _Stage.THOUGHT and self._whole else []

    def take(self, token: int) -> list[Said]:
        """The next token was drawn, none that ends the answer: what the answer goes on with, mostly this very token.

        Raises BadRequestError where a grammar cannot go on, EngineError where the model has no tokens for what must come.
        """
        data = self._spelling.of(token)
        match self._stage:
            case _Stage.THOUGHT:
                return self._think(token, data, data)
            case _Stage.BOUND:
                return self._follow(token, data)
            case _Stage.FREE:
                return self._watch(token, data, data)
            case _Stage.GAP:
                return self._pass_gap(token, data)
            case _Stage.OPENING if self._live is None:
                return self._look_for_thought(token, data)
            case _Stage.OPENING:
                return self._choose(token, data)
            case _Stage.DONE:
                return [Said(token)]

    def more(self) -> list[Said]:
        """What the grammar leaves no choice of, from here on.

        A part may leave it to the model to draw that all the same.
        """
        assert self._live is not None
        forced = self._live.forced() if self._dictates else []
        self.has_more = len(forced) > RUN
        if forced:
            self._live.consume(forced[:RUN])
        if self._live.is_over:
            self._leave()
        return [Said(token, is_bound=True) for token in forced[:RUN]]

    def _leave(self) -> None:
        """The grammar is met and can only end."""
        if self._ends:
            self.is_over = True
        else:
            self._be_free(is_start=False)

    def _be_free(self, *, is_start: bool) -> None:
        self._live = None
        self._tail = b""
        self._head = b"" if is_start and any(part.at_start for part in self._parts) else None
        watches = self._head is not None or any(not part.at_start for part in self._parts)
        self._stage = _Stage.FREE if watches else _Stage.DONE

    # A thought's beginning

    def _opens_with(self, data: bytes) -> bool:
        text = (self._opener + data).lstrip(_SPACE)
        return bool(text) and (self._open.startswith(text) or text.startswith(self._open))

    def _look_for_thought(self, token: int, data: bytes) -> list[Said]:
        """The answer is free, whether it thinks or not."""
        self._opener += data
        self._opening_tokens += 1
        text = self._opener.lstrip(_SPACE)
        if text.startswith(self._open):
            return self._start_thought(token, data, text[len(self._open) :])
        if self._open.startswith(text):
            return [Said(token)]
        self._be_free(is_start=True)
        return self._watch(token, data, self._opener)

    def _choose(self, token: int, data: bytes) -> list[Said]:
        """The answer is bound, unless it thinks first."""
        live, text = self._live, (self._opener + data).lstrip(_SPACE)
        assert live is not None
        self._opening_tokens += 1
        if self._opens_with(data):
            if text.startswith(self._open):
                return self._start_thought(token, data, text[len(self._open) :])
            if not live.allows((token,)):
                rest = self._spelling.exact(self._open[len(text) :])
                self._opening_tokens += len(rest)
                return [Said(token), *map(Said, rest), *self._start_thought(-1, b"", b"")]
        live.consume((token,))
        self._opener += data
        if self._open.startswith(text) and not live.is_over:  # it may be either as yet
            return [Said(token, is_bound=True)]
        self._whole = live
        self._stage = _Stage.BOUND
        return [Said(token, is_bound=True), *self.more()]

    def _start_thought(self, token: int, data: bytes, rest: bytes) -> list[Said]:
        """`rest` is of the thought, and the end of the token that is to come; without a token its opener was dictated."""
        self._stage, self._live = _Stage.THOUGHT, self._whole
        self.thought_tokens = self._opening_tokens
        if rest:
            self.thought_tokens -= 1
            return self._think(token, data, rest)
        said = [Said(token)] if data else []
        return [*said, *self._end_thought()] if self._budget == 0 else said

    # In a thought and behind it

    def _think(self, token: int, data: bytes, text: bytes) -> list[Said]:
        """`text` is what the token adds to the thought."""
        text = self._tail + text
        self.thought_tokens += 1
        if (at := text.find(self._close)) >= 0:
            return self._answer(token, data, text[at + len(self._close) :])
        self._spent += 1
        self._tail = text[-max(len(self._close) - 1, _CHARACTER) :]
        if 0 <= self._budget <= self._spent and _is_whole(self._tail):
            return [Said(token), *self._end_thought()]
        return [Said(token)]

    def _end_thought(self) -> list[Said]:
        """The engine ends it."""
        closing = self._spelling.exact(self._closing)
        self.thought_tokens += len(closing)
        said = [Said(token) for token in closing]
        if self._whole:
            self._stage = _Stage.GAP
        else:
            self._be_free(is_start=True)
        return said

    def _answer(self, token: int, data: bytes, rest: bytes) -> list[Said]:
        """The thought is over in this token, of which `rest` is the answer's already."""
        if self._whole is None:
            self._be_free(is_start=True)
            return self._watch(token, data, rest)
        self._stage = _Stage.GAP
        text = rest.lstrip(_SPACE)
        if not text:
            return [Said(token)]
        if tokens := self._fitting(self._whole, text):
            self._whole.consume(tokens)
            self._stage = _Stage.BOUND
            return [Said(token), *self.more()]
        kept = self._spelling.exact(data[: len(data) - len(rest)])
        self.thought_tokens += len(kept) - 1
        return [Said(part) for part in kept]

    def _fits_gap(self, token: int) -> bool:
        """White space, also with the beginning of what is bound behind it."""
        assert self._live is not None
        data = self._spelling.of(token)
        text = data.lstrip(_SPACE)
        if self._gap == 0 or len(text) == len(data):
            return False
        return not text or bool(self._fitting(self._live, text))

    def _pass_gap(self, token: int, data: bytes) -> list[Said]:
        assert self._live is not None
        if self._live.allows((token,)):
            self._live.consume((token,))
        elif text := data.lstrip(_SPACE):
            self._live.consume(self._fitting(self._live, text))
        else:
            self._gap -= 1
            return [Said(token)]
        self._stage = _Stage.BOUND
        return [Said(token, is_bound=True), *self.more()]

    # In the answer

    def _follow(self, token: int, data: bytes) -> list[Said]:
        assert self._live is not None
        if self._may_leave and not self._live.allows((token,)):
            self._be_free(is_start=False)
            return self._watch(token, data, data)
        self._live.consume((token,))
        return [Said(token, is_bound=True), *self.more()]

    def _watch(self, token: int, data: bytes, text: bytes) -> list[Said]:
        """The free answer goes on with `text`, the end of which is of this token: does a grammar begin behind it?"""
        if self._stage is _Stage.DONE:
            return [Said(token)]
        found = self._found(text)
        if found is None or len(found[1]) > len(data):
            if self._head is None and all(part.at_start for part in self._parts):
                self._stage = _Stage.DONE
            return [Said(token)]
        part, rest = found
        self._live, self._stage = part.matcher.copy(), _Stage.BOUND
        self._dictates, self._ends = part.dictates, part.ends
        if not rest:
            return [Said(token), *self.more()]
        if tokens := self._fitting(self._live, rest):
            self._live.consume(tokens)
            return [Said(token, is_bound=True), *self.more()]
        kept = self._spelling.exact(data[: len(data) - len(rest)])
        return [*map(Said, kept), *self.more()]

    def _found(self, text: bytes) -> tuple[Part, bytes] | None:
        """The part whose text is complete first with this, the longest of several, and what follows its text."""
        before, head = self._tail, self._head
        whole = before + text
        start = None if head is None else (head + text).lstrip(_SPACE)
        best: tuple[Part, bytes] | None = None
        for part in self._parts:
            rest = _behind_start(start, part.after) if part.at_start else _behind(whole, part.after, len(before))
            if rest is not None and (best is None or len(rest) > len(best[1])):
                best = part, rest
        self._tail = whole[-max(len(part.after) for part in self._parts) :]
        is_open = start is not None and any(part.at_start and part.after.startswith(start) for part in self._parts)
        self._head = (head or b"") + text if is_open else None
        return best

    def _fitting(self, matcher: Matcher, text: bytes) -> list[int]:
        """The tokens of a text that the grammar takes; none where it does not."""
        try:
            tokens = self._spelling.exact(text)
        except EngineError:
            return []
        return tokens if matcher.allows(tokens) else []


def _behind(text: bytes, marker: bytes, known: int) -> bytes | None:
    """What follows the first marker that is not over within the first `known` bytes."""
    at = text.find(marker, max(0, known - len(marker) + 1))
    return None if at < 0 else text[at + len(marker) :]


def _behind_start(text: bytes | None, marker: bytes) -> bytes | None:
    return text[len(marker) :] if text is not None and text.startswith(marker) else None


def _is_whole(text: bytes) -> bool:
    """Does the text end with the end of a character?"""
    for back in range(1, min(_CHARACTER, len(text)) + 1):
        byte = text[-back]
        if byte & 0xC0 != 0x80:  # the first one of a character
            size = 1 if byte < 0xC0 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back >= size
    return True
