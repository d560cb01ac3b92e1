"""What a chat has gathered: the model, what was said, and how answers are asked for and shown. No input and no output here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from corral.cli.client import Client, Json
from corral.cli.run import RunOptions


@dataclass(slots=True)
class Session:
    """`messages` are those of this session; the server puts the model's own before them."""

    options: RunOptions
    card: Json
    system: str = ""
    messages: list[Json] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        return self.options.model

    @property
    def capabilities(self) -> list[str]:
        names: list[str] = self.card.get("capabilities") or []
        return names

    @property
    def opening(self) -> list[Json]:
        """The conversation that the model begins with."""
        messages: list[Json] = self.card.get("messages") or []
        return messages

    def question(self, message: Json) -> Json:
        """The request that asks for the next answer. The system message stands first, wherever in the chat it was set."""
        system: list[Json] = [{"role": "system", "content": self.system}] if self.system else []
        return self._body(messages=[*system, *self.messages, message])

    def load(self) -> Json:
        """The request that loads the model, and is refused where it cannot do what is asked for."""
        return self._body(stream=False)

    def trial(self, **settings: Any) -> Json:
        """A request that is refused where the server cannot answer with these settings, and makes no answer else."""
        message = {"role": "user", "content": "x"}
        bounded = {"options": {"num_predict": 1}}  # for a server that does not know what follows
        return {"model": self.model, "stream": False, "messages": [message], **bounded, "_debug_render_only": True, **settings}

    def look(self, client: Client) -> Json:
        """The model's card as it is with this session's settings."""
        return client.call("POST", "/api/show", {"model": self.model, "system": self.system, "options": self.parameters})

    def saved_as(self, name: str) -> Json:
        """The request that makes a model of this session."""
        request: Json = {"model": name, "from": self.model, "stream": True}
        if self.system:
            request["system"] = self.system
        if self.parameters:
            request["parameters"] = self.parameters
        if messages := [*self.opening, *self.messages]:
            request["messages"] = messages
        return request

    def _body(self, **more: Any) -> Json:
        options: Mapping[str, Any] = {"options": self.parameters} if self.parameters else {}
        return {**self.options.body(), **options, **more}

    def become(self, other: "Session") -> None:
        """Everything of the other session's takes the place of what was here."""
        self.options, self.card, self.system = other.options, other.card, other.system
        self.messages, self.parameters = other.messages, other.parameters
