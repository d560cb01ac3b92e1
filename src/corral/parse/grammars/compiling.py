"""From a schema as a request has it to shapes that a grammar can be made of."""

from collections.abc import Mapping
from typing import Final

from corral.core.errors import BadRequestError
from corral.parse.grammars.depth import check_depth
from corral.parse.grammars.disjoint import are_disjoint
from corral.parse.grammars.document import Document
from corral.parse.grammars.finishing import Finishing
from corral.parse.grammars.merging import Exclusive, Merging
from corral.parse.grammars.refusals import UnenforceableError, shown
from corral.parse.grammars.shapes import Schema

_MAX_EXCLUSIVE: Final = 300  # options of one oneOf: each is held against each other


def compiled(schema: object, where: str, *, is_lenient: bool = False, only: str = "") -> Schema:
    """The schema, checked and taken apart. `where` is what the request calls it, `only` the one type that is wanted.

    A lenient one leaves out what cannot be enforced: the grammar then takes more than the schema. Otherwise that is an
    UnenforceableError. Raises BadRequestError for a schema that is none, contradicts itself, or has no end.
    """
    if isinstance(schema, bool):
        schema = {} if schema else {"not": {}}
    if not isinstance(schema, Mapping):
        raise BadRequestError(f"{where}: a JSON schema is an object or a boolean, not {shown(schema)}")
    document = Document(schema, where)
    merging = Merging(document, where, is_lenient=is_lenient)
    root = merging.run(document.root, only)
    made = Schema(where, merging.shapes, root)
    Finishing(made, is_lenient=is_lenient).run()
    check_depth(made)
    if not is_lenient:
        reachable = {*made.reachable(root)}
        for exclusive in merging.exclusives:
            if reachable.issuperset(exclusive.options):
                _check_exclusive(made, exclusive)
    return made


def check_schema(schema: object, where: str) -> None:
    """Raises BadRequestError, with the place and the reason, for a schema that answers cannot be held to."""
    compiled(schema, where)


def _check_exclusive(schema: Schema, exclusive: Exclusive) -> None:
    options = list(dict.fromkeys(exclusive.options))
    if len(options) > _MAX_EXCLUSIVE:
        raise UnenforceableError(f'{schema.where}: "oneOf" at {exclusive.path} has more than {_MAX_EXCLUSIVE} options')
    repeated = len(options) < len(exclusive.options)
    for at, one in enumerate(options):
        for other in options[at + 1 :]:
            if not are_disjoint(schema, one, other):
                repeated = True
    if repeated:
        raise UnenforceableError(
            f'{schema.where}: unsupported keyword "oneOf" at {exclusive.path}: a value may meet several of its options; '
            'use "anyOf", or a required property with another "const" in each'
        )
