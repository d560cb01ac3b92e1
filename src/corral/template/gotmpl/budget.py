"""What one rendering may cost. Every node that is run, every text that is looked through or made, is paid for.

This is what makes a template from the internet harmless: there is no way to loop, recurse or grow a text that costs nothing.
"""

from typing import Any, Final

from corral.core.errors import BadRequestError

MAX_DEPTH: Final = 100  # templates that call each other
_CHARS_PER_STEP: Final = 256  # how much text can be looked through while one node is run
_WORKED_CHARS_PER_STEP: Final = 8  # how much can be rewritten


class TemplateTooCostlyError(BadRequestError):
    """A rendering took more steps, or made more text, than it was allowed."""

    code = "template_too_costly"


class Budget:
    """Counts down. `steps` and `chars` are read and written by the nodes themselves, which is what keeps them quick."""

    __slots__ = ("chars", "depth", "given_chars", "given_steps", "steps")

    def __init__(self, *, steps: int, chars: int) -> None:
        self.steps = self.given_steps = steps
        self.chars = self.given_chars = chars
        self.depth = 0

    def looked_at(self, value: Any) -> None:
        """Pays for a function that goes through this value."""
        if isinstance(value, str | list | dict):
            self.steps -= len(value) // _CHARS_PER_STEP
            if self.steps < 0:
                self.spent()

    def worked_through(self, text: str) -> None:
        """Pays for a function that takes each of its characters in hand."""
        self.steps -= len(text) // _WORKED_CHARS_PER_STEP
        if self.steps < 0:
            self.spent()

    def made(self, text: str) -> str:
        """Pays for a new text, and gives it back."""
        self.chars -= len(text)
        if self.chars < 0:
            self.spent()
        return text

    def spent(self) -> None:
        """Raises TemplateTooCostlyError."""
        what = (
            f"takes more than {self.given_steps} steps" if self.steps < 0 else f"makes more than {self.given_chars} characters"
        )
        raise TemplateTooCostlyError(f"template: rendering {what}; it may loop without end")
