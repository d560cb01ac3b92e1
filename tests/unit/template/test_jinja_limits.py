"""What a Jinja template from the internet can do at most: end the process that renders it, which costs the next one nothing."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.core.errors import BadRequestError, QueueFullError, ServerStoppingError
from corral.core.types import Message
from corral.template import Conversation, compile_jinja
from corral.template.jinja.job import Job, Reply
from corral.template.jinja.names import names
from corral.template.jinja.process import RenderingFailedError, RenderingProcess, RenderingProcesses
from corral.template.jinja.template import MAX_CHARS, JinjaTemplate
from tests.support.conversations import CONVERSATIONS

USER = Conversation(messages=(Message(role="user", content="hello"),))
CPU_S = 0.3

SLOW = {
    "nested loops": "{% for a in range(99999) %}" * 4 + "{% endfor %}" * 4,
    "loops over text": "{% set t = 'a' * 9999 %}" + "{% for a in t %}" * 4 + "{% endfor %}" * 4,
    "power": "{{ 10 ** (10 ** 10) }}",
    "power of a name": "{% set n = 10 %}{{ n ** (n ** n) }}",
    "macros": "".join(f"{{% macro m{n}() %}}{{{{ m{n + 1}() }}}}{{{{ m{n + 1}() }}}}{{% endmacro %}}" for n in range(80))
    + "{% macro m80() %}{% endmacro %}{{ m0() }}",
    "sorting": "{% for a in range(99999) %}{{ range(99999) | sort | length }}{% endfor %}",
    "searching": "{% set t = 'a' * 9999999 %}{% for a in range(99999) %}{% if 'b' in t %}{% endif %}{% endfor %}",
}
BIG = {
    "long text": "{{ 'a' * 10 ** 10 }}",
    "long text of a name": "{% set n = 10 ** 10 %}{{ 'a' * n }}",
    "folded when compiled": "{{ 'a' * 10 ** 8 * 9 }}",
    "long list": "{{ [0] * 10 ** 10 }}",
    "doubling": "{% set x = namespace(t='aaaaaaaaaa') %}{% for a in range(99) %}{% set x.t = x.t + x.t %}{% endfor %}",
    "doubling by ~": "{% set x = namespace(t='aaaaaaaaaa') %}{% for a in range(99) %}{% set x.t = x.t ~ x.t %}{% endfor %}",
    "doubling lists": "{% set x = namespace(t=[1]) %}{% for a in range(99) %}{% set x.t = x.t + x.t %}{% endfor %}",
    "doubling inside": "{% set x = namespace(t=[1]) %}{% for a in range(99) %}{% set x.t = [x.t, x.t] %}{% endfor %}{{ x.t }}",
    "centre": "{{ 'a' | center(10 ** 10) }}",
    "format": "{{ '%10000000000d' | format(1) }}",
    "percent": "{{ '%10000000000d' % 1 }}",
    "format method": "{{ '{:10000000000}'.format(1) }}",
    "join": "{{ range(99999) | join('a' * 9999999) }}",
    "replace": "{{ ('a' * 99999) | replace('a', 'a' * 99999) }}",
    "indent": "{{ ('a\n' * 99999) | indent(99999) }}",
    "json": "{{ [[[1]]] | tojson(indent=10 ** 9) }}",
    "batch": "{{ [1] | batch(10 ** 9, 0) | list }}",
    "words": "{{ lipsum(n=10 ** 7) }}",
}
REFUSED = {
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "recursive loop": "{% for a in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "brackets": "{{ " + "(" * 50000 + "1" + ")" * 50000 + " }}",
    "lists": "{{ " + "[" * 50000 + "]" * 50000 + " }}",
    "blocks": "{% if 1 %}" * 5000 + "{% endif %}" * 5000,
    "not": "{{ " + "not " * 50000 + "1 }}",
    "filters": "{{ 1" + "| abs" * 50000 + " }}",
    "long number": "{{ " + "9" * 50000 + " }}",
    "long number printed": "{{ 10 ** 50000 }}",
    "class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ raise_exception.__globals__ }}",
    "code": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "format string": "{{ '{0.__class__.__mro__}'.format(1) }}",
    "format map": "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "attr filter": "{{ messages | attr('__class__') | attr('__mro__') }}",
    "map filter": "{{ messages | map(attribute='__class__.__mro__') | list }}",
    "namespace": "{% set n = namespace() %}{% set n.__class__ = 1 %}",
    "namespace with a name": "{{ namespace(_x=1)._x }}",
    "dict": "{{ dict.__mro__ }}",
    "dict of a class": "{{ dict.mro() }}",
    "self": "{{ self.__init__.__globals__ }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}{{ os }}",
    "extends": "{% extends '/etc/passwd' %}",
    "syntax": "{% if %}",
    "unclosed": "{{ messages",
    "bad escape": "{{ '\\N{NOPE}' }}",
}


@pytest.fixture(scope="module")
def processes() -> Iterator[RenderingProcesses]:
    pool = RenderingProcesses(max_cpu_s=CPU_S)
    yield pool
    pool.close()


def render(source: str, processes: RenderingProcesses) -> str:
    return JinjaTemplate(source).render(USER, processes=processes)


@pytest.mark.parametrize("source", SLOW.values(), ids=SLOW)
def test_slow_template_is_killed_and_refused(source: str, processes: RenderingProcesses) -> None:
    with pytest.raises(BadRequestError, match=r"it may loop without end|memory"):
        render(source, processes)
    assert render("{{ messages[0].content }}", processes) == "hello"


@pytest.mark.parametrize("source", BIG.values(), ids=BIG)
def test_big_template_is_refused(source: str, processes: RenderingProcesses) -> None:
    with pytest.raises(BadRequestError, match=r"chat template: "):
        render(source, processes)
    assert render("{{ messages[0].content }}", processes) == "hello"


@pytest.mark.parametrize("source", REFUSED.values(), ids=REFUSED)
def test_hostile_template_is_refused(source: str, processes: RenderingProcesses) -> None:
    try:
        text = render(source, processes)
    except BadRequestError:
        return
    assert text.strip() in ("", "[]", "1"), "it got at something"


def test_template_that_is_too_long_is_refused() -> None:
    with pytest.raises(BadRequestError, match="too many"):
        compile_jinja("a" * (MAX_CHARS + 1))


def test_process_that_died_while_it_waited_costs_nothing() -> None:
    with RenderingProcesses(max_processes=1) as pool:
        assert render("a", pool) == "a"
        for number in (signal.SIGKILL, signal.SIGTERM):
            (pid,) = pool.pids()
            os.kill(pid, number)
            assert render("a", pool) == "a"
            assert pool.pids() != [pid]
    assert pool.pids() == []


def end_in_the_middle(pool: RenderingProcesses, number: signal.Signals, *, times: int) -> Future[str]:
    """A rendering without end whose process is sent a signal, and the one that it is tried again in, and so on."""
    with ThreadPoolExecutor(1) as threads:
        endless = threads.submit(render, SLOW["nested loops"], pool)
        done = set[int]()
        while len(done) < times and not endless.done():
            for pid in {process.pid for process in list(pool._busy)} - done:
                done.add(pid)
                os.kill(pid, number)
            time.sleep(0.001)
        return endless


def test_process_that_is_killed_twice_is_our_failure() -> None:
    with RenderingProcesses(max_processes=1) as pool:
        with pytest.raises(RenderingFailedError, match="try again"):
            end_in_the_middle(pool, signal.SIGKILL, times=2).result()
        assert render("a", pool) == "a"


def test_crash_is_the_templates_fault() -> None:
    with RenderingProcesses(max_processes=1) as pool:
        with pytest.raises(BadRequestError, match="SIGSEGV"):
            end_in_the_middle(pool, signal.SIGSEGV, times=1).result()
        assert render("a", pool) == "a"


def test_caller_that_finds_no_process_free_is_told_that_the_server_is_busy() -> None:
    with RenderingProcesses(max_processes=1, max_wait_s=0.05) as pool, ThreadPoolExecutor(1) as threads:
        endless = threads.submit(render, SLOW["nested loops"], pool)
        while not pool._busy:
            time.sleep(0.001)
        with pytest.raises(QueueFullError):
            render("a", pool)
        pool.close()
        with pytest.raises(ServerStoppingError):
            endless.result()


def test_closed_pool_renders_nothing_and_tells_those_that_wait() -> None:
    pool = RenderingProcesses(max_processes=1)
    with ThreadPoolExecutor(2) as threads:
        results = [threads.submit(render, SLOW["nested loops"], pool) for _ in range(2)]
        while not pool._busy:
            time.sleep(0.001)
        pool.close()
        for result in results:
            with pytest.raises(ServerStoppingError):
                result.result()
    with pytest.raises(ServerStoppingError):
        render("a", pool)
    pool.close()
    assert (pool._count, pool._busy) == (0, set())


def test_template_without_processes_starts_one_for_itself() -> None:
    assert JinjaTemplate("{{ messages[0].content }}").render(USER) == "hello"


def test_there_are_never_more_processes_than_allowed() -> None:
    pool = RenderingProcesses(max_processes=2)
    with ThreadPoolExecutor(8) as threads:
        texts = list(threads.map(lambda number: render(f"{number}", pool), range(64)))
    assert texts == [str(number) for number in range(64)]
    assert 1 <= len(pool.pids()) <= 2
    pool.close()


def test_big_conversation_goes_there_and_back(processes: RenderingProcesses) -> None:
    content = "wört " * 400_000
    conversation = Conversation(messages=(Message(role="user", content=content),))
    assert JinjaTemplate("{{ messages[0].content }}").render(conversation, processes=processes) == content


def test_process_has_no_secrets_and_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "sesame")
    process = RenderingProcess(CPU_S)
    proc = Path("/proc") / str(process.pid)
    environment, limits = (proc / "environ").read_text(), (proc / "limits").read_text()
    assert process.render(Job(source="{{ 1 }}", messages=[])) == Reply(text="1")
    process.kill()
    assert "sesame" not in environment
    assert "Max open files            0" in limits


def test_template_of_yesterday_costs_little(processes: RenderingProcesses) -> None:
    source = "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}{% endfor %}"
    render(source, processes)
    fastest = 1.0
    for _ in range(20):
        began = time.perf_counter()
        render(source, processes)
        fastest = min(fastest, time.perf_counter() - began)
    assert fastest < 0.02  # 0.00006 s on the machine this was written on


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("{% if tools %}{{ a.b['c'] }}{% endif %}", {"if", "tools", "a", "endif"}),
        ('{# tools #}tools{{ \'tools\' }}{{ "to\\"ols" }}{{ x.tools }}{{ x . tools }}', {"x"}),
        ("{{ '}}' + tools }}", {"tools"}),
        ("{{ 1tools }}{{ tools", {"tools"}),
        ("{# {{ tools }}", set()),
        ("{" * 100000, set()),
        ("{{" * 100000, set()),
        ("{{ '" * 50000, set()),
    ],
    ids=["names", "no names", "quoted end", "no end", "comment", "braces", "openings", "quotes"],
)
def test_names_are_those_that_stand_in_the_code(source: str, wanted: set[str]) -> None:
    began = time.process_time()
    assert names(source) == wanted
    assert time.process_time() - began < 1


WORD_LIST = """{{ }} {% %} {%- -%} {# #} for in if elif else endif endfor set endset macro endmacro call endcall filter
    endfilter break continue generation endgeneration recursive loop namespace messages tools m role content x y range 'a' "b" 1
    2.5 ** * + - ~ / // % ( ) [ ] { } , : . | tojson trim join length default first last list map select upper items is defined
    none not and or raise_exception strftime_now cycler lipsum dict joiner self \\ é = == < raw endraw include import do"""
WORDS = st.sampled_from(WORD_LIST.split())
SOURCES = st.one_of(
    st.text(max_size=40),
    st.lists(WORDS, max_size=25).map(" ".join),
    st.lists(st.lists(WORDS, max_size=6).map(lambda words: "{{ " + " ".join(words) + " }}"), max_size=6).map("".join),
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(source=SOURCES, conversation=CONVERSATIONS)
def test_any_template_gives_text_or_a_bad_request(
    source: str, conversation: Conversation, processes: RenderingProcesses
) -> None:
    try:
        assert isinstance(JinjaTemplate(source).render(conversation, processes=processes), str)
    except BadRequestError as exc:
        assert str(exc).startswith("chat template: ")  # noqa: PT017  the text of an error that need not come
