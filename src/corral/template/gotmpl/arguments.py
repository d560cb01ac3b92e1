"""The arguments of a tool call as a Go template sees them: printed as JSON, ranged over by name."""

from collections.abc import Mapping
from typing import Any

from gotpl import GoSeq2


class Arguments(GoSeq2[str, Any]):
    """A map that prints itself as JSON, in the order in which the model wrote it. A field is an argument."""

    __slots__ = ()

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> "Arguments":
        return cls(tuple(arguments.items()))

    @property
    def wire(self) -> dict[str, Any]:
        return dict(self.values)

    def __gotemplate_lookup__(self, field: str) -> Any:  # the hook that gotpl asks for
        return self.wire[field]

    def __str__(self) -> str:
        from corral.template.gotmpl.values import go_json

        return go_json(self.wire)
