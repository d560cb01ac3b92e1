"""Anthropic's API, /v1/messages: the rows of the route table. `convert` and `messages` read, the others answer."""

from collections.abc import Sequence

from corral.api.anthropic import answers, count
from corral.api.anthropic.dialect import ANTHROPIC
from corral.api.openapi import Operation
from corral.api.services import Services
from corral.wire import anthropic as wire

__all__ = ["ANTHROPIC", "operations"]

_TAG = "Anthropic"


def operations(services: Services) -> Sequence[Operation]:
    return [
        Operation(
            path="/v1/messages",
            methods=("POST",),
            handler=answers.messages(services.inference),
            summary="Go on with a conversation",
            tag=_TAG,
            request=wire.MessagesRequest,
            response=wire.MessagesResponse,
            events=(
                wire.MessageStart,
                wire.BlockStart,
                wire.BlockDelta,
                wire.BlockStop,
                wire.MessageDelta,
                wire.MessageStop,
                wire.Ping,
                wire.AnthropicError,
            ),
            streams=True,
        ),
        Operation(
            path="/v1/messages/count_tokens",
            methods=("POST",),
            handler=count.count_tokens(services.inference, services.tokens),
            summary="Count the tokens of a conversation",
            tag=_TAG,
            request=wire.CountTokensRequest,
            response=wire.CountTokensResponse,
        ),
    ]
