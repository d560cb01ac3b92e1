"""Which template a model is rendered with."""

from corral.template.chat import ChatTemplate
from corral.template.formats import CHATML
from corral.template.gotmpl import compile_go
from corral.template.jinja import compile_jinja


def choose(go_template: str | None, jinja: str | None, *, bos_token: str, eos_token: str) -> ChatTemplate:
    """The Go template layer if the model has one, else its file's Jinja template, else ChatML. Compiled once.

    Raises BadRequestError where the one that is meant cannot be compiled.
    """
    if go_template is not None:
        return compile_go(go_template)
    if jinja is not None:
        return compile_jinja(jinja, bos_token=bos_token, eos_token=eos_token)
    return compile_go(CHATML)
