"""Conversations to render: those that the recorded renderings were made of, and any at all, for property tests."""

from typing import Final

from hypothesis import strategies as st

from corral.core.types import Message, ToolCall
from corral.template import Conversation

_SYSTEM: Final = Message(role="system", content="You are a helpful assistant.")
_HELLO: Final = Message(role="user", content="Hello, how are you?")
_ANSWER: Final = Message(role="assistant", content="I'm doing great. How can I help you today?")
_AGAIN: Final = Message(role="user", content="I'd like to show off how chat templating works!")
RECORDED: Final = {
    "user": (_HELLO,),
    "user-assistant-user": (_HELLO, _ANSWER, _AGAIN),
    "system-user-assistant-user": (_SYSTEM, _HELLO, _ANSWER, _AGAIN),
}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.text(max_size=6), JSON, max_size=4)
MESSAGES = st.builds(
    Message,
    role=st.sampled_from(("system", "user", "assistant", "tool", "x")),
    content=st.text(max_size=20),
    thinking=st.text(max_size=5),
    images=st.lists(st.binary(max_size=3), max_size=2).map(tuple),
    tool_calls=st.lists(st.builds(ToolCall, name=st.text(max_size=5), arguments=OBJECTS), max_size=2).map(tuple),
)
CONVERSATIONS = st.builds(
    Conversation,
    messages=st.lists(MESSAGES, max_size=4).map(tuple),
    tools=st.lists(OBJECTS | st.builds(lambda inner: {"type": "function", "function": inner}, JSON), max_size=2).map(tuple),
    think=st.sampled_from((None, True, False, "high")),
    suffix=st.sampled_from(("", "after")),
)
