"""Prints which templates' calls and thoughts are read back: `python -m tests.support.answer_table FOLDER`."""

import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from corral.parse import AnswerFormat, MessageFormat, Render, learn
from corral.template import compile_jinja
from tests.support.answers import (
    CASES,
    CONTENT,
    QUESTION,
    THOUGHT,
    TOOLS,
    Said,
    calling,
    calls_of,
    content_of,
    cuts,
    parsed,
    render_of,
    said_by_template,
    thought_of,
    written,
)


def main(folder: Path) -> int:
    """How many did not pass."""
    failed = 0
    sys.stdout.write(f"| template | learned | calls ({', '.join(CASES)}) | thought and answer |\n| --- | --- | --- | --- |\n")
    for path in sorted(folder.iterdir()):
        source = path.read_text()
        template = compile_jinja(source, bos_token="<s>", eos_token="</s>")
        render = render_of(template)
        form = learn(render, source)
        calls = _result(partial(_calls, render, form, case) for case in CASES)
        thought = _result([partial(_thought, render, form)])
        failed += "fails" in calls + thought
        sys.stdout.write(f"| {path.stem} | {form.family} | {calls} | {thought} |\n")
    return failed


def _result(checks: Iterable[Callable[[], str]]) -> str:
    try:
        return ", ".join(dict.fromkeys(check() for check in checks))
    except AssertionError:
        return "fails"


def _calls(render: Render, form: AnswerFormat, case: str) -> str:
    said = said_by_template(render, calling(CASES[case]))
    if said is None and isinstance(form, MessageFormat):
        return f"{case}: not rendered"
    how = "passes" if said else "passes, not rendered" if form.family != "probed" else f"passes, {case} not rendered"
    said = said or Said("", written(form.calls, CASES[case]))
    for chunks in cuts(said.text).values():
        events = parsed(form, said, chunks)
        assert calls_of(events) == list(CASES[case])
        assert not content_of(events)
    return how


def _thought(render: Render, form: AnswerFormat) -> str:
    if form.thought is None:
        return "does not think"
    if isinstance(form, MessageFormat):
        return "passes, in tests of its own"
    for think in (None, True, False):
        prompt = render((QUESTION,), TOOLS, think=think)
        opening = "" if prompt.rstrip().endswith(form.thought.open.strip()) else form.thought.open
        answer = form.around_content.open + CONTENT + form.around_content.close
        said = Said(prompt, opening + THOUGHT + form.thought.close + answer)
        for chunks in cuts(said.text).values():
            events = parsed(form, said, chunks)
            assert thought_of(events).rstrip() == THOUGHT
            assert content_of(events).rstrip() == CONTENT
    return "passes"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
