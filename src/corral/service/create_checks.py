"""What can be wrong with how a new model is to differ, and what a request's words mean. Pure.

Source: ollama@v0.32 server/create.go, applyCreateInfo and quantizeLayer; parser/parser.go for REQUIRES.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from corral.core.errors import BadRequestError, NotSupportedError
from corral.core.options import checked
from corral.core.types import Message
from corral.engine import QUANTIZATIONS, Quantization, quantization
from corral.store import FILE_TYPES, UNQUANTIZED, GgufInfo
from corral.template import compile_go

_ROLES: Final = ("system", "user", "assistant")
_TEXTS: Final = {
    "model_family": "model_family",
    "base_name": "base_name",
    "quantization_level": "file_type",
    "parameter_size": "model_type",
}
_NUMBERS: Final = ("context_length", "embedding_length")
_LARGEST: Final = 2**63 - 1
_VERSION: Final = re.compile(r"v?(0|[1-9]\d*)(\.(0|[1-9]\d*)){0,2}(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_BITS: Final = {FILE_TYPES[kind.file_type]: kind.bits for kind in QUANTIZATIONS.values()}


def check_template(text: str) -> None:
    try:
        compile_go(text)
    except BadRequestError as exc:
        raise BadRequestError(f"template error: {exc}") from exc


def check_parameters(parameters: Mapping[str, Any]) -> None:
    """Unknown ones are taken, as in Ollama; known ones must be of their type."""
    checked(parameters)


def check_messages(messages: Sequence[Message]) -> None:
    """Raises BadRequestError for a role that a stored history cannot have."""
    if any(message.role not in _ROLES for message in messages):
        raise BadRequestError('message role must be one of "system", "user", or "assistant"')


def required_version(text: str) -> str:
    """The version without a leading v. Raises BadRequestError where it is none."""
    if text and not _VERSION.fullmatch(text):
        raise BadRequestError("requires must be a valid semver (e.g. 0.14.0)")
    return text.removeprefix("v")


def config_changes(info: Mapping[str, Any]) -> dict[str, Any]:
    """What `info` sets, by the names of ModelConfig; keys that it does not know are nobody's. Raises BadRequestError."""
    changes: dict[str, Any] = {}
    if "capabilities" in info:
        changes["capabilities"] = _capabilities(info["capabilities"])
    for key, name in _TEXTS.items():
        if key in info:
            if not isinstance(info[key], str):
                raise BadRequestError(f'info field "{key}" must be a string')
            changes[name] = info[key]
    for key in _NUMBERS:
        if key in info:
            changes[key] = _count(key, info[key])
    if "model_family" in changes:
        family = changes["model_family"]
        changes["model_families"] = (family,) if family else None
    return changes


def _capabilities(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise BadRequestError('info field "capabilities" must be an array of strings')
    for index, item in enumerate(value):
        if not isinstance(item, str):
            raise BadRequestError(f'info field "capabilities" element {index} must be a string')
    return tuple(value)


def _count(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequestError(f'info field "{key}" must be a number')
    if not 0 <= value <= _LARGEST or value != int(value):
        raise BadRequestError(f'info field "{key}" must be a non-negative integer')
    return int(value)


def quantization_of(wanted: str, info: GgufInfo) -> Quantization | None:
    """The type to which a file like this one is to be quantized; None where there is nothing to do.

    A quantized file can be made a float one, from which everything can be made, and it can be made smaller; anything else
    would only cost quality. Raises BadRequestError.
    """
    if not wanted:
        return None
    to = quantization(wanted)
    has = info.file_type
    if FILE_TYPES[to.file_type] == has:
        return None
    if has in UNQUANTIZED or (has in _BITS and (to.is_float or to.bits < _BITS[has])):
        return to
    raise BadRequestError("quantization is only supported for F16, BF16 and F32 models")


def check_remote(remote_host: str, *, has_draft: bool) -> None:
    """Raises where the model is to run on another server, which this one does not do."""
    if not remote_host:
        return
    try:
        parts = urlsplit(remote_host if "://" in remote_host else f"http://{remote_host}")
        is_bad = not parts.hostname or parts.port == 0 or any(character.isspace() for character in remote_host)
    except ValueError:
        is_bad = True
    if is_bad:
        raise BadRequestError("bad remote")
    if has_draft:
        raise BadRequestError("DRAFT cannot be used with remote models")
    raise NotSupportedError(
        f"remote_host: models that run on {parts.hostname} are not served here; ask that server, or create the model from files"
    )
