"""OpenAI's newer API, /v1/responses: `convert`, `items` and `tools` read, `create` answers with what `output` and `reply` make,
`held` keeps responses for a while, `kept` gives them again.
"""

from corral.api.openai.responses.create import responses
from corral.api.openai.responses.held import HeldResponses
from corral.api.openai.responses.kept import deleted, retrieved

__all__ = ["HeldResponses", "deleted", "responses", "retrieved"]
