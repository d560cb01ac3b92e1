"""Grammars for families whose answers are rows of messages: which header a call has, and which one the answer.

Behind a thought a new message begins, with its header: the engine binds what follows the thought's last tag. Without one the
prompt has begun the first header already. So what the prompt ends with may come or not.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from corral.core.types import Grammar
from corral.parse.formats import MessageFormat, Route
from corral.parse.grammars.bodies import Bodies
from corral.parse.grammars.calls import PlainCalls
from corral.parse.grammars.lark import Lark, maybe, one_of, quoted, sequence
from corral.parse.grammars.refusals import UnenforceableError, shown
from corral.parse.grammars.toolset import Tool
from corral.parse.schema import Toolbox


class MessageCalls(ABC):
    """Calls of these tools in messages."""

    def __init__(
        self, form: MessageFormat, tools: Sequence[Tool], definitions: Sequence[Mapping[str, Any]], *, parallel: bool
    ) -> None:
        self.form = form
        self.tools = tools
        self.definitions = definitions
        self.parallel = parallel

    is_json = True

    def required(self) -> Grammar:
        lark = Lark()
        return lark.grammar(self.whole(lark), is_json=self.is_json)

    @abstractmethod
    def whole(self, lark: Lark) -> str:
        """Calls, from the answer's beginning to its end."""

    @abstractmethod
    def free(self) -> Iterator[Grammar]:
        """One grammar for each text that a call may begin with."""

    def check(self, tool: Tool, header: str) -> None:
        """Raises UnenforceableError where that header does not lead to the tool."""
        tool.check_bare()
        if self.form.route(header) != Route("call", tool.name):
            raise UnenforceableError(
                f"{tool.where}.name: {shown(tool.name)} cannot be written in this model's calls; use letters, digits, _ and -"
            )

    @staticmethod
    @abstractmethod
    def answer(text: str) -> str:
        """An answer with that text, given as a part of a grammar."""


class HarmonyCalls(MessageCalls):
    """gpt-oss. The recipient stands before the channel, as its template has it, or behind, as its models do.

    The tag after a call ends the answer: it has no text of its own for most of its models.
    """

    START: Final = quoted("<|start|>assistant")

    def whole(self, lark: Lark) -> str:
        end = quoted("<|call|>")
        behind = lark.rule(one_of([self._behind(lark, tool) for tool in self.tools]))
        before = lark.rule(one_of([self._before(lark, tool) for tool in self.tools]))
        call = lark.rule(
            one_of(
                [
                    sequence((quoted("<|channel|>commentary to=functions."), behind)),
                    sequence((quoted(" to=functions."), before)),
                ]
            )
        )
        more = f"({sequence((end, self.START, call))})*" if self.parallel else ""
        return sequence((maybe(self.START), call, more, maybe(end)))

    def free(self) -> Iterator[Grammar]:
        behind, before = Lark(), Lark()
        after_channel = behind.rule(one_of([self._behind(behind, tool) for tool in self.tools]))
        after_start = before.rule(one_of([self._before(before, tool) for tool in self.tools]))
        for channel in ("commentary", "analysis"):
            yield behind.grammar(after_channel, after=f"<|channel|>{channel} to=functions.", is_json=True)
        yield before.grammar(after_start, after="<|start|>assistant to=functions.", is_json=True)
        yield before.grammar(after_start, after="to=functions.", at_start=True, is_json=True)

    @staticmethod
    def answer(text: str) -> str:
        return sequence((maybe(HarmonyCalls.START), quoted("<|channel|>final<|message|>"), text))

    def _behind(self, lark: Lark, tool: Tool) -> str:
        self.check(tool, f"assistant to=functions.{tool.name}")
        arguments = Bodies(lark, self.form.calls.body, Toolbox(())).json_arguments(tool)
        return lark.rule(sequence((quoted(tool.name), maybe(quoted(" <|constrain|>json")), quoted("<|message|>"), arguments)))

    def _before(self, lark: Lark, tool: Tool) -> str:
        self.check(tool, f"assistant to=functions.{tool.name}")
        arguments = Bodies(lark, self.form.calls.body, Toolbox(())).json_arguments(tool)
        return lark.rule(sequence((quoted(tool.name + "<|channel|>commentary json<|message|>"), arguments)))


_TO: Final = one_of([quoted("<|start|>assistant to="), quoted(" to="), quoted("to=")])  # the prompt may end with the space


class AtemCalls(MessageCalls):
    """Muse: the header says which tool it is for, and the text has the call in tags."""

    START: Final = quoted("<|start|>assistant")
    is_json = False

    def whole(self, lark: Lark) -> str:
        message = lark.rule(one_of([self._message(lark, tool) for tool in self.tools]))
        between = sequence((one_of([quoted(end) for end in self.form.ends]), self.START, quoted(" to="), message))
        more = f"({between})*" if self.parallel else ""
        return sequence((_TO, message, more, maybe(one_of([quoted(end) for end in self.form.ends]))))

    def free(self) -> Iterator[Grammar]:
        """The tags say enough. Which tool the header names is not looked at when the call is read."""
        calls = PlainCalls(self.form.calls, self.tools, self.definitions, parallel=self.parallel)
        yield next(iter(calls.free()))

    @staticmethod
    def answer(text: str) -> str:
        return sequence((_TO, quoted("user<|message|>"), text))

    def _message(self, lark: Lark, tool: Tool) -> str:
        self.check(tool, f"assistant to={tool.name}")
        call = PlainCalls(self.form.calls, [tool], self.definitions, parallel=False).whole(lark)
        return lark.rule(sequence((quoted(tool.name + "<|message|>"), call)))


class FunctionaryCalls(MessageCalls):
    """Functionary 3.2: a recipient, a newline, and the arguments. The prompt has begun the first message."""

    def whole(self, lark: Lark) -> str:
        call = lark.rule(one_of([sequence((quoted(tool.name + "\n"), self._arguments(lark, tool))) for tool in self.tools]))
        more = f"({sequence((quoted('>>>'), call))})*" if self.parallel else ""
        return sequence((maybe(quoted(">>>")), call, more))

    def free(self) -> Iterator[Grammar]:
        for tool in self.tools:
            lark = Lark()
            arguments = self._arguments(lark, tool)
            yield lark.grammar(arguments, after=f">>>{tool.name}\n", is_json=True)
            yield lark.grammar(arguments, after=f"{tool.name}\n", at_start=True, is_json=True)

    @staticmethod
    def answer(text: str) -> str:
        return sequence((maybe(quoted(">>>")), quoted("all\n"), text))

    def _arguments(self, lark: Lark, tool: Tool) -> str:
        self.check(tool, tool.name)
        return Bodies(lark, self.form.calls.body, Toolbox(())).json_arguments(tool)


FAMILIES: Final[Mapping[str, type[MessageCalls]]] = {
    "harmony": HarmonyCalls,
    "atem": AtemCalls,
    "functionary-3.2": FunctionaryCalls,
}
