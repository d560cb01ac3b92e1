"""What may have been meant by a name that nothing has: said below the error, never in its place."""

import re
from collections.abc import Iterable
from contextlib import suppress
from difflib import get_close_matches
from typing import Final

from corral.cli.client import Client, ServerError
from corral.core.errors import CorralError

_NAMED: Final = re.compile(r"""model ['"]([^'"]+)['"](?: not found| to stop)""")
_ALIKE: Final = 0.7  # of difflib's measure: one letter in six may be wrong


def meant(name: str, names: Iterable[str]) -> str:
    """The one of the names that is most like it, or ""."""
    found = get_close_matches(name.lower(), list(names), n=1, cutoff=_ALIKE)
    return found[0] if found else ""


def meant_model(error: ServerError) -> str:
    """The model that the server has and that the error's is most like, or "" where it is about none, or none is like it."""
    found = _NAMED.search(error.text)
    name = error.model or (found[1] if found else "")
    if not name:
        return ""
    with suppress(CorralError, KeyError, TypeError):  # there is an error to tell already
        return _nearest(name, [model["name"] for model in Client().call("GET", "/api/tags")["models"]])
    return ""


def _nearest(name: str, there: Iterable[str]) -> str:
    """A tag counts where both have one: "smolm2" may mean "smollm2:135m"."""
    whole = {full.removesuffix(":latest").lower(): full.removesuffix(":latest") for full in there}
    families = {full.partition(":")[0]: full for full in reversed(whole)}
    asked = name.removesuffix(":latest").lower()
    near = meant(asked, whole)
    if not near and (family := meant(asked.partition(":")[0], families)):
        near = families[family]
    return whole[near] if near and near != asked else ""
