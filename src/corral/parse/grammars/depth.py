"""How deep a schema may lead, at most: its shapes one inside the other, each no more than once.

llguidance follows a grammar's rules by recursion. Some hundreds are well within its stack; a thousand would end the process.
"""

from collections.abc import Iterator
from typing import Final

from corral.core.errors import BadRequestError
from corral.parse.grammars.shapes import NOTHING, Schema

_MAX_DEPTH: Final = 400


def check_depth(schema: Schema) -> None:
    """Raises BadRequestError where a path may be too long. Shapes that lead to each other count as if all were on one path."""
    longest: dict[int, int] = {}
    group_of: dict[int, int] = {}
    for group in _groups(schema):
        group_of.update(dict.fromkeys(group, group[0]))
        below = {group_of[part] for number in group for part in _parts(schema, number)} - {group[0]}
        longest[group[0]] = len(group) + max((longest[one] for one in below), default=0)
        if longest[group[0]] > _MAX_DEPTH:
            raise BadRequestError(
                f"{schema.where}: the schema leads more than {_MAX_DEPTH} levels deep, or has more parts that refer to "
                "each other; make it simpler"
            )


def _parts(schema: Schema, number: int) -> list[int]:
    return [part for part in dict.fromkeys(schema.parts(number)) if part > NOTHING]


def _groups(schema: Schema) -> Iterator[list[int]]:
    """Shapes that lead to each other, group by group, those that a group leads to before it. Tarjan's, without recursion."""
    order: dict[int, int] = {}
    low: dict[int, int] = {}
    waiting: list[int] = []
    is_waiting: set[int] = set()
    path: list[tuple[int, Iterator[int]]] = []

    def enter(number: int) -> None:
        order[number] = low[number] = len(order)
        waiting.append(number)
        is_waiting.add(number)
        path.append((number, iter(_parts(schema, number))))

    enter(schema.root)
    while path:
        number, parts = path[-1]
        part = next(parts, None)
        if part is None:
            path.pop()
            if path:
                low[path[-1][0]] = min(low[path[-1][0]], low[number])
            if low[number] == order[number]:
                group = waiting[waiting.index(number) :] if waiting[-1] != number else [number]
                del waiting[-len(group) :]
                is_waiting.difference_update(group)
                yield group
        elif part not in order:
            enter(part)
        elif part in is_waiting:
            low[number] = min(low[number], order[part])
