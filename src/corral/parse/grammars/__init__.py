"""Grammars that answers are held to: made from formats, tools and JSON schemas, for the engine to compile. Pure.

A schema is first taken apart into shapes (compiling, merging, plain, finishing): there all keywords are checked and carried
out, and what cannot be enforced is refused by its name and place. Shapes are then written as JSON (json_form), between tags
(tagged), or as other literals (literals), inside of what a model's family puts around its calls (bodies, calls, messages).
"""

from corral.parse.grammars.answers import answer_grammar, call_grammars, call_or_answer_grammar
from corral.parse.grammars.compiling import check_schema
from corral.parse.grammars.refusals import UnenforceableError

__all__ = ["UnenforceableError", "answer_grammar", "call_grammars", "call_or_answer_grammar", "check_schema"]
