"""Grammars as llguidance compiles them, over a vocabulary of the bytes and a few more tokens."""

import json
import re
from typing import Any

import pytest

from corral.core.errors import BadRequestError
from corral.core.types import Grammar, Job, Thought
from corral.engine.llamacpp.worker.grammar.compiler import readable
from corral.engine.llamacpp.worker.grammar.gbnf import lark_of
from corral.engine.llamacpp.worker.grammar.grammars import Grammars
from corral.engine.llamacpp.worker.grammar.guide import Guide
from corral.engine.llamacpp.worker.grammar.spelling import Spelling

END, ENDS, CALL, OTHER, WORD, EMPTY = range(256, 262)
NAMES = {END: b"<end>", ENDS: b"<ends>", CALL: b"<call>", OTHER: b"<other>", WORD: b"word", EMPTY: b""}


class Vocabulary:
    size = 262

    def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        data, tokens = text.encode(), list[int]()
        while data:
            found = next((token for token, name in NAMES.items() if name and data.startswith(name)), data[0])
            tokens.append(found)
            data = data[len(self.spelled(found)) :]
        return tokens

    def spelled(self, token: int) -> bytes:
        return bytes([token]) if token < END else NAMES[token]

    def ends(self, token: int) -> bool:
        return token in (END, ENDS)

    def is_control(self, token: int) -> bool:
        return token in (END, ENDS, CALL, OTHER)


@pytest.fixture
def grammars() -> Grammars:
    return Grammars(Spelling(Vocabulary()))


def guide(grammars: Grammars, text: str, **more: Any) -> Guide:
    job: dict[str, Any] = {"prompt": "", "num_ctx": 10} | {
        name: more.pop(name) for name in ("spelled", "thought") if name in more
    }
    return grammars.guide(Job(**job, grammars=(Grammar(text=text, **more),))).result(60)


def schema(value: object) -> str:
    return f"start: %json {json.dumps(value)}"


def tokens_allowed(made: Guide) -> set[int]:
    return {int(token) for token in made.allowed().nonzero()[0]}


def test_mask_and_single_tokens_say_the_same(grammars: Grammars) -> None:
    made = guide(grammars, "start: /[a-z]+/")
    allowed = tokens_allowed(made)
    assert allowed == {*range(ord("a"), ord("z") + 1), WORD}
    assert {token for token in range(262) if made.allows(token)} == allowed


def test_all_tokens_that_end_answers_are_allowed_where_the_grammar_accepts(grammars: Grammars) -> None:
    made = guide(grammars, "start: /[ab]+/")
    made.take(ord("a"))
    assert tokens_allowed(made) == {ord("a"), ord("b"), END, ENDS}
    assert made.allows(END)
    assert made.allows(ENDS)


def test_forced_text_has_the_models_own_tokens_and_is_the_grammars(grammars: Grammars) -> None:
    said = guide(grammars, 'start: "<call>word:" /[0-9]/').start()
    assert [token for token, _ in said] == [CALL, WORD, ord(":")]
    assert all(is_bound for _, is_bound in said)


def test_text_may_be_one_of_several_only_as_far_as_they_differ(grammars: Grammars) -> None:
    made = guide(grammars, 'start: "yes" | "no"')
    assert made.start() == []
    assert [token for token, _ in made.take(ord("n"))] == [ord("n"), ord("o")]
    assert made.is_over


@pytest.mark.parametrize(
    ("text", "spelled", "allowed"),
    [
        pytest.param('start: /.*/ "x"', (), set(), id="named by nobody"),
        pytest.param('start: /.*/ "x"', ("<call>", "<end>"), {CALL}, id="named by the job"),
        pytest.param('start: /.*/ "<other>"', (), {OTHER}, id="named in the grammar"),
    ],
)
def test_control_tokens_are_drawn_where_somebody_names_them(
    grammars: Grammars, text: str, spelled: tuple[str, ...], allowed: set[int]
) -> None:
    made = guide(grammars, text, spelled=spelled)
    assert tokens_allowed(made) & {CALL, OTHER, END, ENDS} == allowed
    assert {token for token in (CALL, OTHER, END, ENDS) if made.allows(token)} == allowed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(schema({"type": "array", "uniqueItems": True}), 'Unimplemented keys: ["uniqueItems"]', id="keyword"),
        pytest.param(schema({"pattern": "(?=a)b"}), "look-ahead", id="pattern"),
        pytest.param(schema({"type": "strin"}), "Invalid type: strin", id="type"),
        pytest.param(schema({"$ref": "#/$defs/x"}), "'/$defs/x' does not exist", id="reference"),
        pytest.param(schema(False), "schema is false", id="false"),
        pytest.param("start: /(a/", "unclosed group", id="regex"),
        pytest.param('start: "a', "lexer error", id="text"),
        pytest.param("start: foo", 'unknown name: "foo"', id="rule"),
        pytest.param("start: " + "(" * 10_000 + '"a"' + ")" * 10_000, "too deeply nested", id="deep"),
        pytest.param("start: %json " + '{"items":' * 10_000 + "{}" + "}" * 10_000, "recursion limit", id="deep schema"),
        pytest.param("", "Empty grammar", id="nothing"),
        pytest.param("x" * 1_000_000, "Expected token", id="much of nothing"),
        pytest.param("\x00\ud800", "", id="no text"),
    ],
)
def test_refusal_names_the_reason_in_one_line(grammars: Grammars, text: str, reason: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        guide(grammars, text)
    assert str(caught.value).startswith("the answer's grammar cannot be used: ")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_large_schema_is_compiled_or_refused(grammars: Grammars) -> None:
    guide(grammars, schema({"enum": [f"value number {number}" for number in range(50_000)]}))
    inner = {"type": "object", "properties": {f"k{number}": {"type": "integer"} for number in range(5)}}
    properties = {f"property_{number}": inner for number in range(5_000)}
    with pytest.raises(BadRequestError, match="too large"):
        guide(grammars, schema({"type": "object", "properties": properties, "required": list(properties)}))


def _say(made: Guide, text: bytes) -> None:
    """What of this is not dictated."""
    for letter in text:
        if made.allows(letter):
            made.take(letter)


def test_object_may_have_many_properties_that_may_be_missing(grammars: Grammars) -> None:
    made = guide(grammars, schema({"type": "object", "properties": {f"p{number}": {"type": "null"} for number in range(1000)}}))
    made.start()
    _say(made, b'{"p500":null')


def test_grammar_that_takes_too_much_work_in_mid_answer_is_an_error_and_is_made_anew(grammars: Grammars) -> None:
    text = "start: /[xy]/ " + "m " * 7000 + '\nm: "a"? "b"? "c"?'
    for _ in range(2):
        made = guide(grammars, text)
        made.take(ord("x"))
        with pytest.raises(BadRequestError, match="takes too much work"):
            made.allowed()


def test_whole_answer_has_one_grammar(grammars: Grammars) -> None:
    job = Job(prompt="", num_ctx=10, grammars=(Grammar(text='start: "a"'), Grammar(text='start: "b"', after="x")))
    with pytest.raises(BadRequestError, match="the only one"):
        grammars.guide(job).result(60)


def test_answers_of_one_grammar_do_not_meet(grammars: Grammars) -> None:
    first, second = [guide(grammars, "start: /[a-z]{3}/") for _ in range(2)]
    first.take(ord("a"))
    first.take(ord("b"))
    second.take(ord("x"))
    first.take(ord("c"))
    assert first.is_over
    assert not second.is_over


def test_thought_alone_compiles_nothing(grammars: Grammars) -> None:
    future = grammars.guide(Job(prompt="", num_ctx=10, thought=Thought(open="<t>", close="</t>")))
    assert future.done()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param('root ::= "caf\\u00e9"', "café", id="character by number"),
        pytest.param('root ::= "\\x41\\x22\\\\"', 'A"\\', id="characters of the syntax"),
        pytest.param('root ::= "\\U0001F999"', "🦙", id="long number"),
        pytest.param('root ::= ab c-d\nab ::= "x" # remark\nc-d ::= "y" "z"', "xyz", id="rules"),
        pytest.param('root ::= ("a" | "a") ("b"){2}', "abb", id="groups"),
    ],
)
def test_gbnf_is_read_as_llama_cpp_reads_it(grammars: Grammars, text: str, said: str) -> None:
    made = guide(grammars, text, kind="gbnf")
    out = made.start()
    assert b"".join(Vocabulary().spelled(token) for token, _ in out).decode() == said


def test_gbnf_class_has_characters_by_number(grammars: Grammars) -> None:
    made = guide(grammars, "root ::= [\\u00e0-\\u00ff\\x61]+", kind="gbnf")
    assert tokens_allowed(made) == {0xC3, ord("a")}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("root ::= nothing", "'nothing' not found", id="rule"),
        pytest.param("other ::= [a]", "No 'root' rule", id="root"),
        pytest.param('root ::= "a', "Unexpected end", id="text"),
        pytest.param('root ::= "\\', "ends too early", id="escape"),
        pytest.param("root ::= [a-z", "Unexpected end", id="class"),
        pytest.param('root ::= "\\ud800"', "no character", id="half a character"),
        pytest.param('root ::= "\\Uffffffff"', "no character", id="beyond the last one"),
        pytest.param("root ::= " + "(" * 5000, "nested too deeply", id="deep"),
        pytest.param("a ::= [a]\n" * 1001, "too large", id="rules"),
        pytest.param('root ::= "' + "a" * 300_000 + '"', "too large", id="size"),
    ],
)
def test_gbnf_that_is_wrong_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(BadRequestError, match=reason):
        lark_of(text)


def test_reason_is_readable() -> None:
    error = "at 1(8): failed:\n    (?=a)b\n    ^^^^\nerror: no\n   1 | start: x\n              ^\n\n<non-verbose/>"
    assert readable(error) == "failed: (?=a)b error: no"
    assert readable("") == "llguidance gives no reason"


# Numbers in JSON


def written(made: Guide, digits: str, most: int = 200) -> str:
    """What becomes of an answer whose model wants nothing but these digits, one after the other."""
    text = bytearray(said.token for said in made.start())
    for at in range(most):
        if made.is_over:
            break
        want = ord(digits[at % len(digits)])
        token = want if made.allows(want) else int(made.allowed().argmax())
        if token == END:
            break
        text += bytes(said.token for said in made.take(token))
    return text.decode()


@pytest.mark.parametrize(
    ("value", "start"),
    [
        pytest.param({"type": "number"}, "3" * 20, id="a number"),
        pytest.param({"type": "number", "minimum": 0, "maximum": 1}, "0." + "3" * 20, id="in a range"),
        pytest.param(
            {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}, "[" + "3" * 20, id="in a list"
        ),
    ],
)
def test_model_that_finds_no_end_of_a_number_is_shown_one(grammars: Grammars, value: dict[str, Any], start: str) -> None:
    text = written(guide(grammars, schema(value), is_json=True), "3")
    assert text.startswith(start)
    assert max(map(len, re.findall("3+", re.sub('"[^"]*"', "", text)))) <= 20


def test_number_that_cannot_end_yet_ends_as_soon_as_it_can(grammars: Grammars) -> None:
    """Above 0 it cannot end with a 0."""
    value = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
    for digits in ("30", "03", "0"):
        text = written(guide(grammars, schema(value), is_json=True), digits)
        assert 0 < float(text) < 1
        assert len(text) <= len("0.") + 20 + 1


def test_only_json_has_such_numbers(grammars: Grammars) -> None:
    assert written(guide(grammars, "start: /[0-9]+/"), "3", 50) == "3" * 50
    assert written(guide(grammars, schema({"type": "string"}), is_json=True), "3", 50) == '"' + "3" * 50


def test_number_that_must_be_long_is(grammars: Grammars) -> None:
    value = [10**40, 10**40 + 1]
    assert json.loads(written(guide(grammars, schema({"enum": value}), is_json=True), "1")) in value


def test_mask_gives_a_number_no_more_digits_than_it_may_have(grammars: Grammars) -> None:
    made = guide(grammars, schema({"type": "number"}), is_json=True)
    for _ in range(20):
        assert made.allows(ord("3"))
        made.take(ord("3"))
    assert not made.allows(ord("3"))
    assert {chr(token) for token in tokens_allowed(made) if token < END} == {".", "e", "E"}
    made.take(ord("e"))
    made.take(ord("9"))
    made.take(ord("9"))
    assert tokens_allowed(made) == {END, ENDS}
