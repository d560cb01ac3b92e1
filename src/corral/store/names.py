"""Model names: how they are read, what they may hold, and how they are shown.

A name is `[scheme://][host/][namespace/]model[:tag]`; what is left out is Ollama's registry, `library` and `latest`. Every part
begins with a letter, a digit or `_`, so no part of a valid name can climb out of a folder.
Source: ollama@v0.32 types/model/name.go.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Final

from corral.core.errors import BadRequestError

DEFAULT_HOST: Final = "registry.ollama.ai"
DEFAULT_NAMESPACE: Final = "library"
DEFAULT_TAG: Final = "latest"

_HOST: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")  # a model or a tag
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")


@dataclass(frozen=True, slots=True)
class ModelName:
    """A full name, every part filled in and valid.

    Spelling is kept, and equal names are spelled alike; names with the same `key` are one model. How a registry is asked for it
    is no part of what it is called.
    """

    host: str
    namespace: str
    model: str
    tag: str
    scheme: str = field(default="", compare=False)  # only where the user wrote one

    @classmethod
    def parse(cls, text: str) -> "ModelName":
        """The name in a request or on a command line. Raises BadRequestError for one that is not valid.

        >>> ModelName.parse("llama3").full
        'registry.ollama.ai/library/llama3:latest'
        >>> ModelName.parse("hf.co/me/Tiny-GGUF:Q4_K_M").short
        'hf.co/me/Tiny-GGUF:Q4_K_M'
        >>> ModelName.parse("http://127.0.0.1:5001/me/hello").full
        '127.0.0.1:5001/me/hello:latest'
        """
        rest, tag = _local(text)
        if not tag and rest.rfind(":") > rest.rfind("/"):
            rest, _, tag = rest.rpartition(":")
            if not tag:
                raise BadRequestError("invalid model name")
        scheme, has_scheme, rest = rest.rpartition("://")
        parts = rest.split("/")
        if len(parts) > 3 or (has_scheme and (len(parts) < 3 or not _SCHEME.fullmatch(scheme))):
            raise BadRequestError("invalid model name")
        host, namespace, model = [*(DEFAULT_HOST, DEFAULT_NAMESPACE)[: 3 - len(parts)], *parts]
        name = cls(host, namespace, model, tag or DEFAULT_TAG, scheme)
        if not name.is_valid:
            raise BadRequestError("invalid model name")
        return name

    @property
    def is_valid(self) -> bool:
        checks = ((_HOST, self.host), (_NAMESPACE, self.namespace), (_PART, self.model), (_PART, self.tag))
        return all(pattern.fullmatch(part) for pattern, part in checks)

    @property
    def short(self) -> str:
        """The shortest form that still names this model, always with its tag: `llama3:latest`, `me/llama3:8b`."""
        return f"{self.short_path}:{self.tag}"

    @property
    def short_path(self) -> str:
        """`short` without the tag."""
        if self.host != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{self.model}"
        return self.model if self.namespace == DEFAULT_NAMESPACE else f"{self.namespace}/{self.model}"

    @property
    def full(self) -> str:
        """All parts but the scheme: `registry.ollama.ai/library/llama3:latest`."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def is_cloud(self) -> bool:
        """Whether it is Ollama's way to name a model that runs in its cloud: `gpt-oss:cloud`, `gpt-oss:120b-cloud`."""
        return self.tag.lower() == "cloud" or self.tag.lower().endswith("-cloud")

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What is the same for two names that differ in case or scheme only."""
        return self.host.lower(), self.namespace.lower(), self.model.lower(), self.tag.lower()

    @property
    def parts(self) -> tuple[str, str, str, str]:
        return self.host, self.namespace, self.model, self.tag

    def spelled(self, parts: tuple[str, str, str, str]) -> "ModelName":
        """This name as the store spells it."""
        host, namespace, model, tag = parts
        return replace(self, host=host, namespace=namespace, model=model, tag=tag)

    def __str__(self) -> str:
        return self.short


def _local(text: str) -> tuple[str, str]:
    """What is before a `:local` ending, which says "not in the cloud"; with `latest` as its tag where it has no other.

    Raises BadRequestError where the name asks for both places.
    """
    before, colon, ending = text.rpartition(":")
    if not colon or ending.lower() not in ("local", "cloud"):
        return text, ""
    other = before.lower().rpartition(":")[2] if ":" in before else ""
    if {other, ending.lower()} == {"local", "cloud"}:
        raise BadRequestError(f'use either :local or :cloud, not both: "{text}"')
    if ending.lower() == "cloud":
        return text, ""
    return before, "" if before.rfind(":") > before.rfind("/") else DEFAULT_TAG
