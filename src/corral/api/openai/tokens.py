"""What is told of tokens: how many an answer took, and how likely each was."""

import codecs
from collections.abc import Sequence

from corral.core.types import TokenLogprob
from corral.service.requests import Done
from corral.wire import openai as wire


def usage(ends: Sequence[Done], *, per_prompt: int) -> wire.Usage:
    """Of all answers together; each prompt counts once, as `per_prompt` answers in a row share one."""
    firsts = ends[::per_prompt]
    prompt_tokens = sum(done.prompt_tokens for done in firsts)
    completion_tokens = sum(done.eval_tokens for done in ends)
    return wire.Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
        prompt_tokens_details=wire.PromptTokensDetails(sum(done.cached_tokens for done in firsts)),
        completion_tokens_details=wire.CompletionTokensDetails(sum(done.thought_tokens for done in ends)),
    )


def chat_logprobs(tokens: Sequence[TokenLogprob]) -> wire.ChatLogprobs | None:
    """None where there are none to tell."""
    if not tokens:
        return None
    return wire.ChatLogprobs(
        [
            wire.ChatTokenLogprob(
                token=_text(token.piece),
                logprob=token.logprob,
                bytes=list(token.piece),
                top_logprobs=[wire.TopLogprob(_text(other.piece), other.logprob, list(other.piece)) for other in token.top],
            )
            for token in tokens
        ]
    )


class CompletionTokens:
    """The tokens of one completion in the older form, with their places in its text."""

    def __init__(self, begin: int = 0) -> None:
        """`begin` is where the answer begins in the text."""
        self._at = begin
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def told(self, tokens: Sequence[TokenLogprob]) -> wire.CompletionLogprobs | None:
        """The next ones; None where there are none to tell."""
        if not tokens:
            return None
        offsets: list[int] = []
        for token in tokens:
            offsets.append(self._at)
            self._at += len(self._decoder.decode(token.piece))
        return wire.CompletionLogprobs(
            tokens=[_spelled(token.piece) for token in tokens],
            token_logprobs=[token.logprob for token in tokens],
            top_logprobs=[{_spelled(other.piece): other.logprob for other in token.top} for token in tokens],
            text_offset=offsets,
        )


def _text(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")


def _spelled(piece: bytes) -> str:
    """The token's text, or where it is a part of a character its bytes, as OpenAI writes them."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)
