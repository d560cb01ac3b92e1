"""The anonymous side of a registry's sign-in: reading its challenge, and where to ask for a token.

Pulling a public model from a registry that wants a token for everything works; signing in as somebody is not here.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlencode

_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Challenge:
    """A `WWW-Authenticate: Bearer` header: who gives tokens, and for what."""

    realm: str
    service: str = ""
    scope: str = ""

    @classmethod
    def parse(cls, header: str) -> "Challenge | None":
        """None where the header asks for something else than a bearer token.

        >>> Challenge.parse('Bearer realm="https://auth.example/token",service="r",scope="repository:a/b:pull"').url
        'https://auth.example/token?service=r&scope=repository%3Aa%2Fb%3Apull'
        >>> Challenge.parse('Basic realm="box"') is None
        True
        """
        kind, _, rest = header.partition(" ")
        found = dict(_PARAMETER.findall(rest))
        if kind.lower() != "bearer" or not found.get("realm"):
            return None
        return cls(found["realm"], found.get("service", ""), found.get("scope", ""))

    @property
    def url(self) -> str:
        query = urlencode({k: v for k, v in (("service", self.service), ("scope", self.scope)) if v})
        return self.realm + (("&" if "?" in self.realm else "?") + query if query else "")
