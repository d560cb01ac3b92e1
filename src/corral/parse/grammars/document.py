"""A schema as it came: how large it is, and what its references mean."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urldefrag, urljoin

from corral.core.errors import BadRequestError
from corral.parse.grammars.refusals import UnenforceableError, shown
from corral.parse.grammars.shapes import step_parts

_MAX_VALUES: Final = 100_000  # of all kinds in a schema: far more than any that a model can follow
_MAX_DEPTH: Final = 200
_INDEX: Final = re.compile(r"[0-9]{1,9}")
_HOLDERS: Final = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")  # of schemas by name
_LISTS: Final = ("allOf", "anyOf", "items", "oneOf", "prefixItems")


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A schema in its place. `base` is the URI that its references start from."""

    schema: Mapping[str, Any]
    path: str
    base: str

    @property
    def key(self) -> int:
        return id(self.schema)


class Document:
    """Finds what references mean. Only what stands in the schema itself can be meant."""

    def __init__(self, root: Mapping[str, Any], where: str) -> None:
        check_size(root, where)
        self._where = where
        self._anchors: dict[tuple[str, str], Source] = {}
        self._resources: dict[str, Source] = {}
        self._known: dict[int, Source] = {}
        self.root = Source(root, "$", "")
        self._resources[""] = self.root
        self._enter(self.root)
        self.root = self._known[id(root)]

    def at(self, schema: Mapping[str, Any], path: str, base: str) -> Source:
        """A schema that stands in another one with that base."""
        known = self._known.get(id(schema))
        if known is None:
            self._enter(Source(schema, path, base))
            known = self._known[id(schema)]
        return known

    def referred(self, source: Source) -> Source | bool:
        """What the source's `$ref` means. Raises BadRequestError where that is nothing, UnenforceableError outside of here."""
        reference: str = source.schema["$ref"]
        try:
            uri, fragment = _joined(source.base, reference)
        except ValueError as exc:
            raise BadRequestError(f'{self._where}: "$ref" at {source.path} is {shown(reference)}: it is no URI') from exc
        resource = self._resources.get(uri)
        if resource is None:
            raise UnenforceableError(
                f'{self._where}: "$ref" at {source.path} is {shown(reference)}: only what is in the schema itself can be meant'
            )
        if fragment and not fragment.startswith("/"):
            anchored = self._anchors.get((uri, fragment))
            return self._known[anchored.key] if anchored else self._unknown(source)
        return self._pointed(source, resource, unquote(fragment))

    def _pointed(self, source: Source, at: Source, pointer: str) -> Source | bool:
        """What a JSON pointer leads to."""
        value: Any = at.schema
        path, base = at.path, at.base
        for raw in pointer.split("/")[1:]:
            step = raw.replace("~1", "/").replace("~0", "~")
            if isinstance(value, Mapping) and step in value:
                value, path = value[step], step_parts(path, step)
            elif isinstance(value, list | tuple) and _INDEX.fullmatch(step) and int(step) < len(value):
                value, path = value[int(step)], f"{path}[{step}]"
            else:
                return self._unknown(source)
            if isinstance(value, Mapping) and (known := self._known.get(id(value))):
                base = known.base
        if isinstance(value, bool):
            return value
        return self.at(value, path, base) if isinstance(value, Mapping) else self._unknown(source)

    def _unknown(self, source: Source) -> Source:
        reference = shown(source.schema["$ref"])
        raise BadRequestError(f'{self._where}: "$ref" at {source.path} is {reference}, which is not in the schema')

    def _enter(self, first: Source) -> None:
        """Takes down this schema and those in it, with their names."""
        ahead = [first]
        while ahead:
            source = ahead.pop()
            if id(source.schema) in self._known:
                continue
            base = self._named(source)
            here = Source(source.schema, source.path, base)
            self._known[id(source.schema)] = here
            ahead += [Source(schema, path, base) for schema, path in _inner(here) if isinstance(schema, Mapping)]

    def _named(self, source: Source) -> str:
        """Takes down what the schema calls itself, and gives the base of what is in it."""
        base = source.base
        draft = str(self.root.schema.get("$schema"))
        is_old = any(old in draft for old in ("draft-04", "draft-06", "draft-07"))
        for word in ("$id", "id"):
            name = source.schema.get(word)
            if not isinstance(name, str) or (word == "id" and "draft-04" not in draft) or (is_old and "$ref" in source.schema):
                continue
            try:
                uri, fragment = _joined(base, name)
            except ValueError as exc:
                raise BadRequestError(f'{self._where}: "{word}" at {source.path} is {shown(name)}: it is no URI') from exc
            if fragment:
                self._anchors[uri, fragment] = source
            else:
                base = uri
                self._resources.setdefault(base, Source(source.schema, source.path, base))
        for word in ("$anchor", "$dynamicAnchor"):
            if isinstance(name := source.schema.get(word), str):
                self._anchors[base, name] = source
        return base


def _joined(base: str, reference: str) -> tuple[str, str]:
    """The URI that a reference means, and the fragment in it. Raises ValueError."""
    if reference.startswith("#"):  # also where the base is a URN, of which urljoin knows nothing
        return base, reference[1:]
    uri, fragment = urldefrag(urljoin(base, reference))
    return uri, fragment


def _inner(source: Source) -> Iterator[tuple[Any, str]]:
    """What stands where schemas may stand."""
    for keyword, value in source.schema.items():
        path = step_parts(source.path, keyword)
        if keyword in ("const", "default", "enum", "example", "examples"):
            continue
        if keyword in _HOLDERS and isinstance(value, Mapping):
            yield from ((one, step_parts(path, name)) for name, one in value.items())
        elif keyword in _LISTS and isinstance(value, list | tuple):
            yield from ((one, f"{path}[{at}]") for at, one in enumerate(value))
        elif isinstance(value, Mapping):
            yield value, path


def check_size(root: Any, where: str, max_values: int = _MAX_VALUES) -> None:
    """Raises BadRequestError for what is too large or too deep to look at, without recursion of its own."""
    count = 0
    ahead: list[tuple[Any, int]] = [(root, 1)]
    while ahead:
        value, depth = ahead.pop()
        count += 1
        inner: Any = ()
        if isinstance(value, Mapping):
            inner = value.values()
        elif isinstance(value, list | tuple):
            inner = value
        if count + len(ahead) + len(inner) > max_values:
            raise BadRequestError(f"{where}: the schema has more than {max_values} values; make it smaller")
        if depth > _MAX_DEPTH:
            raise BadRequestError(f"{where}: the schema is more than {_MAX_DEPTH} levels deep; make it flatter")
        ahead += [(one, depth + 1) for one in inner]
