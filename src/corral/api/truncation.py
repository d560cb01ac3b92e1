"""The header that says, before a byte of an answer, what was left out of an over-long conversation."""

from typing import Final

from corral.api.exchange import Exchange
from corral.service.requests import Delta, Done, Event, Started

_NAME: Final = b"x-context-truncated"


def tell_truncation(exchange: Exchange, first: Event) -> None:
    """`first` is an answer's first event; of several answers of a request the first one counts.

    The value is a dictionary as RFC 8941 has it. A conversation that came as tokens loses tokens, and no messages. Pages of
    other origins may read the header, too.
    """
    cut = first.truncation if isinstance(first, Started | Delta | Done) else None
    if cut and not exchange.has_begun and not exchange.more_headers:
        value = f"dropped_messages={cut.dropped_messages}, prompt_tokens_total={cut.prompt_tokens_total}"
        exchange.more_headers += [(_NAME, value.encode()), (b"access-control-expose-headers", _NAME)]
