"""The JSON-Schema-Test-Suite against the grammars of schemas.

Asserted of every group of a draft: the schema is refused, or its grammar takes no value that the suite calls invalid. Valid
values are taken but for those that answers are not written as: with properties that the schema does not name and
does not speak of, with properties in another order, with an integer as 1.0 or beyond 64 bits, with a leap second, or with a
string that a format forbids where the suite's format is only a note. How many are taken is asserted too: no version takes less
unseen.
"""

import json

import pytest

from corral.core.errors import BadRequestError
from corral.parse.grammars import answer_grammar
from tests.support.grammars import takes
from tests.support.schema_suite import Group, groups

# draft: at least so many schemas are compiled, and so many of their valid values taken
DRAFTS = {"draft2020-12": (312, 750), "draft2019-09": (317, 755), "draft7": (238, 595)}

# Invalid by parts that later drafts have made notes: what is encoded in a string, and what stands beside $ref.
NOTES = {("draft7", "optional/content.json"), ("draft7", "ref.json")}


def text_of(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def checked(group: Group) -> tuple[int, int, list[str]]:
    """Whether it was compiled, how many valid values were taken, and the invalid ones that were."""
    try:
        grammar = answer_grammar(group.schema)
    except BadRequestError:
        return 0, 0, []
    assert grammar
    taken = sum(takes(grammar, text_of(value)) for value in group.valid)
    return 1, taken, [text_of(value) for value in group.invalid if takes(grammar, text_of(value))]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("draft", DRAFTS)
def test_no_invalid_value_is_ever_taken(draft: str) -> None:
    compiled = taken = 0
    unsound: list[tuple[str, str, str]] = []
    for group in groups(draft):
        is_compiled, count, wrong = checked(group)
        compiled, taken = compiled + is_compiled, taken + count
        if (draft, group.file) not in NOTES:
            unsound += [(group.file, group.description, value) for value in wrong]
    assert unsound == []
    least_compiled, least_taken = DRAFTS[draft]
    assert compiled >= least_compiled
    assert taken >= least_taken
