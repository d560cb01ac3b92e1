"""Which grammars a request's answer is to meet. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from corral.core.types import Grammar
from corral.parse import AnswerFormat
from corral.service.requests import InferenceRequest


def grammars_of(
    form: AnswerFormat | None, request: InferenceRequest, tools: Sequence[Mapping[str, Any]]
) -> tuple[Grammar, ...]:
    """Raises BadRequestError for a format that cannot be followed, or a tool whose parameters cannot."""
    return ()
