"""The parser's cases are those of Ollama's parser_test.go as far as they are about Modelfiles, and what it cannot say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.store import Instruction, ModelfileError, parameter, parse_modelfile
from corral.store.modelfile import COMMANDS, DEPRECATED_PARAMETERS, Command

COMMAND_ERROR = (
    'command must be one of "from", "license", "template", "system", "adapter", "draft", "renderer", "parser", "parameter", '
    '"message", or "requires"'
)
ROLE_ERROR = 'message role must be one of "system", "user", or "assistant"'


def told(text: str | bytes) -> list[tuple[str, str, str]]:
    return [(item.command, item.name, item.value) for item in parse_modelfile(text)]


def test_every_instruction_is_read() -> None:
    text = """# a comment
FROM model1
FROM ./mmproj.gguf
ADAPTER ./lora.gguf
DRAFT ./draft.gguf
LICENSE MIT
LICENSE "Apache"
PARAMETER stop a
PARAMETER stop <|b|>
PARAMETER num_ctx 4096

  TEMPLATE {{ .Prompt }}
SYSTEM You are Mario.
RENDERER qwen3-coder
PARSER qwen3-coder
REQUIRES v0.14.0
MESSAGE system You are a file parser.
MESSAGE user Hey there!
MESSAGE assistant Hello, I want to parse all the things!
"""
    assert told(text) == [
        ("from", "", "model1"),
        ("from", "", "./mmproj.gguf"),
        ("adapter", "", "./lora.gguf"),
        ("draft", "", "./draft.gguf"),
        ("license", "", "MIT"),
        ("license", "", "Apache"),
        ("parameter", "stop", "a"),
        ("parameter", "stop", "<|b|>"),
        ("parameter", "num_ctx", "4096"),
        ("template", "", "{{ .Prompt }}"),
        ("system", "", "You are Mario."),
        ("renderer", "", "qwen3-coder"),
        ("parser", "", "qwen3-coder"),
        ("requires", "", "v0.14.0"),
        ("message", "system", "You are a file parser."),
        ("message", "user", "Hey there!"),
        ("message", "assistant", "Hello, I want to parse all the things!"),
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("SYSTEM hello", "hello", id="bare"),
        pytest.param("SYSTEM \t hello world \t", "hello world", id="white space around it"),
        pytest.param("SYSTEM say # this", "say # this", id="a sign within it is no comment"),
        pytest.param('SYSTEM "hello"', "hello", id="quotes"),
        pytest.param('SYSTEM " hello "', " hello ", id="white space within quotes"),
        pytest.param('SYSTEM """hello"""', "hello", id="three quotes"),
        pytest.param('SYSTEM """\nThis is a\nmultiline system.\n"""', "\nThis is a\nmultiline system.\n", id="lines"),
        pytest.param('SYSTEM """\nThis is a\nmultiline system."""', "\nThis is a\nmultiline system.", id="no last line"),
        pytest.param('SYSTEM "a\n\n\nb"', "a\n\n\nb", id="lines in one quote"),
        pytest.param('SYSTEM """a\r\nb"""', "a\r\nb", id="line ends stay"),
        pytest.param('SYSTEM """He said "hi" and """', 'He said "hi" and ', id="quotes in three quotes"),
        pytest.param('SYSTEM """a""   \n"""   ', 'a""   \n', id="white space after the closing quotes"),
        pytest.param('SYSTEM """"hi""""', '"hi"', id="a quote at both ends"),
        pytest.param('SYSTEM ""', "", id="empty quotes"),
        pytest.param('SYSTEM """"""', "", id="three empty quotes"),
        pytest.param("SYSTEM ", "", id="nothing"),
        pytest.param("SYSTEM 'hello'", "'hello'", id="single quotes are text"),
        pytest.param('SYSTEM "a" or "b"', 'a" or "b', id="quotes at both ends"),
        pytest.param(
            "SYSTEM \N{FAMILY}\N{ZERO WIDTH JOINER}\N{IDEOGRAPHIC SPACE}x", "\N{FAMILY}\u200d\u3000x", id="any character"
        ),
        pytest.param('SYSTEM <<END\n"""\n doc """\nEND', '"""\n doc """', id="up to a word"),
        pytest.param("SYSTEM <<END\nEND", "", id="nothing up to a word"),
        pytest.param("SYSTEM <<END", "<<END", id="a word that does not come"),
    ],
)
def test_values(text: str, value: str) -> None:
    for before, after in (("FROM x\n", ""), ("FROM x\r\n", "\r\n"), ("from x\n\n", "\nPARAMETER seed 1\n")):
        assert told(before + text + after)[1] == ("system", "", value)


@pytest.mark.parametrize("command", ["FROM x", "from x", "From x", "  fRoM\tx"])
def test_commands_are_in_any_case(command: str) -> None:
    assert told(command) == [("from", "", "x")]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("FROM bob\nSYSTEM Grüße".encode(), id="utf-8"),
        pytest.param("\ufeffFROM bob\nSYSTEM Grüße".encode(), id="utf-8 with a mark"),
        pytest.param("\ufeffFROM bob\nSYSTEM Grüße".encode("utf-16-le"), id="utf-16 little-endian"),
        pytest.param("\ufeffFROM bob\nSYSTEM Grüße".encode("utf-16-be"), id="utf-16 big-endian"),
    ],
)
def test_byte_order_marks(data: bytes) -> None:
    assert told(data) == [("from", "", "bob"), ("system", "", "Grüße")]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("", "no FROM line", id="nothing"),
        pytest.param("# FROM x", "no FROM line", id="only a comment"),
        pytest.param("PARAMETER temperature 1\nSYSTEM x", "no FROM line", id="no FROM"),
        pytest.param("\nFROM foo\nBADCOMMAND param1 value1\n", f"(line 3): {COMMAND_ERROR}", id="unknown command"),
        pytest.param("FROM foo\r\n\r\nBAD x", f"(line 3): {COMMAND_ERROR}", id="two characters end a line"),
        pytest.param("FROM: foo", f"(line 1): {COMMAND_ERROR}", id="a colon"),
        pytest.param('FROM x\nSYSTEM """\na\nb"""\n\nX y', f"(line 6): {COMMAND_ERROR}", id="after several lines"),
        pytest.param("FROM x\nSYSTEM <<E\na\nb\nE\nX y", f"(line 6): {COMMAND_ERROR}", id="after lines up to a word"),
        pytest.param("FROM foo\nMESSAGE badguy I'm a bad guy!", f"(line 2): {ROLE_ERROR}", id="role"),
        pytest.param("FROM foo\nMESSAGE User hi", f"(line 2): {ROLE_ERROR}", id="role in another case"),
        pytest.param("FROM foo\nMESSAGE user", "(line 2): MESSAGE needs a role and a text", id="message without text"),
        pytest.param("FROM foo\nPARAMETER seed", "(line 2): PARAMETER needs a name and a value", id="parameter without value"),
        pytest.param("FROM foo\nPARAMETER a-b 1", "(line 2): PARAMETER needs a name and a value", id="no parameter name"),
        pytest.param("FROM", "(line 1): FROM needs a value", id="FROM of nothing"),
        pytest.param("FROM   \n", "(line 1): FROM needs a value", id="FROM of white space"),
        pytest.param('FROM x\nADAPTER ""', "(line 2): ADAPTER needs a value", id="adapter of nothing"),
        pytest.param("FROM x\nSYSTEM", "(line 2): SYSTEM needs a value", id="no value at all"),
        pytest.param(
            "FROM x\nREQUIRES soon",
            "(line 2): requires must be a valid semver (e.g. 0.14.0), and 'soon' is none",
            id="no version",
        ),
        pytest.param(
            'FROM foo\nSYSTEM """hello\nworld""',
            '(line 2): unexpected EOF: the text that begins with """ has no """ at the end of a line',
            id="open quotes",
        ),
        pytest.param(
            'FROM foo\nSYSTEM "hello',
            '(line 2): unexpected EOF: the text that begins with " has no " at the end of a line',
            id="an open quote",
        ),
        pytest.param(b"FROM foo\nSYSTEM \xff", "(line 2): this is no UTF-8 text: invalid start byte", id="no text"),
        pytest.param(b"\xff\xfeF\x00R", "no FROM line", id="half a character"),
    ],
)
def test_errors_say_which_line(text: str | bytes, error: str) -> None:
    with pytest.raises(ModelfileError) as caught:
        parse_modelfile(text)
    assert str(caught.value) == error or error == "no FROM line"


def test_long_text_is_read_in_one_go() -> None:
    text = 'FROM x\nLICENSE """' + "a line of it\n" * 200_000 + '"""\n'
    assert told(text)[1][2].count("\n") == 200_000


ALPHABET = "ab \"\n\r\t#<>{}|.\\'\x00\x1b\x1cäß東\u200b\u2028😀"
pieces = st.sampled_from(
    ['"', '"""', "\n", "\r", "\r\n", " ", "\t", "a", "END", "<<END", "#", "FROM x", "\N{NEXT LINE}", "\N{LINE SEPARATOR}", "ü"]
)
texts = st.one_of(st.lists(pieces, max_size=8).map("".join), st.text(ALPHABET, max_size=30))
words = st.text("abz019_./-", min_size=1, max_size=12).map(lambda text: f"x{text}")


@st.composite
def instructions(draw: st.DrawFn) -> Instruction:
    command: Command = draw(st.sampled_from([command for command in COMMANDS if command != "requires"]))
    match command:
        case "message":
            return Instruction(command, draw(texts), draw(st.sampled_from(["system", "user", "assistant"])))
        case "parameter":
            return Instruction(command, draw(texts), draw(st.text("abz019_", min_size=1, max_size=9)))
        case "from" | "adapter" | "draft" | "renderer" | "parser":
            return Instruction(command, draw(texts.filter(bool) | words))
        case _:
            return Instruction(command, draw(texts))


@given(st.lists(instructions(), max_size=6))
def test_what_is_written_is_read_as_the_same(items: list[Instruction]) -> None:
    given_items = (Instruction("from", "x"), *items)
    text = "".join(f"{item}\n" for item in given_items)
    assert parse_modelfile(text) == given_items
    assert parse_modelfile(text.encode()) == given_items


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("You are Mario.", "You are Mario."),
        ("two\nlines", '"two\nlines"'),
        (' "quoted" ', '""" "quoted" """'),
        ('"hi" she said', '""""hi" she said"""'),
        ("", '""'),
        ('x """\ny', '<<END\nx """\ny\nEND'),
        ('"""\nEND\nEND_', '<<END__\n"""\nEND\nEND_\nEND__'),
    ],
    ids=range(7),
)
def test_quotes_are_as_few_as_possible(text: str, written: str) -> None:
    assert str(Instruction("system", text)) == f"SYSTEM {written}"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("num_ctx", "4096", 4096),
        ("seed", "-1", -1),
        ("temperature", "0.5", 0.5),
        ("temperature", "1", 1.0),
        ("temperature", "1e-05", 1e-05),
        ("use_mmap", "true", True),
        ("use_mmap", "F", False),
        ("stop", "a b", ["a b"]),
        ("stop", "", [""]),
    ],
)
def test_parameter_has_the_type_of_its_option(name: str, text: str, value: object) -> None:
    typed = parameter(Instruction("parameter", text, name))
    assert (typed, type(typed)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("wings", "2", "unknown parameter 'wings' (line 7)"),
        ("num_ctx", "many", "invalid int value 'many' for parameter 'num_ctx' (line 7)"),
        ("num_ctx", "1.5", "invalid int value '1.5' for parameter 'num_ctx' (line 7)"),
        ("num_ctx", "1_000", "invalid int value '1_000' for parameter 'num_ctx' (line 7)"),
        ("temperature", "hot", "invalid float value 'hot' for parameter 'temperature' (line 7)"),
        ("temperature", "nan", "invalid float value 'nan' for parameter 'temperature' (line 7)"),
        ("use_mmap", "yes", "invalid bool value 'yes' for parameter 'use_mmap' (line 7)"),
    ],
)
def test_parameter_of_no_such_name_or_type_is_refused(name: str, text: str, error: str) -> None:
    with pytest.raises(ModelfileError) as caught:
        parameter(Instruction("parameter", text, name, line=7))
    assert str(caught.value) == error


def test_deprecated_parameters_are_no_options() -> None:
    for name in DEPRECATED_PARAMETERS:
        with pytest.raises(ModelfileError, match="unknown parameter"):
            parameter(Instruction("parameter", "1", name))
