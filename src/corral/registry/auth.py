"""A registry's sign-in: reading its challenge, and the words in which this machine's key asks for a token.

The key is Ollama's, so whoever has registered it with an account keeps that; the file itself is identity.py's business.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

_BEARER = re.compile(r"(?:^|,)\s*bearer\s+(.*)", re.IGNORECASE)
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class Signer(Protocol):
    """This machine's key, as far as a sign-in needs it."""

    @property
    def public_path(self) -> Path:
        """The file with the public half, for people to register."""
        ...

    async def sign_get(self, url: str) -> str:
        """The Authorization header of a GET of `url`; "" where there is no key to be had."""
        ...


@dataclass(frozen=True, slots=True)
class Challenge:
    """A `WWW-Authenticate: Bearer` header: who gives tokens, and for what."""

    realm: str
    service: str = ""
    scope: str = ""

    @classmethod
    def parse(cls, header: str) -> "Challenge | None":
        """None where the header asks for something else than a bearer token.

        >>> Challenge.parse('Bearer realm="https://auth.example/token",service="r",scope="repository:a/b:pull"').url()
        'https://auth.example/token?scope=repository%3Aa%2Fb%3Apull&service=r'
        >>> Challenge.parse('Basic realm="box"') is None
        True
        >>> Challenge.parse('Basic realm="box", Bearer realm="https://a.example", Negotiate')
        Challenge(realm='https://a.example', service='', scope='')
        """
        bearer = _BEARER.search(header)
        found: dict[str, str] = {}
        for name, value in _PARAMETER.findall(bearer[1] if bearer else ""):
            found.setdefault(name.lower(), value)  # what comes again belongs to another scheme
        if not found.get("realm"):
            return None
        return cls(found["realm"], found.get("service", ""), found.get("scope", ""))

    def url(self, **more: str) -> str:
        """Where to ask. Several scopes, as a mount from another repository needs them, are asked for one by one.

        >>> Challenge("https://a.example/t?x=1", scope="r:a:pull r:b:push").url(ts="7")
        'https://a.example/t?scope=r%3Aa%3Apull&scope=r%3Ab%3Apush&ts=7&x=1'
        """
        parts = urlsplit(self.realm)
        asked = [("service", self.service), *(("scope", scope) for scope in self.scope.split()), *more.items()]
        query = sorted([*parse_qsl(parts.query, keep_blank_values=True), *((k, v) for k, v in asked if v)])
        return urlunsplit(parts._replace(query=urlencode(query), fragment=""))
